"""Everything known when a stage decides, and the choices that follow from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from compass.optimizer_config import OptimizerConfig, StageRules
from compass.records import Affine, Allocator, BytesLaw, Choice, Knobs, Load
from compass.search.pruning import Pruned
from compass.search.sample_loads import SampleLoads
from compass.search.score import score, worth
from compass.search.space import has_one_model, variants

_Floats = NDArray[np.float64]
LEVEL_SHARE = 0.01
"""Batches within this share of the best softened throughput are level: the largest is taken."""
LAW_POINTS = 50
"""Loads that a linear step law is fitted to: so many random batches, and so many sizes of the typical one."""
NEGLIGIBLE = 1e-9
"""Parts of a step under this share of the largest part are rounding errors."""


class Costs(Protocol):
    """Predictions of the fitted cost models. Where an allocator may be named, None stands for the calibration's."""

    def bytes_law(self, knobs: Knobs, allocator: Allocator) -> BytesLaw:
        """The memory of `knobs` as a function of the load."""
        ...

    def step_s(self, knobs: Knobs, capacity: int, sizes: _Floats, allocator: Allocator | None = None) -> _Floats:
        """Predicted seconds of a step (n,) at `sizes` (n, features)."""
        ...

    def spread(self, knobs: Knobs, capacity: int, sizes: _Floats, allocator: Allocator | None = None) -> float:
        """Relative standard deviation of the prediction for `knobs` at one load of `sizes` (1, features)."""
        ...

    def spread_of_runs(self, knobs: Knobs, capacity: int, sizes: _Floats, allocator: Allocator | None = None) -> float:
        """The same for the measurement of a run, which includes the machine's noise."""
        ...

    def covariance(self, choices: Sequence[Choice]) -> _Floats:
        """(n, n) of the logarithms of the steps predicted for `choices`: what the timing of one shows of the others."""
        ...

    def is_timed(self, knobs: Knobs) -> bool:
        """Whether `knobs` themselves were timed."""
        ...


class _Way(NamedTuple):
    """An allocator with its best batch."""

    allocator: Allocator
    batch_size: int
    softened: float
    """Throughput as the stage values it."""


