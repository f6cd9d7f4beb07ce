"""The rules that prototyping and validation share: a score, a target time, and a share of the reference's capacity."""

from __future__ import annotations

from dataclasses import dataclass

from compass.optimizer_config import StageRules
from compass.records import Choice, Stage
from compass.records.nouns import of_batch, singular
from compass.search.knowledge import Knowledge
from compass.stages.options import first_options_first
from compass.stages.policy import (
    EVERY_MODEL,
    NearMiss,
    Ranking,
    by_score,
    capacity_span,
    fastest_pick,
    is_late,
    limit_on_batch,
    models_of,
    nothing_fits,
    with_enough_graphs,
)
from compass.units import format_count, format_seconds

LIMITS = {
    "time": "limited by time: with one more {sample}, the cycle would exceed its target",
    "memory": "limited by memory, not by time",
    "data": "limited by the size of the training set, not by time",
    "space": "limited by the configured maximum batch, not by time",
    "score": "none of time, memory or data limits it; a larger batch would not be faster",
}


@dataclass(frozen=True)
class TimedStage:
    """The model with the lowest score, among those of a share of the reference's capacity."""

    stage: Stage
    timed: bool = True
    certified: bool = True
    explained: bool = True

    def prefer(self, choice: Choice) -> float:
        """The figure that decides between choices with level scores; more is better."""
        raise NotImplementedError

    def rules(self, known: Knowledge) -> StageRules:
        """The stage's part of the configuration."""
        return known.config.stages[self.stage]

    def rank(self, known: Knowledge) -> Ranking | None:
        """Every model with its best batch, by score."""
        found = [known.best_choice(knobs, self.rules(known)) for knobs in models_of(self, known)]
        choices = with_enough_graphs([choice for choice in found if choice is not None], known.config.batch.min_batch)
        if not choices:
            return None
        ranked = by_score(choices, known.config.score.tie_share, self.prefer)
        return Ranking(first_options_first(known, ranked), fastest_pick(choices))

    def limited_by(self, known: Knowledge, pick: Choice) -> str:
        """`time` first: where it limits the batch, the memory is not full."""
        rules = self.rules(known)
        if is_late(known, rules, pick):
            return "time"
        return limit_on_batch(known, rules, pick) or "score"

    def why(self, known: Knowledge, ranking: Ranking) -> str:
        """The score, the figures behind it, and the limit."""
        pick, rules = ranking.pick, self.rules(known)
        share = pick.capacity / _reference(known).capacity
        target = "" if rules.target_s is None else f" (target {format_seconds(rules.target_s)})"
        members = of_batch(known.noun)
        limit = LIMITS[self.limited_by(known, pick)].format(sample=singular(members))
        return (
            f"best score, {pick.score or 0:.3f}, of {len(ranking.choices)} models: {format_count(pick.capacity)} parameters "
            f"({share:.0%} of the production model's), {pick.throughput:.1f} {members}/s, "
            f"a cycle of {format_seconds(pick.cycle_s)}{target}; {limit}"
        )

    def nearest(self, known: Knowledge) -> NearMiss:
        """The limit when nothing is admissible; the production stage's if that found no reference."""
        if known.reference is None:
            return nothing_fits(known, known.config.stages.production, *EVERY_MODEL)
        return nothing_fits(known, self.rules(known), *capacity_span(self, known))


def _reference(known: Knowledge) -> Choice:
    if known.reference is None:
        raise ValueError("the production stage sets the reference before any timed stage is ranked")
    return known.reference
