"""The runner of a simulated machine: the interface of a real one, on a simulated clock."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compass.optimizer_config import MemoryRules
from compass.probe.settle import N_WARM_STEPS, is_settled, step_time
from compass.probe.simulation.kernels import step_seconds
from compass.probe.simulation.machines import Machine
from compass.probe.simulation.memory import BatchSizes, Counted, Memory, simulate_memory
from compass.probe.simulation.noise import measured_steps
from compass.probe.simulation.step import DEFAULT_OPTIONS, n_parameters
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
    digest,
)
from compass.units import format_bytes

_Floats = NDArray[np.float64]
FEATURES = ("nodes", "edges")
_BUILD_S = 0.15
"""Time to build a model and move it to the device."""
_PROFILED_FACTOR = 3.0
"""Factor on the time of a step under the memory profiler."""


def load_of(nodes: float, edges: float, graphs: int = 1) -> Load:
    """A load with the simulated workload's features."""
    return Load(graphs=graphs, sizes=(("nodes", nodes), ("edges", edges)))


DEFAULT_SAMPLES = (("pocket", load_of(400, 11_000)),)
"""As large and as dense as a pocket of 8 Å."""


@dataclass(frozen=True)
class _Refusal:
    """The first step whose memory is refused or spills."""

    step: int
    detail: str
    spilled: bool


@dataclass(frozen=True)
class _Course:
    """A probe on the simulated clock."""

    seconds: _Floats
    """Times of all steps that ran, (n,)."""
    timed: _Floats
    """Times of the steps with the last load after warm-up, (m,)."""
    refusal: _Refusal | None
    timed_out: bool


