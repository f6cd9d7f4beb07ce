"""What a stage decides, and the rules that stages share."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from compass.optimizer_config import StageRules
from compass.records import Choice, Knobs, Stage
from compass.records.nouns import counted, of_batch, of_data, singular
from compass.search.knowledge import Knowledge
from compass.search.score import worth
from compass.units import format_bytes, format_count, format_seconds

EVERY_MODEL = (0.0, math.inf)
"""The capacities of a stage that does not compare its models with the reference."""
LAST_PARAMETERS = 0.9
"""A smaller model has at least this share of the parameters; the rest are the last, whose price the profile tells."""


@dataclass(frozen=True)
class Ranking:
    """A stage's admissible choices, best first."""

    choices: tuple[Choice, ...]
    fastest: Choice | None
    """The choice at q = 0: the highest throughput, with the largest batch."""

    @property
    def pick(self) -> Choice:
        """The best choice."""
        return self.choices[0]


class NearMiss(NamedTuple):
    """The reason why a stage has no admissible choice."""

    limited_by: str
    """`memory`, `time`, `data`, `space`, `model` or `search`."""
    reason: str
    nearest: Choice | None
    """The choice that came nearest; None if no model runs."""


class Policy(Protocol):
    """The rules by which one stage chooses a model and its batch."""

    @property
    def stage(self) -> Stage:
        """The stage's name."""
        ...

    @property
    def timed(self) -> bool:
        """Whether step times decide: models are timed before the stage chooses, and ranked by score."""
        ...

    @property
    def certified(self) -> bool:
        """Whether the plan is certified on the worst batches with a reliable step time. Otherwise a few steps show that it runs."""
        ...

    @property
    def explained(self) -> bool:
        """Whether the profile lists the models that the stage considered, and its choice in other circumstances."""
        ...

    def rank(self, known: Knowledge) -> Ranking | None:
        """The admissible choices, best first; None if there are none."""
        ...

    def limited_by(self, known: Knowledge, pick: Choice) -> str:
        """The limit that keeps `pick` from being larger or faster: `memory`, `time`, `data`, `space`, `score` or `nothing`."""
        ...

    def why(self, known: Knowledge, ranking: Ranking) -> str:
        """The reason for the pick, in one sentence."""
        ...

    def nearest(self, known: Knowledge) -> NearMiss:
        """The reason when nothing is admissible."""
        ...


def capacity_span(policy: Policy, known: Knowledge) -> tuple[float, float]:
    """The fewest and the most parameters that the policy chooses from; an empty span if it needs a reference and has none."""
    share = known.config.space.share(policy.stage)
    if known.reference is None:
        return (math.inf, 0.0) if policy.timed else EVERY_MODEL
    if share is None:
        return EVERY_MODEL
    return share[0] * known.reference.capacity, share[1] * known.reference.capacity


def models_of(policy: Policy, known: Knowledge) -> list[Knobs]:
    """The models that the policy chooses from, as far as the data can feed them and no probe has ruled them out."""
    return known.candidates(known.config.stages[policy.stage], *capacity_span(policy, known))


def with_enough_graphs(choices: Sequence[Choice], min_batch: int) -> Sequence[Choice]:
    """The choices with batches of at least `min_batch` graphs; all of them if there are none."""
    return [choice for choice in choices if choice.batch_size >= min_batch] or choices


def by_score(choices: Sequence[Choice], tie_share: float, prefer: Callable[[Choice], float]) -> list[Choice]:
    """Best score first; choices within `tie_share` of the best by preference, then by the smaller memory."""
    best = min(_score(choice) for choice in choices)
    level = [choice for choice in choices if _score(choice) <= best * (1 + tie_share)]
    behind = [choice for choice in choices if _score(choice) > best * (1 + tie_share)]
    level.sort(key=lambda choice: (-prefer(choice), choice.footprint_bound_bytes, _score(choice)))
    behind.sort(key=lambda choice: (_score(choice), choice.footprint_bound_bytes))
    return level + behind


def _score(choice: Choice) -> float:
    return math.inf if choice.score is None else choice.score


def fastest_pick(choices: Sequence[Choice]) -> Choice:
    """The highest throughput; of choices within one per cent of it, the largest batch."""
    best = max(choice.throughput for choice in choices)
    level = [choice for choice in choices if choice.throughput >= 0.99 * best]
    return max(level, key=lambda choice: (choice.batch_size, choice.throughput))


def largest_batch_pick(known: Knowledge, stage: StageRules, pick: Choice) -> Choice | None:
    """The depth and width of `pick` with the largest batch that fits, at any price in speed; None if it is the pick's."""
    alike = [
        knobs
        for knobs in known.candidates(stage, pick.capacity, pick.capacity)
        if (knobs.layers, knobs.channels) == (pick.knobs.layers, pick.knobs.channels)
    ]
    ways = [
        known.choice(knobs, stage, batch_size, allocator)
        for knobs in alike
        for allocator in known.allocators_of(stage)
        if (batch_size := known.largest_batch(knobs, stage, allocator))
    ]
    largest = max(ways, key=lambda choice: (choice.batch_size, choice.throughput), default=pick)
    return largest if largest.batch_size > pick.batch_size else None


