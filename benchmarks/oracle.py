"""The best plan of every stage, found by trying every plan on the noise-free truth.

Written from the description of the stages alone (docs/philosophy.md); it shares no code with the search that it judges.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.scenarios import Scenario
from compass.optimizer_config import InterpolationTable, StageRules
from compass.probe.simulation.step import n_parameters
from compass.records import Knobs, Stage, Variant
from compass.search.space import listed_values

Array = NDArray[np.float64]
SEARCHED: tuple[Stage, ...] = ("prototyping", "validation")
GRACE = 0.05
"""A plan this much beyond its budget is still scored, at the worth the soft window's slope gives: a device that cools
down between probes and training moves the cycle by as much, and no probe can know."""


@dataclass(frozen=True)
class Pick:
    """A model with a batch size."""

    knobs: Knobs
    batch: int


@dataclass(frozen=True)
class Verdict:
    """The oracle's plan for a stage, and the limit that keeps it from being better."""

    pick: Pick
    score: float
    limited_by: str


class Oracle:
    """One scenario's truth."""

    def __init__(self, scenario: Scenario) -> None:
        self.config = scenario.config
        self.sample = scenario.sample
        self.n_graphs = scenario.dataset_size
        self.runner = scenario.runner()
        hardware = self.runner.describe().hardware
        self.budget_bytes = hardware.budget_bytes
        self.options = tuple(sorted(self.config.space.options.items()))
        self.batch_cap = max(1, min(self.config.batch.max_batch, int(self.config.batch.training_share * self.n_graphs)))
        self._largest: dict[Knobs, int] = {}
        self._steps: dict[Knobs, Array] = {}

    # ------------------------------------------------------------------------------------------------- one candidate

    def step_s(self, knobs: Knobs, batch: int) -> float:
        """Seconds of a step on a batch of copies of the sample."""
        return self.runner.true_step_s(knobs, self.sample * batch)

    def cycle_s(self, pick: Pick) -> float:
        """Seconds of a cycle of a pick."""
        return self.config.cycle_batches * self.step_s(pick.knobs, pick.batch)

    def fits(self, knobs: Knobs, batch: int) -> bool:
        """Whether the footprint is within the budget."""
        return self.runner.true_footprint_bytes(knobs, self.sample * batch) <= self.budget_bytes

    def largest_batch(self, knobs: Knobs) -> int:
        """The largest batch that fits, up to the cap; 0 if none does. The next larger one does not fit or exceeds the cap."""
        if knobs not in self._largest:
            self._largest[knobs] = self._search_largest(knobs)
        return self._largest[knobs]

    def _search_largest(self, knobs: Knobs) -> int:
        def footprint(batch: int) -> int:
            return self.runner.true_footprint_bytes(knobs, self.sample * batch)

        low, low_bytes = 0, float(self.runner.machine.context_bytes)
        high, probe = self.batch_cap + 1, 1
        while high - low > 1:
            probe_bytes = footprint(probe)
            if probe_bytes > self.budget_bytes:
                high, guess = probe, (low + probe) // 2
            else:
                per_graph = (probe_bytes - low_bytes) / (probe - low)
                low, low_bytes = probe, float(probe_bytes)
                guess = low + int((self.budget_bytes - low_bytes) / max(per_graph, 1.0))
            probe = min(max(guess, low + 1), high - 1)
        return low

    def steps(self, knobs: Knobs) -> Array:
        """Step times of batches 1 to the largest that fits, (b,)."""
        if knobs not in self._steps:
            batches = np.arange(1, self.largest_batch(knobs) + 1, dtype=np.float64)
            nodes: Array = batches * self.sample["nodes"]
            edges: Array = batches * self.sample["edges"]
            self._steps[knobs] = self.runner.true_steps_s(knobs, nodes, edges)
        return self._steps[knobs]

    def worth(self, cycle_s: Array | float, rules: StageRules, *, grace: float = 0.0) -> Array:
        """The weight of throughput in a cycle of that length; 0 is inadmissible."""
        cycle = np.asarray(cycle_s, dtype=float)
        if rules.target_s is None:
            return np.ones_like(cycle)
        late = np.maximum(0.0, cycle - rules.target_s) / max(rules.window_s, 1e-12)
        worth = 1.0 - (1.0 - self.config.score.late_worth) * late
        end = (rules.target_s + rules.window_s) * (1.0 + grace)
        return np.where(cycle <= end, np.maximum(worth, 1e-3), 0.0)

    def best_batch(self, knobs: Knobs, rules: StageRules) -> int | None:
        """The largest batch within the tie share of the best softened throughput; None if no batch is admissible."""
        step_s = self.steps(knobs)
        if not len(step_s):
            return None
        batches = np.arange(1, len(step_s) + 1)
        throughput = batches / step_s * self.worth(self.config.cycle_batches * step_s, rules)
        if len(batches) >= self.config.batch.min_batch and throughput[self.config.batch.min_batch - 1 :].any():
            throughput[: self.config.batch.min_batch - 1] = 0.0
        best = throughput.max()
        if best == 0.0:
            return None
        return int(batches[throughput >= best * (1.0 - self.config.score.tie_share)][-1])

    def throughput(self, pick: Pick, rules: StageRules, *, grace: float = 0.0) -> float:
        """Softened throughput in graphs per second."""
        step_s = self.step_s(pick.knobs, pick.batch)
        return float(pick.batch / step_s * self.worth(self.config.cycle_batches * step_s, rules, grace=grace))

    # ----------------------------------------------------------------------------------------------------- the space

    @cached_property
    def data_cap(self) -> float:
        """Trainable parameters the dataset allows."""
        table = self.config.space.data_cap
        xs, ys = np.log([x for x, _ in table]), np.log([y for _, y in table])
        return float(np.exp(np.interp(np.log(self.n_graphs), xs, ys)))

    def capacity(self, layers: int, channels: int) -> int:
        """Trainable parameters; precision and checkpointing change nothing."""
        return n_parameters(Knobs(layers=layers, channels=channels, variant=Variant(options=self.options)))

    def architectures(self) -> Iterator[tuple[int, int]]:
        """(layers, channels) of the whole space under the data cap."""
        space = self.config.space
        factor = _between(space.vram_factors, self.budget_bytes / 1024**3)
        for layers in range(space.layers[0], round(space.layers[1] * factor) + 1):
            for channels in range(space.channel_step, round(space.channels[1] * factor) + 1, space.channel_step):
                low, high = (share * layers for share in space.channels_per_layer)
                small = channels < space.channels[0] or channels % int(listed_values(space, "heads")[0])
                if not small and low <= channels <= high and self.capacity(layers, channels) <= self.data_cap:
                    yield layers, channels

    def variants(self, stage: Stage) -> list[Variant]:
        """The variants that a stage may choose."""
        rules = self.config.stages[stage]
        return [
            Variant(precision=precision, checkpointing=checkpointing, options=self.options)
            for precision in rules.precision
            for checkpointing in rules.checkpointing
        ]

    @cached_property
    def reference(self) -> Pick | None:
        """The production plan: among models near the largest capacity that data and memory allow, the fastest."""
        rules = self.config.stages.production
        by_capacity = sorted(self.architectures(), key=lambda a: -self.capacity(*a))
        for least in (self.config.batch.min_batch, 1):
            largest: int | None = None
            near: list[Pick] = []
            for layers, channels in by_capacity:
                capacity = self.capacity(layers, channels)
                if largest is not None and capacity < largest * (1.0 - self.config.space.reference_share):
                    break
                for variant in self.variants("production"):
                    knobs = Knobs(layers=layers, channels=channels, variant=variant)
                    batch = self.best_batch(knobs, rules)
                    if batch is not None and batch >= least:
                        largest = largest or capacity
                        near.append(Pick(knobs, batch))
            if near:
                return max(near, key=lambda pick: self.throughput(pick, rules))
        return None

    # ----------------------------------------------------------------------------------------------------- the stages

    def score(self, pick: Pick, stage: Stage) -> float:
        """True score of a plan; infinite if it does not fit or takes too long."""
        reference = self.reference
        if reference is None or not self.fits(pick.knobs, pick.batch):
            return math.inf
        rules, score = self.config.stages[stage], self.config.score
        throughput = self.throughput(pick, rules, grace=GRACE)
        if throughput == 0.0:
            return math.inf
        fast = throughput / self.throughput(reference, self.config.stages.production)
        large = n_parameters(pick.knobs) / n_parameters(reference.knobs)
        q = rules.quality_weight
        return float((1.0 - q) * fast**-score.beta + q * large**-score.alpha)

    def stage_architectures(self, stage: Stage, reference_capacity: int) -> list[tuple[int, int]]:
        """(layers, channels) in the stage's own space."""
        space = self.config.space
        low, high = space.small_share if stage == "prototyping" else space.large_share
        return [a for a in self.architectures() if low <= self.capacity(*a) / reference_capacity <= high]

    def verdict(self, stage: Stage) -> Verdict | None:
        """The stage's best plan; None if no plan is admissible."""
        pick = self._best(stage, self.config.stages[stage])
        if pick is None:
            return None
        untimed = self._best(stage, self.config.stages[stage].model_copy(update={"target_s": None}))
        if untimed != pick:
            binds = "time"
        elif pick.batch == self.batch_cap:
            binds = "data"
        else:
            binds = "memory" if pick.batch == self.largest_batch(pick.knobs) else "score"
        return Verdict(pick, self.score(pick, stage), binds)

    def _best(self, stage: Stage, rules: StageRules) -> Pick | None:
        if self.reference is None:
            return None
        tie, q = self.config.score, rules.quality_weight
        reference = self.throughput(self.reference, self.config.stages.production)
        capacity = n_parameters(self.reference.knobs)
        found: list[tuple[float, float, int, Pick]] = []
        for layers, channels in self.stage_architectures(stage, capacity):
            for variant in self.variants(stage):
                knobs = Knobs(layers=layers, channels=channels, variant=variant)
                batch = self.best_batch(knobs, rules)
                if batch is None:
                    continue
                fast = self.throughput(Pick(knobs, batch), rules)
                own = n_parameters(knobs)
                score = (1 - q) * (fast / reference) ** -tie.beta + q * (own / capacity) ** -tie.alpha
                found.append((float(score), fast, own, Pick(knobs, batch)))
        least = self.config.batch.min_batch
        found = [entry for entry in found if entry[3].batch >= least] or found
        if not found:
            return None
        best = min(entry[0] for entry in found)
        tied = [entry for entry in found if entry[0] <= best * (1.0 + tie.tie_share)]
        preferred = 1 if stage == "prototyping" else 2
        return max(tied, key=lambda entry: (entry[preferred], -self._live_bytes(entry[3])))[3]

    def _live_bytes(self, pick: Pick) -> int:
        return self.runner.true_live_bytes(pick.knobs, self.sample * pick.batch)


def _between(table: InterpolationTable, x: float) -> float:
    return float(np.interp(x, [point[0] for point in table], [point[1] for point in table]))
