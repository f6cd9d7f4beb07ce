"""What prototyping and validation have in common: a score, a window of time, and a share of the reference."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compass.optimizer_config import StageRules
from compass.records import Choice, Knobs, Stage
from compass.search.knowledge import Knowledge
from compass.stages.policy import Ranking, by_score, fastest_pick, is_late, limit_on_batch, nothing_fits
from compass.units import format_count, format_seconds

BINDING = {
    "time": "one graph more would cost it worth on the clock",
    "memory": "time does not bind, memory limits its batch",
    "data": "time does not bind, the training set limits its batch",
    "space": "time does not bind, the configured maximum limits its batch",
    "score": "neither time nor memory binds, a larger batch would be no faster",
}


@dataclass(frozen=True)
class TimedStage:
    """The lowest score among the admissible models of a share of the reference's capacity."""

    stage: Stage
    scored: bool = True

    def share(self, known: Knowledge) -> tuple[float, float]:
        """The space, as shares of the reference's capacity."""
        return known.config.space.share(self.stage) or (0.0, math.inf)

    def prefer(self, choice: Choice) -> float:
        """What decides between choices whose scores are level; more is better."""
        raise NotImplementedError

    def rules(self, known: Knowledge) -> StageRules:
        """The stage's part of the configuration."""
        return known.config.stages[self.stage]

    def span(self, known: Knowledge) -> tuple[float, float]:
        """The space in parameters; empty before there is a reference."""
        if known.reference is None:
            return math.inf, 0.0
        low, high = self.share(known)
        return low * known.reference.capacity, high * known.reference.capacity

    def models(self, known: Knowledge) -> list[Knobs]:
        """What the stage chooses from: its share of the space, as far as data feed it and nothing has ruled it out."""
        return known.candidates(self.rules(known), *self.span(known))

    def rank(self, known: Knowledge) -> Ranking | None:
        """Every model with its best batch, by score."""
        rules = self.rules(known)
        found = [known.best_choice(knobs, rules) for knobs in self.models(known)]
        choices = [choice for choice in found if choice is not None]
        enough = [choice for choice in choices if choice.batch_size >= known.config.batch.min_batch]
        choices = enough or choices
        if not choices:
            return None
        ranked = by_score(choices, known.config.score.tie_share, self.prefer)
        return Ranking(tuple(ranked), fastest_pick(choices))

    def limited_by(self, known: Knowledge, pick: Choice) -> str:
        """The clock first: where it binds, the batch stops before memory does."""
        rules = self.rules(known)
        if is_late(known, rules, pick):
            return "time"
        return limit_on_batch(known, rules, pick) or "score"

    def why(self, known: Knowledge, ranking: Ranking) -> str:
        """The score, against what."""
        pick, rules = ranking.pick, self.rules(known)
        share = pick.capacity / _reference(known).capacity
        target = "" if rules.target_s is None else f" for a target of {format_seconds(rules.target_s)}"
        return (
            f"best score {pick.score or 0:.3f} of {len(ranking.choices)} models: {format_count(pick.capacity)} parameters "
            f"({share:.0%} of production's) at {pick.throughput:.1f} graphs/s, a cycle of {format_seconds(pick.cycle_s)}"
            f"{target}; {BINDING[self.limited_by(known, pick)]}"
        )

    def nearest(self, known: Knowledge) -> tuple[str, str, Choice | None]:
        """What binds when nothing is admissible."""
        if known.reference is None:
            return nothing_fits(known, known.config.stages.production, 0, math.inf)
        return nothing_fits(known, self.rules(known), *self.span(known))


def _reference(known: Knowledge) -> Choice:
    if known.reference is None:
        raise ValueError("production sets the reference before any timed stage is ranked")
    return known.reference
