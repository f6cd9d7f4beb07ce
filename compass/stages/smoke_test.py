"""Smoke test: does it run at all? The smallest model, one graph, a few steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compass.records import Choice, Stage
from compass.search.knowledge import Knowledge
from compass.stages.policy import Ranking, nothing_fits


@dataclass(frozen=True)
class SmokeTest:
    """The smallest model at batch 1."""

    stage: Stage = "smoke_test"
    scored: bool = False

    def span(self, known: Knowledge) -> tuple[float, float]:
        """All models."""
        del known
        return 0.0, math.inf

    def rank(self, known: Knowledge) -> Ranking | None:
        """Smallest first."""
        rules = known.config.stages.smoke_test
        candidates = sorted(known.candidates(rules, 0, math.inf), key=lambda knobs: known.capacities[knobs])
        fitting = [knobs for knobs in candidates if known.largest_batch(knobs, rules)]
        if not fitting:
            return None
        return Ranking((known.choice(fitting[0], rules, 1),), fastest=None)

    def limited_by(self, known: Knowledge, pick: Choice) -> str:
        """The policy itself."""
        del known, pick
        return "nothing"

    def why(self, known: Knowledge, ranking: Ranking) -> str:
        """What it shows."""
        del known, ranking
        return "the smallest model and one graph: shows that data, model and device work together"

    def nearest(self, known: Knowledge) -> tuple[str, str, Choice | None]:
        """What binds when not even this fits."""
        return nothing_fits(known, known.config.stages.smoke_test, 0, math.inf)
