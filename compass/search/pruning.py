"""Granular pruning: a configuration that failed rules out those at least as large in both layers and channels."""

from __future__ import annotations

from compass.records import Knobs


class Pruned:
    """What was ruled out, and by which failure."""

    def __init__(self) -> None:
        self._failures: list[tuple[Knobs, str]] = []

    def rule_out(self, knobs: Knobs, reason: str) -> None:
        """Remember that `knobs` was too big or too slow at the smallest batch."""
        self._failures.append((knobs, reason))

    def reason(self, knobs: Knobs) -> str | None:
        """Why `knobs` cannot work, or None. Variants are not compared: checkpointing trades one cost for another."""
        return next(
            (reason for failed, reason in self._failures if failed.variant == knobs.variant and knobs.covers(failed)),
            None,
        )