class SimulatedRunner:
    """A `Runner` with a simulated machine and a simulated clock: a probe returns in milliseconds.

    An outcome depends only on the seed, the spec, and the number of times that the spec was probed before. `true_step_s`,
    `true_live_bytes` and `true_footprint_bytes` are the noise-free truth. They serve to judge a search, which must not use
    them.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        seed: int = 0,
        samples: Sequence[tuple[str, Load]] = DEFAULT_SAMPLES,
        memory_limit_bytes: int | None = None,
        counted: Counted = "requested",
    ) -> None:
        """`counted` is the meaning of live bytes: PyTorch's `requested_bytes` or its `allocated_bytes`."""
        self.machine = machine
        self._counted = counted
        self.samples = dict(samples)
        self._seed = seed
        self._limit_bytes = memory_limit_bytes
        self._asked: Counter[str] = Counter()
        self._started = False

    # -------------------------------------------------------------------------------------------- runner protocol

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine, the samples' loads, and the trainable parameters of `knobs`."""
        return Description(
            fingerprint=Fingerprint(
                device=self.machine.name,
                driver="simulated",
                torch="simulated",
                versions=(),
                workload=digest("visnet", sorted(self.samples.items())),
            ),
            hardware=self._hardware(),
            features=FEATURES,
            baseline_bytes=self.machine.context_bytes,
            samples=tuple(self.samples.items()),
            parameters=tuple((k, n_parameters(k)) for k in knobs),
        )

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Simulate the training steps of `spec`."""
        count, self._asked[spec.key] = self._asked[spec.key], self._asked[spec.key] + 1
        start_s = _BUILD_S + (self.machine.startup_s if spec.fresh or not self._started else 0.0)
        self._started = True
        fault = self._fault(spec)
        if fault:
            return Outcome(status=Status.INVALID, detail=fault, wall_s=start_s)
        loads = [self._load(batch) for batch in spec.sequence]
        rng = np.random.default_rng(
            int.from_bytes(hashlib.blake2b(f"{self._seed}/{spec.key}/{count}".encode(), digest_size=8).digest(), "big")
        )
        memory = self._memory(spec.knobs, *loads)
        course = self._course(spec, loads, rng, start_s, refusal=self._refusal(memory, spec.ceiling_bytes))
        n_steps, wall_s = len(course.seconds), start_s + float(course.seconds.sum())
        if course.timed_out:
            detail = f"no answer within {spec.timeout_s:.0f} s"
            return Outcome(status=Status.TIMED_OUT, detail=detail, n_steps=n_steps, wall_s=spec.timeout_s)
        if course.refusal is not None:
            detail = course.refusal.detail
            return Outcome(
                status=Status.OUT_OF_MEMORY,
                detail=detail,
                enforced=spec.ceiling_bytes is not None,
                n_steps=n_steps,
                wall_s=wall_s,
            )
        profiled = loads[len(spec.batches) - 1]
        last = memory if spec.timed is None else self._memory(spec.knobs, profiled)
        return Outcome(
            status=Status.OK,
            enforced=spec.ceiling_bytes is not None,
            load=profiled,
            timed_load=None if spec.timed is None else loads[-1],
            parameters=n_parameters(spec.knobs),
            step=step_time(course.timed.tolist()),
            live_bytes=max(memory.live_bytes[:n_steps]),
            segments=last.segments if spec.profile else (),
            footprint_bytes=memory.reserved_bytes[:n_steps][-1] + self.machine.context_bytes,
            baseline_bytes=self.machine.context_bytes,
            n_steps=n_steps,
            wall_s=wall_s,
        )

    def close(self) -> None:
        """End the simulated process: the next probe starts a new one."""
        self._started = False

    # ------------------------------------------------------------------------------------------ noise-free truth

    def true_step_s(self, knobs: Knobs, load: Load) -> float:
        """Seconds of a settled step at the sustained clock, without noise."""
        return float(self.true_steps_s(knobs, np.array([load["nodes"]]), np.array([load["edges"]]))[0])

    def true_steps_s(self, knobs: Knobs, nodes: _Floats, edges: _Floats) -> _Floats:
        """`true_step_s` of many loads at once, (b,)."""
        return step_seconds(self.machine, knobs, nodes, edges)[0]

    def true_live_bytes(self, knobs: Knobs, load: Load) -> int:
        """Peak of live bytes in training on `load` repeatedly."""
        return max(self._memory(knobs, load).live_bytes)

    def true_footprint_bytes(self, knobs: Knobs, load: Load) -> int:
        """Reserved and context bytes of a fresh process that trains on `load` repeatedly."""
        return self._memory(knobs, load).reserved_bytes[-1] + self.machine.context_bytes

    # --------------------------------------------------------------------------------------------------- internals

    def _memory(self, knobs: Knobs, *loads: Load) -> Memory:
        machine = self.machine
        return simulate_memory(
            knobs,
            tuple(map(_sizes, loads)),
            machine.cublas_workspace_bytes,
            self._counted,
            expandable=not machine.spills,
        )

    def _hardware(self) -> Hardware:
        machine = self.machine
        usable = machine.total_bytes - machine.others_bytes
        budget = usable - int(MemoryRules().reserve_share * machine.total_bytes)
        return Hardware(
            kind="cuda",
            name=machine.name,
            driver="simulated",
            total_bytes=machine.total_bytes,
            free_bytes=usable,
            others_bytes=machine.others_bytes,
            limit_bytes=self._limit_bytes,
            budget_bytes=budget if self._limit_bytes is None else min(usable, self._limit_bytes),
            expandable_segments=not machine.spills,
        )

    def _load(self, batch: Batch) -> Load:
        return batch.load(self.samples)

    def _fault(self, spec: ProbeSpec) -> str:
        """The reason why the real family could not run `spec`; empty if it could."""
        options = DEFAULT_OPTIONS | dict(spec.knobs.variant.options)
        heads, lmax = int(options["heads"]), int(options["lmax"])
        if spec.knobs.channels % heads:
            return f"channels: got {spec.knobs.channels}, expected a multiple of the {heads} heads"
        if lmax not in (1, 2):
            return f"lmax: got {lmax}, expected 1 or 2"
        for batch in (*spec.sequence, *spec.evaluated):
            unknown = [name for name, _ in batch.members if name not in self.samples]
            if unknown:
                return f"there is no sample {unknown[0]!r}"
            if batch.synthetic is None and not batch.members:
                return "a batch is empty"
        return ""

    def _refusal(self, memory: Memory, ceiling_bytes: int | None) -> _Refusal | None:
        """The refusal of `memory` by the device or the ceiling; None if all of it fits."""
        physical = self.machine.total_bytes - self.machine.others_bytes
        ceiling = min(physical, ceiling_bytes or physical)
        for step, reserved in enumerate(memory.reserved_bytes):
            footprint = reserved + self.machine.context_bytes
            if footprint <= ceiling:
                continue
            if self.machine.spills and ceiling == physical:
                detail = (
                    f"spilled: {format_bytes(footprint)} reserved, {format_bytes(physical)} of device memory, "
                    "the rest moved to the host's"
                )
                return _Refusal(step, detail, spilled=True)
            detail = f"CUDA out of memory: {format_bytes(footprint)} needed, {format_bytes(ceiling)} allowed"
            return _Refusal(step, detail, spilled=False)
        return None

    def _course(
        self,
        spec: ProbeSpec,
        loads: list[Load],
        rng: np.random.Generator,
        start_s: float,
        *,
        refusal: _Refusal | None,
    ) -> _Course:
        """The steps on the clock: each batch once, the last one until its time has settled, and one more if profiled.

        A step whose memory is refused takes no time and does not count. One that spills runs slowly and is the last.
        """
        settled = {load: step_seconds(self.machine, spec.knobs, *_arrays(load)) for load in loads}
        in_order = [loads[min(step, len(loads) - 1)] for step in range(spec.max_steps)]
        settled_s = np.array([float(settled[load][0][0]) for load in in_order])
        host_s = np.array([settled[load][1] for load in in_order])
        seconds = measured_steps(self.machine, settled_s, host_s, rng)
        is_last = np.array([load == loads[-1] for load in in_order])
        n_steps, timed = _settle(spec, seconds, is_last)
        seconds = seconds[:n_steps]
        if spec.profile:
            seconds = np.append(seconds, settled_s[-1] * _PROFILED_FACTOR)
        if refusal is not None and refusal.step >= len(seconds):
            refusal = None  # the probe ended before
        if refusal is not None:
            slow = seconds[refusal.step : refusal.step + refusal.spilled] * self.machine.spill_slowdown
            seconds = np.concatenate([seconds[: refusal.step], slow])
        ends_s = start_s + np.cumsum(seconds)
        n_in_time = int(np.searchsorted(ends_s, spec.timeout_s, side="right"))
        timed_out = n_in_time < len(seconds) or start_s > spec.timeout_s
        return _Course(seconds[:n_in_time], timed, refusal, timed_out)


def _settle(spec: ProbeSpec, seconds: _Floats, is_last: NDArray[np.bool_]) -> tuple[int, _Floats]:
    """(steps run, times of the last load's steps after warm-up), by the rules of `compass.probe.measure`."""
    n_warm = min(N_WARM_STEPS, spec.min_steps - 1)
    warm = is_last & (np.arange(len(seconds)) >= n_warm)
    for n in range(min(max(spec.min_steps, len(spec.sequence)), spec.max_steps), spec.max_steps):
        timed = seconds[:n][warm[:n]]
        if len(timed) and (
            spec.min_steps == spec.max_steps or is_settled(step_time(timed.tolist()), spec.settle_share)
        ):
            return n, timed
    timed = seconds[warm]
    return spec.max_steps, timed if len(timed) else seconds[-1:]


def _sizes(load: Load) -> BatchSizes:
    return load.graphs, round(load["nodes"]), round(load["edges"])


def _arrays(load: Load) -> tuple[_Floats, _Floats]:
    return np.array([load["nodes"]]), np.array([load["edges"]])
