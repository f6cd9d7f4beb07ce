"""Granular pruning: a configuration that was too big rules out those at least as large in both layers and channels."""

from __future__ import annotations

from compass.records import Allocator, Knobs, Variant


class Pruned:
    """The models that were ruled out, and the failure behind each."""

    def __init__(self) -> None:
        self._too_big: list[tuple[Knobs, Allocator, str]] = []
        self._broken: dict[Knobs | Variant, str] = {}
        self._distrusted: dict[Allocator, str] = {}
        self._invalid: dict[Knobs, str] = {}
        self._ran: set[Knobs] = set()

    @property
    def n_facts(self) -> int:
        """How much was remembered so far; it grows with everything that may rule out another model."""
        return len(self._too_big) + len(self._broken) + len(self._distrusted) + len(self._invalid) + len(self._ran)

    def rule_out(self, knobs: Knobs, allocator: Allocator, reason: str) -> None:
        """Remember that `knobs` were too big at the smallest batch under `allocator`; every larger model then is, too."""
        self._too_big.append((knobs, allocator, reason))

    def set_aside(self, broken: Knobs | Variant, reason: str) -> None:
        """Remember that `broken` does not run, for a reason that does not depend on size and says nothing of other models."""
        self._broken[broken] = reason

    def distrust(self, allocator: Allocator, reason: str) -> None:
        """Remember that a model which may well run failed under `allocator`: perhaps because of it."""
        self._distrusted[allocator] = reason

    def observe(self, knobs: Knobs, invalid: str | None) -> None:
        """Remember that `knobs` ran (None), or the reason why no batch of theirs can: a kernel may be invalid above some size."""
        if invalid is None:
            self._ran.add(knobs)
        else:
            self._invalid[knobs] = invalid

    def reason(self, knobs: Knobs, allocator: Allocator) -> str | None:
        """The reason why `knobs` cannot work, or None. A variant rules out no other: activation checkpointing trades time for memory."""
        return (
            self.broken(knobs)
            or self._distrusted.get(allocator)
            or next(
                (
                    reason
                    for failed, under, reason in self._too_big
                    if under == allocator and failed.variant == knobs.variant and knobs.covers(failed)
                ),
                None,
            )
        )

    def broken(self, knobs: Knobs) -> str | None:
        """The reason why `knobs` do not run at any batch size; None if they might."""
        return self._broken.get(knobs) or self._broken.get(knobs.variant) or self._beyond_what_runs(knobs)

    def _beyond_what_runs(self, knobs: Knobs) -> str | None:
        """The reason of an invalid model that `knobs` are at least as large as, if size is what decides; None if there is none.

        It decides where a model no larger than the invalid one ran, and none that is at least as large: where the smallest of all
        fails, something else is wrong with it, and the others are tried. Invalid models may have their width or their depth alone in
        common: where two of them differ in the other, and only one of both explains all that ran, all as wide, or as deep, are.
        """
        ran = [model for model in self._ran if model.variant == knobs.variant]
        invalid = {
            model: reason
            for model, reason in self._invalid.items()
            if model.variant == knobs.variant
            and any(model.covers(smaller) for smaller in ran)
            and not any(larger.covers(model) for larger in ran)
        }
        for model, reason in invalid.items():
            if knobs.covers(model):
                return reason
        if len({model.layers for model in invalid}) < 2 or len({model.channels for model in invalid}) < 2:
            return None
        width, depth = min(model.channels for model in invalid), min(model.layers for model in invalid)
        by_width = all(model.channels < width for model in ran)
        by_depth = all(model.layers < depth for model in ran)
        if by_width == by_depth:
            return None
        is_beyond = knobs.channels >= width if by_width else knobs.layers >= depth
        return next(iter(invalid.values())) if is_beyond else None
