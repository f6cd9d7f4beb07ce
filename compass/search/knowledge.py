"""Everything known when a stage decides, and the choices it leaves open."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from compass.optimizer_config import OptimizerConfig, StageRules
from compass.records import Affine, Allocator, BytesLaw, Choice, Knobs, Load
from compass.search.pruning import Pruned
from compass.search.sample_loads import SampleLoads
from compass.search.score import score, worth
from compass.search.space import variants

Floats = NDArray[np.float64]
LEVEL_SHARE = 0.01
"""Batches whose softened throughput is within this of the best are level: the largest is taken."""
LAW_POINTS = 50
"""Loads that a step's time is made a plane from, twice."""
NEGLIGIBLE = 1e-9
"""Share of a step under which a part of it is rounding."""


class Costs(Protocol):
    """What the fitted models predict."""

    def bytes_law(self, knobs: Knobs, allocator: Allocator) -> BytesLaw:
        """The memory of `knobs` as a function of the load."""
        ...

    def step_s(self, knobs: Knobs, capacity: int, sizes: Floats) -> Floats:
        """Predicted seconds a step (n,) at `sizes` (n, features)."""
        ...

    def spread(self, knobs: Knobs, step_s: float) -> float:
        """Relative standard deviation of the prediction for `knobs` at a load that takes about `step_s`."""
        ...

    def spread_of_runs(self, knobs: Knobs, step_s: float) -> float:
        """The same of what a run will show, which meets the machine's unrest too."""
        ...

    def is_timed(self, knobs: Knobs) -> bool:
        """Whether `knobs` themselves were timed."""
        ...


