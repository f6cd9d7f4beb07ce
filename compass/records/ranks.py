"""Several ranks that train one model together: what that costs each of them, and what a plan promises for all."""

from __future__ import annotations

from pydantic import Field

from compass.records.base import Record
from compass.records.probing import Outcome, ProbeSpec, StepTime

LEAST_COMPUTING = 0.1
"""Share of a step that is taken to be computing, however long the predicted all-reduce: the prediction may be of a larger model."""


class RankCosts(Record):
    """What a rank holds and waits for beyond a process that trains alone, from one probe of all ranks and one of a single process."""

    n_ranks: int = Field(ge=2)
    """Ranks of the probe."""
    host_bytes: int = Field(ge=0)
    """Footprint that does not depend on the model: threads, buffers and contexts of gloo or NCCL."""
    slowdown: float = Field(ge=1)
    """Step of a rank without its all-reduce / step of a process alone: ranks of one CPU share its caches and memory bus."""
    sync_s: float = Field(ge=0)
    """Seconds of the probe's step in the exposed part of the all-reduce."""
    latency_s: float = Field(ge=0, default=0.0)
    """The part of `sync_s` that does not grow with the model."""
    capacity: int = Field(ge=1)
    """Trainable parameters of the probe's model."""

    def sync_of(self, capacity: int, n_ranks: int) -> float:
        """The exposed all-reduce of `n_ranks` that train `capacity` parameters, in seconds.

        In a ring each rank sends 2·(n − 1)/n times the gradients, in 2·(n − 1) messages (Patarasuk & Yuan, 2009).
        """
        if n_ranks == 1:
            return 0.0
        more = (n_ranks - 1) / (self.n_ranks - 1)
        sending_s = (self.sync_s - self.latency_s) * capacity / self.capacity
        return self.latency_s * more + sending_s * more * self.n_ranks / n_ranks

    def step_s(self, alone_s: float, capacity: int, n_ranks: int | None = None) -> float:
        """A rank's step, of the step of a process alone; `n_ranks` by default as in the probe."""
        n_ranks = n_ranks or self.n_ranks
        return alone_s if n_ranks == 1 else alone_s * self.slowdown + self.sync_of(capacity, n_ranks)

    def alone_s(self, step_s: float, capacity: int) -> float:
        """The step of a process alone, of a rank's in as many ranks as the probe had."""
        computing_s = step_s - self.sync_of(capacity, self.n_ranks)
        return max(LEAST_COMPUTING * step_s, computing_s) / self.slowdown

    def alone(self, spec: ProbeSpec, outcome: Outcome, capacity: int) -> tuple[ProbeSpec, Outcome]:
        """A probe of several ranks as one process would have met it, for fits of what one process does."""
        ceiling, held, step = spec.ceiling_bytes, outcome.footprint_bytes, outcome.step
        of_one = {
            "footprint_bytes": None if held is None else max(outcome.baseline_bytes or 0, held - self.host_bytes),
            "step": None if step is None else self._alone_time(step, capacity),
        }
        ceiling_bytes = None if ceiling is None else ceiling - self.host_bytes
        return (
            spec.model_copy(update={"ranks": 1, "ceiling_bytes": ceiling_bytes}),
            outcome.model_copy(update=of_one),
        )

    def _alone_time(self, step: StepTime, capacity: int) -> StepTime:
        low_s, median_s, high_s = (self.alone_s(s, capacity) for s in (step.low_s, step.median_s, step.high_s))
        mean_s = None if step.mean_s is None else self.alone_s(step.mean_s, capacity)
        return StepTime(median_s=median_s, low_s=low_s, high_s=high_s, n_steps=step.n_steps, mean_s=mean_s)


class RankShare(Record):
    """What one of several unequal ranks may hold, and how fast it is."""

    budget_bytes: int = Field(gt=0)
    """The largest footprint of its process."""
    speed: float = Field(gt=0)
    """Steps per second, relative to a rank of speed 1."""


class DevicesRow(Record):
    """What a number of devices buys for one plan."""

    n_devices: int
    """Devices like those of the plan, over all machines; of a CPU, shares of as many cores as one rank has."""
    batch_size: int
    """Graphs per batch of each rank."""
    global_batch: int
    """Graphs of all ranks in a step."""
    accumulate: int
    """Batches of each rank per weight update."""
    step_s: float
    """Of the slowest rank, with the exposed all-reduce."""
    throughput: float
    """Graphs per second of all ranks, with the waiting for the slowest one."""
    epoch_s: float
    """Seconds of a pass over all complexes."""
    efficiency: float
    """Throughput / (devices × throughput of one)."""
    imbalance: float | None
    """Predicted time that ranks wait for the slowest one, as a share of their own; None: no data to pack."""
    is_measured: bool = False
    """Whether these ranks ran; other rows are predictions."""


class RanksPlan(Record):
    """What the ranks of a plan do together."""

    n_devices: int = Field(ge=1)
    """Ranks per machine, each with a device of its own or a share of the cores."""
    n_nodes: int = Field(ge=1, default=1)
    """Machines. The ranks of one of them were run."""
    global_batch: int
    """Graphs of all ranks in a step."""
    efficiency: float
    """Throughput / (ranks × throughput of one)."""
    imbalance: float | None
    """Predicted time that ranks wait for the slowest one, as a share of their own; None: no data to pack."""
    costs: RankCosts
    """What a rank holds and waits for beyond a process that trains alone."""
    shares: tuple[RankShare, ...] = ()
    """What each rank may hold and how fast it is, where they differ and loads by their speed were certified; empty: equal loads."""
    gain: float = 1.0
    """Measured throughput with loads by speed / with equal ones."""
    devices: tuple[DevicesRow, ...]
    """What other numbers of devices would buy."""

    @property
    def n_ranks(self) -> int:
        """Processes that train together."""
        return self.n_devices * self.n_nodes

    @property
    def speedup(self) -> float:
        """Throughput of all ranks / throughput of a rank that waits for none."""
        return self.gain * self.n_ranks / (1 + (self.imbalance or 0.0))