@dataclass(frozen=True)
class Knowledge:
    """The cost models, the data and the budget; the reference once the production stage has set it."""

    config: OptimizerConfig
    costs: Costs
    work: SampleLoads
    capacities: Mapping[Knobs, int]
    """Trainable parameters of every model in the space."""
    budget_bytes: int
    dataset_size: int
    data_cap: float
    least_batch: int = 1
    """Fewest graphs that a model can be trained on."""
    reference: Choice | None = None
    pruned: Pruned = field(default_factory=Pruned)
    allocators: tuple[Allocator, ...] = ("fast",)
    """Those that were measured on this machine, the calibration's first."""
    n_ranks: int = 1
    """Processes that train together, which share out an update's batch."""
    noun: str = ""
    """What the workload's data consist of, in the plural; empty: of complexes, in batches of graphs."""
    _best: dict[tuple[Knobs, StageRules, float], Choice | None] = field(
        init=False, default_factory=dict, compare=False, repr=False
    )
    """The choices that were asked for: a run ranks the same models several times between two probes."""

    @property
    def has_one_model(self) -> bool:
        """Whether depth and width are no choice."""
        return has_one_model(self.capacities)

    def allocators_of(self, stage: StageRules) -> tuple[Allocator, ...]:
        """The allocators that the stage chooses from: the measured ones, or else the first that it allows."""
        return tuple(one for one in self.allocators if one in stage.allocator) or stage.allocator[:1]

    def models(self, stage: StageRules, low: float, high: float) -> list[Knobs]:
        """The stage's models with a capacity from `low` to `high` parameters."""
        kinds = variants(self.config.space, stage)
        return [
            knobs for knobs, capacity in self.capacities.items() if low <= capacity <= high and knobs.variant in kinds
        ]

    def candidates(self, stage: StageRules, low: float, high: float) -> list[Knobs]:
        """Those of `models` under the data cap that no probe has ruled out."""
        models = self.models(stage, low, min(high, self.data_cap))
        return [knobs for knobs in models if self.ruled_out(knobs, stage) is None]

    def ruled_out(self, knobs: Knobs, stage: StageRules) -> str | None:
        """The reason why `knobs` cannot work under any of the stage's allocators; None if they might."""
        reasons = [self.pruned.reason(knobs, allocator) for allocator in self.allocators_of(stage)]
        return None if None in reasons else reasons[0]

    @property
    def batch_cap(self) -> int:
        """Graphs in the largest batch of a rank that configuration and dataset allow."""
        return max(self.least_batch, self.config.batch.cap(self.dataset_size) // self.n_ranks)

    def largest_batch(self, knobs: Knobs, stage: StageRules, allocator: Allocator | None = None) -> int:
        """The most graphs whose worst batch fits the budget by its upper bound; 0 if not even the least batch does.

        Under `allocator`; None: under whichever of the stage's holds most.
        """
        if allocator is None:
            return max(self.largest_batch(knobs, stage, one) for one in self.allocators_of(stage))
        if self.pruned.reason(knobs, allocator) is not None:
            return 0
        law = self.costs.bytes_law(knobs, allocator)
        most = int(np.searchsorted(self.work.upper_footprints(self.batch_cap, law), self.budget_bytes, side="right"))
        return most if most >= self.least_batch else 0

    def most_graphs(self, fits: Callable[[int], bool]) -> int:
        """The largest batch up to the cap that `fits`, 0 if none does. A batch that fits must fit with fewer graphs too."""
        low, high = 0, self.batch_cap
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(middle) else (low, middle - 1)
        return low

    def best_choice(self, knobs: Knobs, stage: StageRules, level_share: float = LEVEL_SHARE) -> Choice | None:
        """`knobs` with the largest of the batches whose softened throughput is level with the best; None if no batch is admissible.

        Every allocator of the stage is considered; of two that hold the same batch, the faster is taken. Batches under the
        configured minimum are taken only if no other is admissible.
        """
        asked = (knobs, stage, level_share)
        if asked not in self._best:
            self._best[asked] = self._chosen(knobs, stage, level_share)
        return self._best[asked]

    def _chosen(self, knobs: Knobs, stage: StageRules, level_share: float) -> Choice | None:
        ways = [way for one in self.allocators_of(stage) for way in self._ways(knobs, stage, one, level_share)]
        ways = [way for way in ways if way.batch_size >= self.config.batch.min_batch] or ways
        if not ways:
            return None
        best = max(way.softened for way in ways)
        level = [way for way in ways if way.softened >= (1 - level_share) * best]
        chosen = max(level, key=lambda way: (way.batch_size, way.softened))
        return self.choice(knobs, stage, chosen.batch_size, chosen.allocator)

    def _ways(self, knobs: Knobs, stage: StageRules, allocator: Allocator, level_share: float) -> list[_Way]:
        """The best batch under `allocator` of those of the configured minimum, and of those below."""
        sizes = np.arange(self.least_batch, self.largest_batch(knobs, stage, allocator) + 1)
        if not len(sizes):
            return []
        step_s = self.costs.step_s(knobs, self.capacities[knobs], self.work.typical_sizes(sizes), allocator)
        softened = self.soften(sizes / step_s, step_s, stage)
        is_small = sizes < self.config.batch.min_batch
        found = []
        for among in (is_small, ~is_small):
            admissible = among & (softened > 0)
            if admissible.any():
                level = admissible & (softened >= (1 - level_share) * softened[admissible].max())
                place = int(np.flatnonzero(level)[-1])
                found.append(_Way(allocator, int(sizes[place]), float(softened[place])))
        return found

    def choice(self, knobs: Knobs, stage: StageRules, batch_size: int, allocator: Allocator | None = None) -> Choice:
        """`knobs` with a given batch size and allocator (None: the first of the stage's), and the predictions for it."""
        if allocator is None:
            allocator = self.allocators_of(stage)[0]
        law = self.costs.bytes_law(knobs, allocator)
        worst, typical = self.work.worst_load(batch_size, law), self.work.typical_load(batch_size)
        step_s = self.step_s(knobs, typical, allocator)
        capacity = self.capacities[knobs]
        throughput = batch_size / step_s
        return Choice(
            knobs=knobs,
            capacity=capacity,
            batch_size=batch_size,
            allocator=allocator,
            load=typical,
            live_bytes=law.live(worst),
            footprint_bound_bytes=law.upper_footprint(worst),
            step_s=step_s,
            cycle_s=step_s * self.config.cycle_batches,
            throughput=throughput,
            score=self.score(capacity, batch_size, np.array([step_s]), stage)[0],
        )

    def spread_of(self, choice: Choice) -> float:
        """Relative standard deviation of a choice's predicted step time, as a run would measure it."""
        return self.costs.spread_of_runs(choice.knobs, choice.capacity, sizes_row(choice.load), choice.allocator)

    def step_s(self, knobs: Knobs, load: Load, allocator: Allocator | None = None) -> float:
        """Predicted seconds of a step on `load`."""
        # An anchor need not be in the space; the parameters matter least to a step's time.
        return float(self.costs.step_s(knobs, self.capacities.get(knobs, 0), sizes_row(load), allocator)[0])

    def step_law(self, choice: Choice, step_s: float, load: Load) -> Affine:
        """The time model near the batch of `choice` as an affine law of the load, scaled to the `step_s` measured at `load`.

        No rate is negative, so a smaller load never takes longer.
        """
        from scipy.optimize import nnls  # a third of a second, which only fitting needs

        shared, typical = self.work.shared()[1], self.work.typical_sizes(np.array([choice.batch_size]))[0]
        picks = np.random.default_rng(self.config.seed).integers(len(shared), size=(LAW_POINTS, choice.batch_size))
        # The typical batch, smaller and larger, is added since random batches may all have one size.
        sizes = np.concatenate([shared[picks].sum(axis=1), np.outer(np.linspace(0.8, 1.2, LAW_POINTS), typical)])
        predicted_s = self.costs.step_s(choice.knobs, choice.capacity, sizes, choice.allocator)
        rows = np.concatenate([np.ones((len(sizes), 1)), sizes], axis=1)
        scale = np.maximum(rows.max(axis=0), 1e-9)
        parts_s = nnls(rows / scale, predicted_s)[0]
        parts_s[parts_s < NEGLIGIBLE * parts_s.max()] = 0.0
        here = np.array([1.0, *(load[name] for name in self.work.features)])
        base, *rates = parts_s / scale * (step_s / float(parts_s / scale @ here))
        return Affine(base=float(base), per_unit=tuple(zip(self.work.features, map(float, rates), strict=True)))

    def soften(self, throughput: _Floats, step_s: _Floats, stage: StageRules) -> _Floats:
        """Throughput as the stage values it: worth less and less beyond the target, and nothing beyond the window."""
        cycle_s = step_s * self.config.cycle_batches
        return throughput * worth(cycle_s, stage, self.config.score.late_worth)

    def score(self, capacity: int, batch_size: int, step_s: _Floats, stage: StageRules) -> list[float | None]:
        """The score of a model and batch for each of several step times; None before there is a reference."""
        if self.reference is None:
            return [None] * len(step_s)
        softened = self.soften(batch_size / step_s, step_s, stage)
        values = score(softened, np.array([capacity]), self.reference, stage.quality_weight, self.config.score)
        return [float(value) for value in values]


def sizes_row(load: Load) -> _Floats:
    """(1, features) of one load."""
    return np.array([[size for _, size in load.sizes]])
