"""Smoke test: shows whether training runs at all, with the smallest model, one graph and a few steps."""

from __future__ import annotations

from dataclasses import dataclass

from compass.records import Choice, Stage
from compass.search.knowledge import Knowledge
from compass.stages.policy import EVERY_MODEL, NearMiss, Ranking, least_batch_words, models_of, nothing_fits


@dataclass(frozen=True)
class SmokeTest:
    """The smallest model with the least batch: one graph, or two for a layer that normalises over samples."""

    stage: Stage = "smoke_test"
    timed: bool = False
    certified: bool = False
    explained: bool = False

    def rank(self, known: Knowledge) -> Ranking | None:
        """The smallest model that fits, alone."""
        rules = known.config.stages.smoke_test
        models = sorted(models_of(self, known), key=lambda knobs: known.capacities[knobs])
        for knobs in models:
            for allocator in known.allocators_of(rules):
                if known.largest_batch(knobs, rules, allocator):
                    return Ranking((known.choice(knobs, rules, known.least_batch, allocator),), fastest=None)
        return None

    def limited_by(self, known: Knowledge, pick: Choice) -> str:
        """`nothing`: it is as small as it should be."""
        del known, pick
        return "nothing"

    def why(self, known: Knowledge, ranking: Ranking) -> str:
        """The purpose of the stage."""
        del ranking
        return f"the smallest model and {least_batch_words(known)} show that data, model and device work together"

    def nearest(self, known: Knowledge) -> NearMiss:
        """The limit when not even one graph of the smallest model fits."""
        return nothing_fits(known, known.config.stages.smoke_test, *EVERY_MODEL)
