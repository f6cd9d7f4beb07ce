"""Probes on a machine that does not exist, through the interface of the real ones, on a clock of their own."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from compass.optimizer_config import MemoryRules
from compass.probe.simulation.kernels import Array, step_seconds
from compass.probe.simulation.machines import Machine
from compass.probe.simulation.memory import Memory, Sizes, simulate_memory
from compass.probe.simulation.noise import N_WARM_UP, measured_steps, median_of
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

FEATURES = ("nodes", "edges")
_BUILD_S = 0.15
"""Building a model and moving it to the device."""
_PROFILED_FACTOR = 3.0
"""A step under the memory profiler."""


def load_of(nodes: float, edges: float, graphs: int = 1) -> Load:
    """A load as the simulated workload declares it."""
    return Load(graphs=graphs, sizes=(("nodes", nodes), ("edges", edges)))


DEFAULT_SAMPLES = (("pocket", load_of(400, 11_000)),)
"""A pocket of 8 Å in size and density."""


@dataclass(frozen=True)
class _Refusal:
    """The first step whose memory is refused, or spills."""

    step: int
    detail: str
    spilled: bool


@dataclass(frozen=True)
class _Course:
    """How a probe went on the simulated clock."""

    seconds: Array
    """Of each step that ran, (n,)."""
    timed: Array
    """Settled steps of the last batch, (m,)."""
    refusal: _Refusal | None
    timed_out: bool


class SimulatedRunner:
    """A `Runner` whose machine is physics and whose clock is virtual: no probe waits for anything.

    An outcome depends on the seed, on what was asked and on how often it was asked before, on nothing else.
    `true_step_s`, `true_live_bytes` and `true_footprint_bytes` are the noise-free truth, for oracles and judges; whoever
    searches must not look at them.
    """

    def __init__(
        self,
        machine: Machine,
        *,
        seed: int = 0,
        samples: Sequence[tuple[str, Load]] = DEFAULT_SAMPLES,
        memory_limit_bytes: int | None = None,
    ) -> None:
        self.machine = machine
        self.samples = dict(samples)
        self._seed = seed
        self._limit_bytes = memory_limit_bytes
        self._asked: Counter[str] = Counter()
        self._started = False

    # ------------------------------------------------------------------------------------------------- the protocol

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine, the samples' loads, and the trainable parameters of `knobs`."""
        return Description(
            fingerprint=Fingerprint(
                device=self.machine.name, driver="simulated", torch="simulated", versions=(),
                workload=digest("visnet", sorted(self.samples.items())),
            ),
            hardware=self._hardware(),
            features=FEATURES,
            baseline_bytes=self.machine.context_bytes,
            samples=tuple(self.samples.items()),
            parameters=tuple((k, n_parameters(k)) for k in knobs),
        )  # fmt: skip

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Run the training steps `spec` asks for, on paper."""
        count, self._asked[spec.key] = self._asked[spec.key], self._asked[spec.key] + 1
        start_s = _BUILD_S + (self.machine.startup_s if spec.fresh or not self._started else 0.0)
        self._started = True
        fault = self._fault(spec)
        if fault:
            return Outcome(status=Status.INVALID, detail=fault, wall_s=start_s)
        loads = [self._load(batch) for batch in spec.batches]
        rng = np.random.default_rng(int.from_bytes(
            hashlib.blake2b(f"{self._seed}/{spec.key}/{count}".encode(), digest_size=8).digest(), "big"
        ))  # fmt: skip
        memory = simulate_memory(spec.knobs, tuple(map(_sizes, loads)), self.machine.cublas_workspace_bytes)
        course = self._course(spec, loads, rng, start_s, refusal=self._refusal(memory, spec.ceiling_bytes))
        n_steps = len(course.seconds)
        ran = {"load": loads[-1], "n_steps": n_steps, "wall_s": start_s + float(course.seconds.sum())}
        if course.timed_out:
            detail = f"killed after {spec.timeout_s:.0f} s, in step {n_steps}"
            return Outcome(status=Status.TIMED_OUT, detail=detail, **ran | {"wall_s": spec.timeout_s})
        if course.refusal is not None:
            return Outcome(status=Status.OUT_OF_MEMORY, detail=course.refusal.detail, **ran)
        return Outcome(
            status=Status.OK,
            parameters=n_parameters(spec.knobs),
            step=median_of(course.timed),
            live_bytes=max(memory.live_bytes[:n_steps]),
            segments=memory.segments if spec.profile else (),
            footprint_bytes=memory.reserved_bytes[:n_steps][-1] + self.machine.context_bytes,
            baseline_bytes=self.machine.context_bytes,
            **ran,
        )

    def close(self) -> None:
        """The next probe starts a process again."""
        self._started = False

    # ---------------------------------------------------------------------------------------------------- the truth

    def true_step_s(self, knobs: Knobs, load: Load) -> float:
        """Seconds of a settled step at the sustained clock, without noise."""
        return float(self.true_steps_s(knobs, np.array([load["nodes"]]), np.array([load["edges"]]))[0])

    def true_steps_s(self, knobs: Knobs, nodes: Array, edges: Array) -> Array:
        """`true_step_s` of many loads at once, (b,)."""
        return step_seconds(self.machine, knobs, nodes, edges)[0]

    def true_live_bytes(self, knobs: Knobs, load: Load) -> int:
        """Peak of allocated bytes when training on `load` again and again."""
        return max(self._memory(knobs, load).live_bytes)

    def true_footprint_bytes(self, knobs: Knobs, load: Load) -> int:
        """Reserved and context bytes of a fresh process that trains on `load` again and again."""
        return self._memory(knobs, load).reserved_bytes[-1] + self.machine.context_bytes

    # --------------------------------------------------------------------------------------------------- the inside

    def _memory(self, knobs: Knobs, load: Load) -> Memory:
        return simulate_memory(knobs, (_sizes(load),), self.machine.cublas_workspace_bytes)

    def _hardware(self) -> Hardware:
        machine = self.machine
        usable = machine.total_bytes - machine.others_bytes
        budget = int(usable * (1.0 - MemoryRules().reserve_share))
        return Hardware(
            kind="cuda", name=machine.name, driver="simulated", total_bytes=machine.total_bytes, free_bytes=usable,
            others_bytes=machine.others_bytes, limit_bytes=self._limit_bytes,
            budget_bytes=budget if self._limit_bytes is None else min(budget, self._limit_bytes),
        )  # fmt: skip

    def _load(self, batch: Batch) -> Load:
        if batch.synthetic is not None:
            return batch.synthetic
        loads = [self.samples[name] * copies for name, copies in batch.members]
        return sum(loads[1:], loads[0])

    def _fault(self, spec: ProbeSpec) -> str:
        """Why the real family could not run this; empty if it could."""
        options = DEFAULT_OPTIONS | dict(spec.knobs.variant.options)
        heads, lmax = int(options["heads"]), int(options["lmax"])
        if spec.knobs.channels % heads:
            return f"channels: got {spec.knobs.channels}, expected a multiple of the {heads} heads"
        if lmax not in (1, 2):
            return f"lmax: got {lmax}, expected 1 or 2"
        for batch in spec.batches:
            unknown = [name for name, _ in batch.members if name not in self.samples]
            if unknown:
                return f"sample {unknown[0]!r} is not known"
            if batch.synthetic is None and not batch.members:
                return "a batch is empty"
        return ""

    def _refusal(self, memory: Memory, ceiling_bytes: int | None) -> _Refusal | None:
        """What the device or the ceiling says to `memory`; None if all of it fits."""
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
        """The steps on the clock: the batches in order, the last until settled, one more profiled.

        A step that is refused memory takes no time and is not counted; one that spills runs, slowly, and is the last.
        """
        n_lead = len(loads) - 1
        n_most = n_lead + spec.max_steps
        distinct = {load: step_seconds(self.machine, spec.knobs, *_arrays(load)) for load in loads}
        settled_s = np.array([float(distinct[load][0][0]) for load in loads] + [0.0] * (n_most - len(loads)))
        settled_s[n_lead:] = settled_s[n_lead]
        host_s = np.full(n_most, distinct[loads[-1]][1])
        seconds = measured_steps(self.machine, settled_s, host_s, rng)
        n_steps, n_warm = self._n_settled(spec, seconds, n_lead)
        timed = seconds[n_lead + n_warm : n_steps]
        seconds = seconds[:n_steps]
        if spec.profile:
            seconds = np.append(seconds, settled_s[-1] * _PROFILED_FACTOR)
        if refusal is not None and refusal.step >= len(seconds):
            refusal = None  # over before it came to that
        if refusal is not None:
            slow = seconds[refusal.step : refusal.step + refusal.spilled] * self.machine.spill_slowdown
            seconds = np.concatenate([seconds[: refusal.step], slow])
        ends_s = start_s + np.cumsum(seconds)
        n_in_time = int(np.searchsorted(ends_s, spec.timeout_s, side="right"))
        timed_out = n_in_time < len(seconds) or start_s > spec.timeout_s
        return _Course(seconds[:n_in_time], timed, refusal, timed_out)

    def _n_settled(self, spec: ProbeSpec, seconds: Array, n_lead: int) -> tuple[int, int]:
        """(steps in all when the last batch's time has settled, how many of its first are warm-up)."""
        n_warm = min(max(0, N_WARM_UP - n_lead), spec.max_steps - 1)
        for n in range(min(spec.min_steps, spec.max_steps), spec.max_steps):
            if n <= n_warm:
                continue
            step = median_of(seconds[n_lead + n_warm : n_lead + n])
            if (step.high_s - step.low_s) / 2 <= spec.settle_share * step.median_s:
                return n_lead + n, n_warm
        return n_lead + spec.max_steps, n_warm


def _sizes(load: Load) -> Sizes:
    return load.graphs, round(load["nodes"]), round(load["edges"])


def _arrays(load: Load) -> tuple[Array, Array]:
    return np.array([load["nodes"]]), np.array([load["edges"]])
