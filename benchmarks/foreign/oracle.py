"""The best that a scenario allows, found by trying everything on the truth.

The rules are the stages' own (docs/philosophy.md, docs/optimize.md, `compass.stages`); times and bytes are the physics'.
Notation: B batch sizes from 1 up, F features, D directions in which a batch may be worst.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import NamedTuple

import numpy as np

from benchmarks.foreign.family import Floats
from benchmarks.foreign.physics import ENDLESS
from benchmarks.foreign.scenarios import ForeignScenario
from compass.data.oversize import oversize
from compass.optimizer_config import StageRules
from compass.records import Allocator, Choice, Knobs, Load, Stage
from compass.search.score import score, worth
from compass.search.space import architectures, data_cap, knobs_of, variants
from compass.stages import POLICIES
from compass.stages.policy import by_score, with_enough_graphs
from compass.stages.timed import TimedStage

TIMED: tuple[Stage, ...] = ("prototyping", "validation")
LEVEL_SHARE = 0.01
"""Batches whose worth differs by less are level, and the largest is taken (docs/philosophy.md)."""


class Way(NamedTuple):
    """A model under one allocator, for every batch size."""

    allocator: Allocator
    step_s: Floats
    """(B,)"""
    footprint_bytes: Floats
    """(B,) of the worst batch that the data can form, in the middle of a training."""


class Oracle:
    """Knows everything about a scenario."""

    def __init__(self, scenario: ForeignScenario) -> None:
        self.scenario, self.physics, self.config = scenario, scenario.physics, scenario.config
        self.budget_bytes = scenario.physics.machine.budget_bytes
        self.data_cap = data_cap(self.config.space.data_cap, scenario.dataset_size)
        self.batch_sizes = np.arange(1, self.config.batch.cap(scenario.dataset_size) + 1)
        self._ways: dict[Knobs, list[Way]] = {}

    # ---------------------------------------------------------------------------------------------------------- data

    @cached_property
    def shared_sizes(self) -> Floats:
        """(n, F) of the samples that share batches."""
        apart = oversize({name: load.sizes for name, load in self.scenario.samples}, self.config.dataset.oversize_share)
        return np.array([[x for _, x in load.sizes] for name, load in self.scenario.samples if name not in apart])

    @cached_property
    def typical_sizes(self) -> Floats:
        """(B, F) of batches of the mean load."""
        return np.outer(self.batch_sizes, self.shared_sizes.mean(axis=0))

    @cached_property
    def worst_sizes(self) -> Floats:
        """(D, B, F) of batches of the largest samples, by each feature and by their sums."""
        n_samples, n_features = self.shared_sizes.shape
        each = max(1, -(-self.scenario.dataset_size // len(self.scenario.samples)))
        relative = self.shared_sizes / self.shared_sizes.mean(axis=0)
        places = ((self.batch_sizes - 1) // each) % n_samples
        directions = [np.ones(n_features), *np.eye(n_features), *(np.ones(n_features) - 0.7 * np.eye(n_features))]
        orders = [np.argsort(-relative @ direction, kind="stable") for direction in directions]
        return np.array([np.cumsum(self.shared_sizes[order[places]], axis=0) for order in orders])

    @property
    def n_different(self) -> int:
        """Different batches that a training sees."""
        return ENDLESS if len(self.shared_sizes) > 1 else 1

    # --------------------------------------------------------------------------------------------------------- truth

    def models(self, rules: StageRules) -> list[Knobs]:
        """The stage's models that run and that the data can feed."""
        shapes = architectures(self.config.space, self.budget_bytes)
        return [
            knobs
            for knobs in knobs_of(shapes, variants(self.config.space, rules))
            if self.capacity(knobs) <= self.data_cap and self.physics.failure(knobs) is None
        ]

    def capacity(self, knobs: Knobs) -> int:
        """Trainable parameters."""
        return self.physics.family.parameters(knobs)

    def ways(self, knobs: Knobs, rules: StageRules) -> list[Way]:
        """`knobs` under each allocator of the stage; an accelerator has its own."""
        if knobs not in self._ways:
            names = rules.allocator if self.physics.machine.on_cpu else rules.allocator[:1]
            self._ways[knobs] = [self._way(knobs, name) for name in names]
        return self._ways[knobs]

    def _way(self, knobs: Knobs, allocator: Allocator) -> Way:
        n_directions, n_batches, n_features = self.worst_sizes.shape
        flat = self.worst_sizes.reshape(-1, n_features)
        footprint = self.physics.footprint_bytes(knobs, flat, allocator, self.n_different)
        return Way(
            allocator,
            self.physics.step_s(knobs, self.typical_sizes, allocator) * self.physics.long_run(),
            footprint.reshape(n_directions, n_batches).max(axis=0),
        )

    def soften(self, step_s: Floats, rules: StageRules) -> Floats:
        """(B,) graphs per second as the stage values them."""
        late = self.config.score.late_worth
        return np.asarray(self.batch_sizes / step_s * worth(step_s * self.config.cycle_batches, rules, late))

    def admissible(self, way: Way, rules: StageRules) -> Floats:
        """(B,) softened throughput; 0 where the worst batch does not fit."""
        fits = way.footprint_bytes <= self.budget_bytes
        return np.where(fits, self.soften(way.step_s, rules), 0.0)

    # ------------------------------------------------------------------------------------------------------- choices

    def best_choice(self, knobs: Knobs, rules: StageRules, level_share: float) -> Choice | None:
        """`knobs` with the largest of the batches that are level with the best, of at least the least size if there are any."""
        found = [(way, self.admissible(way, rules)) for way in self.ways(knobs, rules)]
        enough = self.batch_sizes >= self.config.batch.min_batch
        if any((values[enough] > 0).any() for _, values in found):
            found = [(way, np.where(enough, values, 0.0)) for way, values in found]
        best = max(float(values.max()) for _, values in found)
        if best <= 0:
            return None
        level = [
            (int(np.flatnonzero(values >= (1 - level_share) * best)[-1]), way)
            for way, values in found
            if values.max() >= (1 - level_share) * best
        ]
        place, way = max(level, key=lambda one: (one[0], -one[1].step_s[one[0]]))
        return self.choice(knobs, way, place)

    def choice(self, knobs: Knobs, way: Way, place: int, rules: StageRules | None = None) -> Choice:
        """`knobs` with the batch at `place`, and the truth about it."""
        step_s, n_graphs = float(way.step_s[place]), int(self.batch_sizes[place])
        sizes = tuple(zip(self.physics.features, map(float, self.typical_sizes[place]), strict=True))
        found = Choice(
            knobs=knobs,
            capacity=self.capacity(knobs),
            batch_size=n_graphs,
            allocator=way.allocator,
            load=Load(graphs=n_graphs, sizes=sizes),
            live_bytes=0.0,
            footprint_bound_bytes=float(way.footprint_bytes[place]),
            step_s=step_s,
            cycle_s=step_s * self.config.cycle_batches,
            throughput=n_graphs / step_s,
        )
        return found if rules is None else found.model_copy(update={"score": self.score(found, rules)})

    @cached_property
    def production(self) -> Choice | None:
        """The fastest of the models level with the largest."""
        rules = self.config.stages.production
        level_share = self.config.probe.settle_share
        found = [self.best_choice(knobs, rules, level_share) for knobs in self.models(rules)]
        choices = with_enough_graphs([one for one in found if one is not None], self.config.batch.min_batch)
        if not choices:
            return None
        least = self.least_level(max(one.capacity for one in choices))
        level = [one for one in choices if one.capacity >= least]
        return max(level, key=lambda one: (one.throughput, -one.footprint_bound_bytes))

    @cached_property
    def largest_capacity(self) -> int:
        """Parameters of the largest model that data and hardware allow."""
        rules = self.config.stages.production
        found = [self.best_choice(knobs, rules, LEVEL_SHARE) for knobs in self.models(rules)]
        choices = with_enough_graphs([one for one in found if one is not None], self.config.batch.min_batch)
        return max((one.capacity for one in choices), default=0)

    def least_level(self, largest: int) -> float:
        """Parameters from which a model counts as level with the largest."""
        return largest * (1 - self.config.space.reference_share)

    def verdict(self, stage: Stage) -> Choice | None:
        """The stage's choice if everything were known; its score is what plans are compared with."""
        rules, policy, reference = self.config.stages[stage], POLICIES[stage], self.production
        share = self.config.space.share(stage)
        if reference is None or share is None or not isinstance(policy, TimedStage):
            return None
        low, high = (part * reference.capacity for part in share)
        models = [knobs for knobs in self.models(rules) if low <= self.capacity(knobs) <= high]
        found = [self.best_choice(knobs, rules, LEVEL_SHARE) for knobs in models]
        choices = with_enough_graphs([one for one in found if one is not None], self.config.batch.min_batch)
        if not choices:
            return None
        scored = [one.model_copy(update={"score": self.score(one, rules)}) for one in choices]
        return by_score(scored, self.config.score.tie_share, policy.prefer)[0]

    def score(self, choice: Choice, rules: StageRules) -> float:
        """The true score; infinite if the batch does not fit or is too late."""
        if self.production is None or choice.footprint_bound_bytes > self.budget_bytes:
            return math.inf
        counts = worth(np.array([choice.cycle_s]), rules, self.config.score.late_worth)
        capacity = np.array([choice.capacity])
        return float(
            score(choice.throughput * counts, capacity, self.production, rules.quality_weight, self.config.score)[0]
        )

    def truth_of(self, knobs: Knobs, batch_size: int, allocator: Allocator, stage: Stage) -> Choice:
        """The truth about a plan."""
        rules = self.config.stages[stage]
        own = "fast" if not self.physics.machine.on_cpu else allocator
        return self.choice(knobs, self._way(knobs, own), batch_size - 1, rules)
