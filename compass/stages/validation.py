"""Validation: balance. Large enough that a prototype's findings are checked, fast enough to be run every day."""

from __future__ import annotations

from compass.records import Choice, StagePlan
from compass.stages.timed import TimedStage


class Validation(TimedStage):
    """The large space; level scores go to capacity."""

    def __init__(self) -> None:
        super().__init__("validation")

    def prefer(self, choice: Choice) -> float:
        """Capacity."""
        return choice.capacity


def follows(validation: StagePlan, prototyping: StagePlan | None) -> str:
    """The prototyping plan whose findings `validation` checks, and how much larger it is; empty if there is none."""
    if prototyping is None:
        return ""
    times = validation.choice.capacity / prototyping.choice.capacity
    return f"prototyping's {prototyping.choice.knobs}, batch {prototyping.choice.batch_size}: {times:.1f} times its parameters"
