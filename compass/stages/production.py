"""Production: quality is the goal. The largest model that data and hardware allow, then its largest batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compass.records import Choice, Stage
from compass.search.knowledge import Knowledge
from compass.stages.policy import Ranking, literal_pick, nothing_fits
from compass.units import format_bytes, format_count


@dataclass(frozen=True)
class Production:
    """Two stages: the model, then its batch."""

    stage: Stage = "production"

    def rank(self, known: Knowledge) -> Ranking | None:
        """Models within the reference share of the largest capacity, fastest first; then the rest, largest first."""
        rules = known.config.stages.production
        choices = []
        for knobs in known.candidates(rules, 0, math.inf):
            batch_size = known.largest_batch(knobs, rules)
            if batch_size:
                choices.append(known.choice(knobs, rules, batch_size))
        enough = [choice for choice in choices if choice.batch_size >= known.config.batch.min_batch]
        choices = enough or choices
        if not choices:
            return None
        largest = max(choice.capacity for choice in choices)
        level = [c for c in choices if c.capacity >= largest * (1 - known.config.space.reference_share)]
        level.sort(key=lambda choice: (-choice.throughput, choice.footprint_bytes))
        rest = [choice for choice in choices if choice not in level]
        rest.sort(key=lambda choice: (-choice.capacity, -choice.throughput))
        return Ranking((*level, *rest), literal_pick(choices))

    def binds(self, known: Knowledge, pick: Choice) -> str:
        """What the model cannot outgrow: larger ones do not fit, would want more data, or do not exist."""
        larger = [capacity for capacity in known.capacities.values() if capacity > pick.capacity]
        if not larger:
            return "space"
        return "data" if min(larger) > known.data_cap else "memory"

    def why(self, known: Knowledge, ranking: Ranking) -> str:
        """The cap and the batch."""
        pick = ranking.pick
        limit = {
            "data": f"the {format_count(known.data_cap)} parameters that {format_count(known.dataset_size)} complexes feed",
            "memory": "what fits in memory with a batch worth training",
            "space": "the largest model of the space",
        }[self.binds(known, pick)]
        return (
            f"{format_count(pick.capacity)} parameters, {pick.capacity / known.data_cap:.0%} of the data cap, limited by "
            f"{limit}; then the largest batch whose worst case is sure to stay under "
            f"{format_bytes(known.budget_bytes)}"
        )

    def nearest(self, known: Knowledge) -> tuple[str, str, Choice | None]:
        """What binds when nothing fits."""
        return nothing_fits(known, known.config.stages.production, 0, math.inf)
