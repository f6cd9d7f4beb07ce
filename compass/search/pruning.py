"""Granular pruning: a configuration that was too big rules out those at least as large in both layers and channels."""

from __future__ import annotations

from compass.records import Allocator, Knobs, Variant


class Pruned:
    """The models that were ruled out, and the failure behind each."""

    def __init__(self) -> None:
        self._too_big: list[tuple[Knobs, Allocator, str]] = []
        self._broken: dict[Knobs | Variant, str] = {}
        self._distrusted: dict[Allocator, str] = {}

    def rule_out(self, knobs: Knobs, allocator: Allocator, reason: str) -> None:
        """Remember that `knobs` were too big at the smallest batch under `allocator`; every larger model then is, too."""
        self._too_big.append((knobs, allocator, reason))

    def set_aside(self, broken: Knobs | Variant, reason: str) -> None:
        """Remember that `broken` does not run, for a reason that does not depend on size and says nothing of other models."""
        self._broken[broken] = reason

    def distrust(self, allocator: Allocator, reason: str) -> None:
        """Remember that a model which may well run failed under `allocator`: perhaps because of it."""
        self._distrusted[allocator] = reason

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
        return self._broken.get(knobs) or self._broken.get(knobs.variant)
