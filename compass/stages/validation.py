"""Validation: a balance. Large enough to check the findings of a prototype, fast enough to run every day."""

from __future__ import annotations

from compass.records import Choice, StagePlan
from compass.stages.timed import TimedStage


class Validation(TimedStage):
    """Large models; between level scores, the larger capacity decides."""

    def __init__(self) -> None:
        super().__init__("validation")

    def prefer(self, choice: Choice) -> float:
        """Prefer the larger capacity, in parameters."""
        return choice.capacity


def follows(validation: StagePlan, prototyping: StagePlan | None) -> str:
    """The prototyping plan whose findings `validation` checks, and how many times larger it is; empty without one."""
    if prototyping is None:
        return ""
    times = validation.choice.capacity / prototyping.choice.capacity
    prototype = f"{prototyping.choice.knobs}, batch {prototyping.choice.batch_size}"
    return f"the prototyping plan ({prototype}), with {times:.1f} times its parameters"
