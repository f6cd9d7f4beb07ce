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


@dataclass(frozen=True)
class Ranking:
    """A stage's admissible choices, best first."""

    choices: tuple[Choice, ...]
    literal: Choice | None
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

    def rank(self, known: Knowledge) -> Ranking | None:
        """The admissible choices, best first; None if there are none."""
        ...

    def binds(self, known: Knowledge, pick: Choice) -> str:
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
    level.sort(key=lambda choice: (-prefer(choice), choice.footprint_bytes, _score(choice)))
    behind.sort(key=lambda choice: (_score(choice), choice.footprint_bytes))
    return level + behind


def _score(choice: Choice) -> float:
    return math.inf if choice.score is None else choice.score


def literal_pick(choices: Sequence[Choice]) -> Choice:
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
    """What keeps the pick's batch from growing: `data`, `memory`, or None if neither does."""
    largest = known.largest_batch(pick.knobs, stage)
    if pick.batch_size < largest:
        return None
    return "data" if largest == known.batch_cap else "memory"


def is_late(known: Knowledge, stage: StageRules, pick: Choice) -> bool:
    """Whether one graph more would lose worth to the clock."""
    longer_s = pick.cycle_s * (1 + 1 / pick.batch_size)
    return bool(worth(np.array([longer_s]), stage, known.config.score.late_worth)[0] < 1.0)


def nothing_fits(known: Knowledge, stage: StageRules, low: float, high: float) -> tuple[str, str, Choice | None]:
    """Why no choice of capacity `low` to `high` was admissible."""
    candidates = known.candidates(stage, low, high)
    if not candidates:
        reason = f"no model in the space has {low:,.0f} to {min(high, known.data_cap):,.0f} parameters"
        return "space", reason, None
    smallest = min(
        candidates, key=lambda knobs: known.bytes_law(knobs, stage).upper_footprint(known.work.worst_load(1))
    )
    nearest = known.choice(smallest, stage, 1)
    if nearest.footprint_bytes > known.budget_bytes:
        reason = "not even one graph of the smallest model fits the memory budget"
        return "memory", reason, nearest
    fastest = min(candidates, key=lambda knobs: known.step_s(knobs, known.work.typical_load(1)))
    return "time", "even the fastest model is over the time window at batch 1", known.choice(fastest, stage, 1)
