"""All predictions of a configuration's cost: memory, footprint, step time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from compass.cost.allocator_time import AllocatorTimes, fit_allocator_times
from compass.cost.footprint import FootprintModel, fit_footprint
from compass.cost.memory import MemoryModel, fit_memory, shape_of
from compass.cost.observation import Probe
from compass.cost.time import TimeModel, fit_time
from compass.cost.time_form import has_timing
from compass.optimizer_config import MemoryRules
from compass.records import Allocator, BytesLaw, Choice, Description, Knobs, RuntimeSettings


@dataclass(frozen=True)
class CostModels:
    """Memory and time, fitted to all probes so far.

    Where an allocator may be named, None stands for the calibration's.
    """

    memory: MemoryModel
    footprint: FootprintModel
    time: TimeModel
    allocators: AllocatorTimes
    _laws: dict[tuple[Knobs, Allocator], BytesLaw] = field(init=False, default_factory=dict, compare=False, repr=False)
    """The laws that were asked for: a ranking asks for the same several times."""

    def hopeful(self) -> CostModels:
        """The same with the memory margins that models would have if they were probed."""
        return replace(self, memory=self.memory.hopeful())

    def bytes_law(self, knobs: Knobs, allocator: Allocator) -> BytesLaw:
        """The memory of `knobs` as a function of the load."""
        if (knobs, allocator) not in self._laws:
            self._laws[knobs, allocator] = self._made_law(knobs, allocator)
        return self._laws[knobs, allocator]

    def _made_law(self, knobs: Knobs, allocator: Allocator) -> BytesLaw:
        law = self.footprint.complete(self.memory.law(knobs), knobs, allocator)
        extra_bytes = law.footprint_ratio * self.memory.margin(knobs)[1]
        return law.model_copy(update={"baseline_bytes": law.baseline_bytes + math.ceil(extra_bytes)})

    def step_s(
        self, knobs: Knobs, capacity: int, sizes: NDArray[np.float64], allocator: Allocator | None = None
    ) -> NDArray[np.float64]:
        """Predicted seconds of a step (n,) at `sizes` (n, features)."""
        step_s = self.time.step_s(knobs, capacity, sizes)
        if allocator is None or allocator == self.allocators.base:
            return step_s
        return np.asarray(step_s * np.exp(self.allocators.log_factor(allocator, knobs, step_s)), dtype=np.float64)

    def launch_s(self, knobs: Knobs) -> float:
        """Predicted seconds for launching a step's kernels, which is the same for every load."""
        return self.time.form_of(knobs.variant).launch_s(knobs)

    def spread(
        self, knobs: Knobs, capacity: int, sizes: NDArray[np.float64], allocator: Allocator | None = None
    ) -> float:
        """Relative standard deviation of the prediction for `knobs` at one load of `sizes` (1, features)."""
        own = self._spread_of_factor(knobs, capacity, sizes, allocator)
        return float(np.hypot(self.time.spread(knobs, capacity, sizes), own))

    def spread_of_runs(
        self, knobs: Knobs, capacity: int, sizes: NDArray[np.float64], allocator: Allocator | None = None
    ) -> float:
        """The same for the measurement of a run, which includes the machine's noise."""
        own = self._spread_of_factor(knobs, capacity, sizes, allocator)
        return float(np.hypot(self.time.spread_of_runs(knobs, capacity, sizes), own))

    def covariance(self, choices: Sequence[Choice]) -> NDArray[np.float64]:
        """(n, n) of the logarithms of the predicted steps of `choices`. What another allocator changes is each choice's own."""
        found = self.time.covariance(choices)
        own = [
            self._spread_of_factor(
                one.knobs, one.capacity, np.array([[size for _, size in one.load.sizes]]), one.allocator
            )
            for one in choices
        ]
        return np.asarray(found + np.diag(np.square(own)), dtype=np.float64)

    def _spread_of_factor(
        self, knobs: Knobs, capacity: int, sizes: NDArray[np.float64], allocator: Allocator | None
    ) -> float:
        """The spread of the factor between the calibration's allocator and `allocator`."""
        if allocator is None:
            return 0.0
        base_s = float(self.time.step_s(knobs, capacity, sizes)[0])
        return self.allocators.spread(allocator, knobs, base_s)

    def is_timed(self, knobs: Knobs) -> bool:
        """Whether `knobs` themselves were timed."""
        return self.time.is_timed(knobs)


def fit_costs(
    description: Description,
    probes: Sequence[Probe],
    rules: MemoryRules,
    runtime: RuntimeSettings,
    capacities: Mapping[Knobs, int] = MappingProxyType({}),
) -> CostModels:
    """Fit every model to `probes`, oldest first. Step times depend on the runtime settings.

    The time model is of those under `runtime`; under another allocator, but otherwise equal settings, probes tell how that one
    changes a step. `capacities` are the counted parameters of the models to predict.
    """
    on_cpu = description.hardware.on_host
    # A fresh process has loaded the libraries that training will load; the worker that describes the machine has not.
    fresh = (p.outcome.baseline_bytes for p in probes if p.spec.fresh and p.spec.ceiling_bytes is None)
    baseline_bytes = next(filter(None, fresh), description.baseline_bytes)
    counted = {shape_of(knobs): count for knobs, count in capacities.items()}
    memory = fit_memory(description.features, probes, margin_floor=rules.live_margin, parameters=counted)
    time = fit_time(
        description.features, _timings([p for p in probes if p.spec.runtime == runtime]), overlapping=not on_cpu
    )
    elsewhere = [
        p for p in probes if _differs_in_allocator(p.spec.runtime, runtime) and time.knows(p.spec.knobs.variant)
    ]
    timed = [p for p in _timings(elsewhere) if has_timing(p)]
    return CostModels(
        memory=memory,
        footprint=fit_footprint(rules, probes, memory, description.hardware, baseline_bytes=baseline_bytes),
        time=time,
        allocators=fit_allocator_times(runtime.allocator, [(p, time.step_of(p, description.features)) for p in timed]),
    )


def _differs_in_allocator(one: RuntimeSettings, other: RuntimeSettings) -> bool:
    same = {"allocator": other.allocator, "library": other.library}
    return one.allocator != other.allocator and one.model_copy(update=same) == other


def _timings(probes: Sequence[Probe]) -> list[Probe]:
    """The probes to fit times to. Where a model was trained, the last cycle of each batch size replaces its probes.

    Otherwise both would count alike, since the fit does not weight hundreds of steps more than five.
    """
    trained = {
        (probe.spec.knobs, probe.outcome.timed_load.graphs): probe
        for probe in probes
        if probe.outcome.source == "training" and probe.outcome.ok and probe.outcome.timed_load is not None
    }
    models = {knobs for knobs, _ in trained}
    return [probe for probe in probes if probe.spec.knobs not in models] + list(trained.values())
