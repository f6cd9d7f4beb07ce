"""What a stage decides, and what the stages share in deciding it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from compass.optimizer_config import StageRules
from compass.records import Choice, Stage
from compass.search.knowledge import Knowledge
from compass.search.score import worth
from compass.units import format_bytes, format_count, format_seconds


@dataclass(frozen=True)
class Ranking:
    """A stage's admissible choices, best first."""

    choices: tuple[Choice, ...]
    fastest: Choice | None
    """The pick at q = 0: the highest throughput, with the largest batch."""

    @property
    def pick(self) -> Choice:
        """The best choice."""
        return self.choices[0]


class Policy(Protocol):
    """One stage's logic."""

    @property
    def stage(self) -> Stage:
        """Which stage this is."""
        ...

    @property
    def scored(self) -> bool:
        """Whether the score decides, so that a measured step time can change the pick."""
        ...

    def span(self, known: Knowledge) -> tuple[float, float]:
        """The capacities it chooses from, least and most parameters."""
        ...

    def rank(self, known: Knowledge) -> Ranking | None:
        """The admissible choices, best first; None if there are none."""
        ...

    def limited_by(self, known: Knowledge, pick: Choice) -> str:
        """What keeps `pick` from being larger or faster: `memory`, `time`, `data`, `space` or `score`."""
        ...

    def why(self, known: Knowledge, ranking: Ranking) -> str:
        """One sentence for a person."""
        ...

    def nearest(self, known: Knowledge) -> tuple[str, str, Choice | None]:
        """When nothing was admissible: what binds, the reason in words, and what came nearest."""
        ...


def by_score(choices: Sequence[Choice], tie_share: float, prefer: Callable[[Choice], float]) -> list[Choice]:
    """Best score first; those within `tie_share` of the best by preference, then by the smaller memory."""
    best = min(_score(choice) for choice in choices)
    level = [choice for choice in choices if _score(choice) <= best * (1 + tie_share)]
    behind = [choice for choice in choices if _score(choice) > best * (1 + tie_share)]
    level.sort(key=lambda choice: (-prefer(choice), choice.footprint_bound_bytes, _score(choice)))
    behind.sort(key=lambda choice: (_score(choice), choice.footprint_bound_bytes))
    return level + behind


def _score(choice: Choice) -> float:
    return math.inf if choice.score is None else choice.score


def fastest_pick(choices: Sequence[Choice]) -> Choice:
    """The highest throughput; of those within one per cent of it the largest batch."""
    best = max(choice.throughput for choice in choices)
    level = [choice for choice in choices if choice.throughput >= 0.99 * best]
    return max(level, key=lambda choice: (choice.batch_size, choice.throughput))


def pareto_front(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """The choices that no other beats in throughput, capacity and cycle at once, fastest first."""
    values = np.array([[c.throughput, c.capacity, -c.cycle_s] for c in choices])
    front = [
        choice
        for choice, value in zip(choices, values, strict=True)
        if not ((values >= value).all(axis=1) & (values > value).any(axis=1)).any()
    ]
    return tuple(sorted(front, key=lambda choice: -choice.throughput))


def limit_on_batch(known: Knowledge, stage: StageRules, pick: Choice) -> str | None:
    """What keeps the pick's batch from growing: `memory`, `data`, `space` (the configured maximum), or None."""
    largest = known.largest_batch(pick.knobs, stage)
    if pick.batch_size < largest:
        return None
    if largest < known.batch_cap:
        return "memory"
    return "space" if largest == known.config.batch.max_batch else "data"


def is_late(known: Knowledge, stage: StageRules, pick: Choice) -> bool:
    """Whether one graph more would lose worth to the clock."""
    longer_s = pick.cycle_s * (1 + 1 / pick.batch_size)
    return bool(worth(np.array([longer_s]), stage, known.config.score.late_worth)[0] < 1.0)


def nothing_fits(known: Knowledge, stage: StageRules, low: float, high: float) -> tuple[str, str, Choice | None]:
    """Why no choice of capacity `low` to `high` was admissible: what binds, in words, and the nearest miss at batch 1."""
    models = known.models(stage, low, min(high, known.data_cap))
    if not models:
        return _none_of_that_size(known, stage, low, high)
    working = [knobs for knobs in models if known.pruned.broken(knobs) is None]
    if not working:
        return "model", f"none of the {len(models)} models runs: {known.pruned.broken(models[0])}", None
    choices = [known.choice(knobs, stage, 1) for knobs in working]
    fitting = [
        choice
        for choice in choices
        if choice.footprint_bound_bytes <= known.budget_bytes and known.pruned.reason(choice.knobs, stage.allocator) is None
    ]
    if not fitting:
        nearest = min(choices, key=lambda choice: choice.footprint_bound_bytes)
        reason = known.pruned.reason(nearest.knobs, stage.allocator) or (
            f"one graph of the smallest model may need {format_bytes(nearest.footprint_bound_bytes)} "
            f"of the {format_bytes(known.budget_bytes)} there are"
        )
        return "memory", reason, nearest
    nearest = min(fitting, key=lambda choice: choice.cycle_s)
    allowed_s = (stage.target_s or math.inf) + stage.window_s
    reason = (
        f"at batch 1 even the fastest model takes {format_seconds(nearest.cycle_s)} a cycle, "
        f"and {format_seconds(allowed_s)} are allowed"
    )
    return "time", reason, nearest


def _none_of_that_size(known: Knowledge, stage: StageRules, low: float, high: float) -> tuple[str, str, Choice | None]:
    cap = min(high, known.data_cap)
    if known.models(stage, low, high):
        fed = f"{format_count(known.data_cap)} parameters that {format_count(known.dataset_size)} complexes feed"
        binds, reason = "data", f"every model has more than the {fed}"
    else:
        binds, reason = "space", f"no model has {format_count(low)} to {format_count(cap)} parameters"
    models = [knobs for knobs in known.models(stage, 0, math.inf) if known.pruned.broken(knobs) is None]
    nearest = min(models, key=lambda k: max(low / known.capacities[k], known.capacities[k] / cap), default=None)
    return binds, reason, None if nearest is None else known.choice(nearest, stage, 1)