@dataclass(frozen=True)
class Knowledge:
    """The models, the data and the budget, with the reference once production has set it."""

    config: OptimizerConfig
    costs: Costs
    work: SampleLoads
    capacities: Mapping[Knobs, int]
    """Trainable parameters of every model in the space."""
    budget_bytes: int
    dataset_size: int
    data_cap: int
    reference: Choice | None = None
    pruned: Pruned = field(default_factory=Pruned)

    def models(self, stage: StageRules, low: float, high: float) -> list[Knobs]:
        """The stage's models with a capacity from `low` to `high` parameters."""
        kinds = variants(self.config.space, stage)
        return [
            knobs for knobs, capacity in self.capacities.items() if low <= capacity <= high and knobs.variant in kinds
        ]

    def candidates(self, stage: StageRules, low: float, high: float) -> list[Knobs]:
        """Those of `models` that the data can feed and nothing has ruled out."""
        models = self.models(stage, low, min(high, self.data_cap))
        return [knobs for knobs in models if self.pruned.reason(knobs, stage.allocator) is None]

    def bytes_law(self, knobs: Knobs, stage: StageRules) -> BytesLaw:
        """The memory of `knobs` under the stage's allocator."""
        return self.costs.bytes_law(knobs, stage.allocator)

    @property
    def batch_cap(self) -> int:
        """The largest batch that configuration and data allow."""
        return self.config.batch.cap(self.dataset_size)

    def largest_batch(self, knobs: Knobs, stage: StageRules) -> int:
        """The most graphs whose worst batch is sure to fit the budget, 0 if not even one does."""
        law = self.bytes_law(knobs, stage)
        return int(np.searchsorted(self.work.upper_footprints(self.batch_cap, law), self.budget_bytes, side="right"))

    def most_graphs(self, fits: Callable[[int], bool]) -> int:
        """The largest batch up to the cap that `fits`, 0 if none does; what fits must fit with fewer graphs too."""
        low, high = 0, self.batch_cap
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def best_choice(self, knobs: Knobs, stage: StageRules) -> Choice | None:
        """`knobs` with the batch of best softened throughput, the largest of those level with it; None if none fits.

        Batches under the configured minimum are taken only if no other is admissible.
        """
        largest = self.largest_batch(knobs, stage)
        if largest == 0:
            return None
        sizes = np.arange(1, largest + 1)
        step_s = self.costs.step_s(knobs, self.capacities[knobs], self.work.typical_sizes(sizes))
        softened = self.soften(sizes / step_s, step_s, stage)
        admissible = softened > 0
        if (admissible & (sizes >= self.config.batch.min_batch)).any():
            admissible &= sizes >= self.config.batch.min_batch
        if not admissible.any():
            return None
        level = admissible & (softened >= (1 - LEVEL_SHARE) * softened[admissible].max())
        return self.choice(knobs, stage, int(sizes[level].max()))

    def choice(self, knobs: Knobs, stage: StageRules, batch_size: int) -> Choice:
        """`knobs` with a given batch, and all that is predicted of it."""
        law = self.bytes_law(knobs, stage)
        worst, typical = self.work.worst_load(batch_size, law), self.work.typical_load(batch_size)
        step_s = self.step_s(knobs, typical)
        capacity = self.capacities[knobs]
        throughput = batch_size / step_s
        return Choice(
            knobs=knobs,
            capacity=capacity,
            batch_size=batch_size,
            load=typical,
            live_bytes=law.live(worst),
            footprint_bytes=law.upper_footprint(worst),
            step_s=step_s,
            cycle_s=step_s * self.config.cycle_batches,
            throughput=throughput,
            score=self.score(capacity, batch_size, np.array([step_s]), stage)[0],
        )

    def step_s(self, knobs: Knobs, load: Load) -> float:
        """Predicted seconds a step on `load`."""
        sizes = np.array([[size for _, size in load.sizes]])
        # An anchor need not be in the space; parameters are the least part of a step's time.
        return float(self.costs.step_s(knobs, self.capacities.get(knobs, 0), sizes)[0])

    def step_law(self, choice: Choice, step_s: float, load: Load) -> Affine:
        """Seconds a step about the batch of `choice`: the time model as a plane, raised or lowered to the `step_s` measured at `load`.

        Nothing in it is negative, so that less work never takes longer.
        """
        from scipy.optimize import nnls  # a third of a second, which only fitting needs

        shared, typical = self.work.shared()[1], self.work.typical_sizes(np.array([choice.batch_size]))[0]
        picks = np.random.default_rng(self.config.seed).integers(len(shared), size=(LAW_POINTS, choice.batch_size))
        # Beside batches as they come, the typical one smaller and larger: they may all be of one size.
        sizes = np.concatenate([shared[picks].sum(axis=1), np.outer(np.linspace(0.8, 1.2, LAW_POINTS), typical)])
        predicted_s = self.costs.step_s(choice.knobs, choice.capacity, sizes)
        rows = np.concatenate([np.ones((len(sizes), 1)), sizes], axis=1)
        scale = np.maximum(rows.max(axis=0), 1e-9)
        parts_s = nnls(rows / scale, predicted_s)[0]
        parts_s[parts_s < NEGLIGIBLE * parts_s.max()] = 0.0
        here = np.array([1.0, *(load[name] for name in self.work.features)])
        base, *rates = parts_s / scale * (step_s / float(parts_s / scale @ here))
        return Affine(base=float(base), per_unit=tuple(zip(self.work.features, map(float, rates), strict=True)))

    def soften(self, throughput: Floats, step_s: Floats, stage: StageRules) -> Floats:
        """Throughput as the stage values it: less and less beyond its target."""
        cycle_s = step_s * self.config.cycle_batches
        return throughput * worth(cycle_s, stage, self.config.score.late_worth)

    def score(self, capacity: int, batch_size: int, step_s: Floats, stage: StageRules) -> list[float | None]:
        """The score of a model and batch for each of several step times; None before there is a reference."""
        if self.reference is None:
            return [None] * len(step_s)
        softened = self.soften(batch_size / step_s, step_s, stage)
        values = score(softened, np.array([capacity]), self.reference, stage.quality_weight, self.config.score)
        return [float(value) for value in values]
