"""Answers probes by a scenario's physics, on a clock of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import numpy as np

from benchmarks.foreign.family import Floats
from benchmarks.foreign.physics import Failure
from benchmarks.foreign.scenarios import ForeignScenario
from compass.probe.segment_names import block_name, by_ends
from compass.probe.settle import N_WARM_STEPS, after_warming, is_settled, step_time
from compass.records import (
    Batch,
    Description,
    Fingerprint,
    Hardware,
    Knobs,
    Load,
    Outcome,
    ProbeSpec,
    Status,
)
from compass.units import format_bytes

START_S = 3.0
"""Seconds until a new process is ready."""
MICRO_SIZES = ((100.0, 900.0), (300.0, 2_700.0), (300.0, 9_900.0), (200.0, 1_800.0))
"""(nodes, edges) of the small synthetic loads of families with a third feature."""


class ForeignRunner:
    """A machine that exists only as formulas. Equal questions have equal answers, by how often they were asked before."""

    def __init__(self, scenario: ForeignScenario) -> None:
        self._scenario, self._physics = scenario, scenario.physics
        self._loads = dict(scenario.samples)
        self._asked: Counter[str] = Counter()

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine, the samples, and the parameters of `knobs`."""
        machine, physics = self._physics.machine, self._physics
        name = f"{physics.name} {self._scenario.seed}/{self._scenario.number}"
        hardware = Hardware(
            kind=machine.kind,
            name=name,
            driver="none",
            total_bytes=machine.total_bytes,
            free_bytes=machine.budget_bytes,
            others_bytes=machine.total_bytes - machine.budget_bytes,
            budget_bytes=machine.budget_bytes,
            expandable_segments=machine.expandable,
        )
        return Description(
            fingerprint=Fingerprint(device=name, driver="none", torch="none", versions=(), workload=physics.name),
            hardware=hardware,
            features=physics.features,
            baseline_bytes=machine.context_bytes,
            samples=self._scenario.samples,
            parameters=tuple((one, physics.family.parameters(one)) for one in knobs),
            micro_batches=self._micro_batches(),
        )

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Run the steps of `spec`."""
        n_before = self._asked.total()
        rng = np.random.default_rng([self._scenario.seed, int(spec.key, 16), self._asked[spec.key]])
        self._asked[spec.key] += 1
        failure = self._physics.accident(n_before) or self._physics.failure(spec.knobs)
        if failure is not None:
            return self._failed(spec, failure, 0, 0.0)
        return self._run(spec, rng)

    def close(self) -> None:
        """Nothing to release."""

    def _run(self, spec: ProbeSpec, rng: np.random.Generator) -> Outcome:
        physics, machine, knobs = self._physics, self._physics.machine, spec.knobs
        loads = [batch.load(self._loads) for batch in spec.sequence]
        settled_s = [self._step_s(spec, load) for load in loads]
        limit_bytes = machine.total_bytes if spec.ceiling_bytes is None else spec.ceiling_bytes
        pace = float(np.exp(rng.normal(0, machine.process_sigma)))
        n_warm, n_least = min(N_WARM_STEPS, spec.min_steps - 1), max(spec.min_steps, len(loads))
        seen: set[Load] = set()
        timed_s: list[float] = []
        n_steps, elapsed_s, peak_bytes = 0, 0.0, machine.context_bytes
        while n_steps < max(spec.max_steps, n_least):
            place = min(n_steps, len(loads) - 1)
            load = loads[place]
            if n_steps < len(loads):
                seen.add(load)
                peak_bytes = max(peak_bytes, self._footprint_bytes(spec, load, len(seen)))
                if peak_bytes > limit_bytes:
                    detail = f"CUDA out of memory: {format_bytes(peak_bytes)} of {format_bytes(limit_bytes)}"
                    failure = Failure(Status.OUT_OF_MEMORY, detail)
                    return self._failed(spec, failure, n_steps, elapsed_s, load, peak_bytes)
            step_s = settled_s[place] * pace * physics.slowness(n_steps, elapsed_s, rng)
            n_steps, elapsed_s = n_steps + 1, elapsed_s + step_s
            if elapsed_s > spec.timeout_s:
                failure = Failure(Status.TIMED_OUT, f"still running after {spec.timeout_s:.0f} s")
                return self._failed(spec, failure, n_steps, elapsed_s, load)
            if n_steps > n_warm and load == loads[-1]:
                timed_s.append(step_s)
            if n_steps >= n_least and is_settled(step_time(after_warming(timed_s)), spec.settle_share):
                break
        profiled = spec.batches[-1].load(self._loads)
        segments = self._segments(knobs, profiled)
        return Outcome(
            status=Status.OK,
            load=profiled,
            timed_load=None if spec.timed is None else loads[-1],
            parameters=physics.family.parameters(knobs),
            step=step_time(after_warming(timed_s)),
            live_bytes=max(n_bytes for _, n_bytes in segments),
            segments=segments if spec.profile else (),
            footprint_bytes=peak_bytes,
            baseline_bytes=machine.context_bytes,
            collate_s=1e-4 * profiled.graphs,
            update_s=physics.update_s(knobs),
            enforced=spec.ceiling_bytes is not None,
            left_bytes=0,
            others_cores=0.0,
            n_steps=n_steps + spec.profile,
            wall_s=elapsed_s + (START_S if spec.fresh else 0.1),
        )

    def _failed(
        self,
        spec: ProbeSpec,
        failure: Failure,
        n_steps: int,
        elapsed_s: float,
        load: Load | None = None,
        peak_bytes: int | None = None,
    ) -> Outcome:
        return Outcome(
            status=failure.status,
            detail=failure.detail,
            load=load or spec.batches[0].load(self._loads),
            footprint_bytes=peak_bytes,
            baseline_bytes=self._physics.machine.context_bytes,
            enforced=spec.ceiling_bytes is not None,
            n_steps=n_steps,
            wall_s=elapsed_s + START_S,
        )

    def _step_s(self, spec: ProbeSpec, load: Load) -> float:
        return float(self._physics.step_s(spec.knobs, sizes_of(load), spec.runtime.allocator)[0])

    def _footprint_bytes(self, spec: ProbeSpec, load: Load, n_different: int) -> int:
        found = self._physics.footprint_bytes(spec.knobs, sizes_of(load), spec.runtime.allocator, n_different)
        return int(found[0])

    def _segments(self, knobs: Knobs, load: Load) -> tuple[tuple[str, int], ...]:
        named: dict[str, int] = {}
        for name, n_bytes in self._physics.segments(knobs, sizes_of(load)).items():
            phase, _, place = name.partition(":")
            block = block_name(int(place), knobs.layers) if place.isdigit() else place
            named[f"{phase}:{block}" if block else phase] = int(np.ravel(n_bytes)[0])
        return by_ends(named, knobs.layers)

    def _micro_batches(self) -> tuple[Batch, ...]:
        features = self._physics.features
        if len(features) == 2:
            return ()
        rows = [(nodes, edges, _third(features[2], nodes, edges)) for nodes, edges in MICRO_SIZES]
        if features[2] == "triplets":
            rows[-1] = (*rows[-1][:2], rows[-1][2] * 2)
        return tuple(Batch(synthetic=Load(graphs=1, sizes=tuple(zip(features, row, strict=True)))) for row in rows)


def _third(feature: str, nodes: float, edges: float) -> float:
    """The third feature of a graph with equally many edges at every node."""
    return {"triplets": edges**2 / nodes, "nodes_squared": nodes**2}[feature]


def sizes_of(load: Load) -> Floats:
    """(1, F) of one load."""
    return np.array([[size for _, size in load.sizes]])