def smaller_pick(pick: Choice, choices: Sequence[Choice], tie_share: float) -> Choice | None:
    """The fastest choice that gives up at most a tenth of the pick's parameters; None if it is not faster."""
    near = [choice for choice in choices if LAST_PARAMETERS * pick.capacity <= choice.capacity < pick.capacity]
    fastest = max(near, key=lambda choice: choice.throughput, default=pick)
    return fastest if fastest.throughput > (1 + tie_share) * pick.throughput else None


def pareto_front(choices: Sequence[Choice]) -> tuple[Choice, ...]:
    """The choices that no other choice beats in throughput, capacity and cycle at once, fastest first."""
    values = np.array([[c.throughput, c.capacity, -c.cycle_s] for c in choices])
    front = [
        choice
        for choice, value in zip(choices, values, strict=True)
        if not ((values >= value).all(axis=1) & (values > value).any(axis=1)).any()
    ]
    return tuple(sorted(front, key=lambda choice: -choice.throughput))


def limit_on_batch(known: Knowledge, stage: StageRules, pick: Choice) -> str | None:
    """The limit that keeps the pick's batch from growing: `memory`, `data`, `space` (the configured maximum), or None."""
    largest = known.largest_batch(pick.knobs, stage, pick.allocator)
    if pick.batch_size < largest:
        return None
    if largest < known.batch_cap:
        return "memory"
    return "space" if largest == known.config.batch.max_batch else "data"


def is_late(known: Knowledge, stage: StageRules, pick: Choice) -> bool:
    """Whether one more graph would lengthen the cycle beyond its target."""
    longer_s = pick.cycle_s * (1 + 1 / pick.batch_size)
    return bool(worth(np.array([longer_s]), stage, known.config.score.late_worth)[0] < 1.0)


def least_batch_words(known: Knowledge) -> str:
    """The smallest batch that the model takes, e.g. `one graph`."""
    members = of_batch(known.noun)
    return f"one {singular(members)}" if known.least_batch == 1 else counted(known.least_batch, members)


def nothing_fits(known: Knowledge, stage: StageRules, low: float, high: float) -> NearMiss:
    """Why no choice of `low` to `high` parameters is admissible: the limit, the reason, and the nearest choice at the least batch."""
    models = known.models(stage, low, min(high, known.data_cap))
    if not models:
        return _none_of_that_size(known, stage, low, high)
    working = [knobs for knobs in models if known.pruned.broken(knobs) is None]
    if not working:
        return NearMiss("model", f"none of the {len(models)} models runs: {known.pruned.broken(models[0])}", None)
    choices = [
        known.choice(knobs, stage, known.least_batch, allocator)
        for knobs in working
        for allocator in known.allocators_of(stage)
    ]
    fitting = [
        choice
        for choice in choices
        if choice.footprint_bound_bytes <= known.budget_bytes
        and known.pruned.reason(choice.knobs, choice.allocator) is None
    ]
    if not fitting:
        nearest = min(choices, key=lambda choice: choice.footprint_bound_bytes)
        reason = known.pruned.reason(nearest.knobs, nearest.allocator) or (
            f"{least_batch_words(known)} of the smallest model may need {format_bytes(nearest.footprint_bound_bytes)}; "
            f"the budget is {format_bytes(known.budget_bytes)}"
        )
        return NearMiss("memory", reason, nearest)
    nearest = min(fitting, key=lambda choice: choice.cycle_s)
    allowed_s = (stage.target_s or math.inf) + stage.window_s
    reason = (
        f"at batch {known.least_batch}, a cycle of the fastest model takes {format_seconds(nearest.cycle_s)}; "
        f"at most {format_seconds(allowed_s)} are allowed"
    )
    return NearMiss("time", reason, nearest)


def _none_of_that_size(known: Knowledge, stage: StageRules, low: float, high: float) -> NearMiss:
    cap = min(high, known.data_cap)
    if known.models(stage, low, high):
        data = f"{format_count(known.dataset_size)} {of_data(known.noun)}"
        limit, reason = (
            "data",
            f"every model has more than the {format_count(known.data_cap)} parameters that {data} can feed",
        )
    else:
        limit, reason = "space", f"no model has {format_count(low)} to {format_count(cap)} parameters"
    models = [knobs for knobs in known.models(stage, 0, math.inf) if known.pruned.broken(knobs) is None]
    nearest = min(models, key=lambda k: max(low / known.capacities[k], known.capacities[k] / cap), default=None)
    return NearMiss(limit, reason, None if nearest is None else known.choice(nearest, stage, known.least_batch))
