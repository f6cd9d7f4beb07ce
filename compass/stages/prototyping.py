"""Prototyping: time decides. A miniature of the production model, at a high throughput within the target time."""

from __future__ import annotations

from compass.records import Choice
from compass.stages.timed import TimedStage


class Prototyping(TimedStage):
    """Miniatures of the reference; between level scores, the higher throughput decides."""

    def __init__(self) -> None:
        super().__init__("prototyping")

    def prefer(self, choice: Choice) -> float:
        """Prefer the higher throughput, in graphs per second."""
        return choice.throughput
