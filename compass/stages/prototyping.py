"""Prototyping: time is the ruler. A miniature of production, at the highest throughput the clock allows."""

from __future__ import annotations

from compass.records import Choice
from compass.stages.timed import TimedStage


class Prototyping(TimedStage):
    """The small space; level scores go to throughput."""

    def __init__(self) -> None:
        super().__init__("prototyping")

    def prefer(self, choice: Choice) -> float:
        """Throughput."""
        return choice.throughput
