"""Production: quality is the goal. The largest model that data and hardware allow, then the fastest way to train it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compass.records import Choice, Stage
from compass.records.nouns import of_data
from compass.search.knowledge import Knowledge
from compass.stages.options import first_options_first
from compass.stages.policy import (
    EVERY_MODEL,
    NearMiss,
    Ranking,
    fastest_pick,
    limit_on_batch,
    models_of,
    nothing_fits,
    smaller_pick,
    with_enough_graphs,
)
from compass.units import format_bytes, format_count

MODEL_LIMITS = {
    "data": "the {cap} parameters that {size} {samples} can feed",
    "memory": "the memory, with a batch worth training",
    "space": "the largest model of the space",
}
BATCH_LIMITS = {
    "data": "the largest batch that the training set allows",
    "memory": "the largest batch whose worst case stays under {budget}",
    "space": "the largest batch that the configuration allows",
    "speed": "a larger batch would not be faster",
}


@dataclass(frozen=True)
class Production:
    """The largest model, then the fastest way to train it, with the largest of the batches that are level with the fastest."""

    stage: Stage = "production"
    timed: bool = False
    certified: bool = True
    explained: bool = True

    def rank(self, known: Knowledge) -> Ranking | None:
        """Models within the reference share of the largest capacity, fastest first; then the rest, largest first."""
        rules = known.config.stages.production
        level_share = known.config.probe.settle_share  # a certificate tells no smaller difference
        found = [known.best_choice(knobs, rules, level_share) for knobs in models_of(self, known)]
        choices = with_enough_graphs([choice for choice in found if choice is not None], known.config.batch.min_batch)
        if not choices:
            return None
        largest = max(choice.capacity for choice in choices)
        least = largest * (1 - known.config.space.reference_share)
        level = [c for c in choices if c.capacity >= least]
        level.sort(key=lambda choice: (-choice.throughput, choice.footprint_bound_bytes))
        rest = [c for c in choices if c.capacity < least]
        rest.sort(key=lambda choice: (-choice.capacity, -choice.throughput))
        return Ranking(first_options_first(known, (*level, *rest)), fastest_pick(choices))

    def limited_by(self, known: Knowledge, pick: Choice) -> str:
        """The limit on the model: larger ones do not fit the memory, need more data, or are not in the space.

        A fixed model is as large as it is; then the limit on its batch counts.

        The pick may be smaller than the largest model, by the reference share. The limit on the largest counts.
        """
        rules, batch = known.config.stages.production, known.config.batch
        if known.has_one_model:
            return limit_on_batch(known, rules, pick) or "score"
        n_enough = min(pick.batch_size, batch.min_batch)
        fitting = [
            known.capacities[knobs]
            for knobs in known.candidates(rules, pick.capacity, math.inf)
            if known.largest_batch(knobs, rules) >= n_enough
        ]
        largest = max(fitting, default=pick.capacity)
        beyond = [
            known.capacities[knobs]
            for knobs in known.models(rules, largest + 1, math.inf)
            if known.pruned.broken(knobs) is None
        ]
        if not beyond:
            return "space"
        return "data" if min(beyond) > known.data_cap else "memory"

    def why(self, known: Knowledge, ranking: Ranking) -> str:
        """The limit on the model, then the limit on its batch."""
        pick = ranking.pick
        batch = BATCH_LIMITS[limit_on_batch(known, known.config.stages.production, pick) or "speed"].format(
            budget=format_bytes(known.budget_bytes)
        )
        if known.has_one_model:
            return f"{format_count(pick.capacity)} parameters; the fastest way to train it: {batch}"
        model = MODEL_LIMITS[self.limited_by(known, pick)].format(
            cap=format_count(known.data_cap), size=format_count(known.dataset_size), samples=of_data(known.noun)
        )
        limits = f"limited by {model}; then the fastest way to train it: {batch}"
        reason = f"{format_count(pick.capacity)} parameters{_of_cap(pick, known.data_cap)}, {limits}"
        smaller = smaller_pick(pick, ranking.choices, known.config.score.tie_share)
        if smaller is None:
            return reason
        return (
            f"{reason}; a model with {1 - smaller.capacity / pick.capacity:.0%} fewer parameters would train "
            f"{smaller.throughput / pick.throughput:.2f} times as fast"
        )

    def nearest(self, known: Knowledge) -> NearMiss:
        """The limit when nothing fits."""
        return nothing_fits(known, known.config.stages.production, *EVERY_MODEL)


def _of_cap(pick: Choice, data_cap: float) -> str:
    return "" if math.isinf(data_cap) else f", {pick.capacity / data_cap:.0%} of the data cap"
