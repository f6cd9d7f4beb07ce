"""Granular pruning: a configuration that was too big rules out those at least as large in both layers and channels."""

from __future__ import annotations

from compass.records import Allocator, Knobs, Variant


class Pruned:
    """What was ruled out, and by which failure."""

    def __init__(self) -> None:
        self._too_big: list[tuple[Knobs, Allocator, str]] = []
        self._broken: dict[Knobs | Variant, str] = {}

    def rule_out(self, knobs: Knobs, allocator: Allocator, reason: str) -> None:
        """Remember that `knobs` were too big at the smallest batch under `allocator`, and so is whatever is larger."""
        self._too_big.append((knobs, allocator, reason))

    def set_aside(self, broken: Knobs | Variant, reason: str) -> None:
        """Remember that `broken` does not run for a reason that says nothing about size, and so nothing of others."""
        self._broken[broken] = reason

    def reason(self, knobs: Knobs, allocator: Allocator) -> str | None:
        """Why `knobs` cannot work, or None. Variants are not compared: checkpointing trades one cost for another."""
        return self.broken(knobs) or next(
            (
                reason
                for failed, under, reason in self._too_big
                if under == allocator and failed.variant == knobs.variant and knobs.covers(failed)
            ),
            None,
        )

    def broken(self, knobs: Knobs) -> str | None:
        """Why `knobs` do not run, at whatever size; None if they might."""
        return self._broken.get(knobs) or self._broken.get(knobs.variant)
