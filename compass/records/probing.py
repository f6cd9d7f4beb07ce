"""Requests to a worker, and its answers."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from enum import StrEnum
from pathlib import PureWindowsPath
from typing import Any, Literal

from pydantic import Field, JsonValue, model_validator

from compass.records.base import Pairs, Record, digest
from compass.records.knobs import Batch, Fingerprint, Hardware, Knobs, Load, RuntimeSettings

_FRAME = '  File "'
"""How a traceback begins the line of a frame."""
_PACKAGES = "site-packages"
"""Part of the path of installed code."""


class RankLoad(Record):
    """The part of one of several unequal ranks in a probe."""

    batches: tuple[Batch, ...] = Field(min_length=1)
    """As many as every other rank has."""
    timed: Batch
    """The batch of the steps that are timed."""
    ceiling_bytes: int
    """The largest footprint of its process."""


class ProbeSpec(Record):
    """A request for real training steps.

    The batches run in order. Then `timed`, or else the last of them, runs until its step time has settled. With `profile`,
    one more step of the last batch runs under the memory profiler.
    """

    knobs: Knobs
    batches: tuple[Batch, ...] = Field(min_length=1)
    evaluated: tuple[Batch, ...] = ()
    """Batches whose loss is computed without gradients, as in validation, before the last of `batches`."""
    timed: Batch | None = None
    """The batch to time, if it differs from those that show that memory suffices."""
    min_steps: int = Field(ge=1)
    max_steps: int = Field(ge=1)
    settle_share: float = 0.02
    """The step time has settled when the half-width of the median's interval is below this share of the median."""
    profile: bool = True
    fresh: bool = False
    """Whether to run in a new process, whose memory no earlier probe has touched."""
    ceiling_bytes: int | None = None
    """The largest footprint of the process, enforced by the operating system or by the device's allocator."""
    timeout_s: float
    runtime: RuntimeSettings
    ranks: int = Field(ge=1, default=1)
    """Processes that make these steps together, each on a device of its own; gradients are averaged."""
    each: tuple[RankLoad, ...] = ()
    """The batches and the ceiling of each rank; empty: those above are every rank's."""

    def of_rank(self, rank: int) -> ProbeSpec:
        """What the process of `rank` is asked for."""
        if not self.each:
            return self
        own = self.each[rank]
        changes = {"batches": own.batches, "timed": own.timed, "ceiling_bytes": own.ceiling_bytes, "each": ()}
        return self.model_copy(update=changes)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """The fields that keys are made of: of one process, those of Compass 0.1.0."""
        absent = {"ranks": 1, "each": ()}
        return [(name, value) for name, value in super().__repr_args__() if absent.get(str(name), ...) != value]

    @property
    def sequence(self) -> tuple[Batch, ...]:
        """The batches of the training steps; the last of them is repeated."""
        return self.batches if self.timed is None else (*self.batches, self.timed)

    @property
    def key(self) -> str:
        """Key of the probe: equal for two requests that differ in their timeout alone."""
        return digest(self.model_copy(update={"timeout_s": 0.0}))


class Status(StrEnum):
    """The end of a probe. Only `out_of_memory` depends on the size of model and batch."""

    OK = "ok"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    INVALID = "invalid"


class StepTime(Record):
    """The median time of the settled steps, with a distribution-free interval for the median."""

    median_s: float
    """Median of the steps."""
    low_s: float
    """Lower end of the median's interval."""
    high_s: float
    """Upper end of it."""
    n_steps: int
    """Steps that were timed, without those that warmed up."""
    mean_s: float | None = None
    """Mean over all steps, outliers included. A long run takes the mean per step; models are fitted to the median."""

    @property
    def of_many_s(self) -> float:
        """The mean, or the median where the mean is not known."""
        return self.median_s if self.mean_s is None else self.mean_s


class RankFigures(Record):
    """One of the ranks that made a probe together."""

    device: str
    """Name of its device."""
    budget_bytes: int
    """Bytes that its process may hold in all."""
    alone_s: float | None = None
    """Median seconds of its steps without averaging gradients, so that it waits for no other; None: not measured."""


class Outcome(Record):
    """The result of a probe. A failure is a value too: `status` and `detail` describe it, and measured fields stay None."""

    status: Status
    detail: str = ""
    source: Literal["probe", "training"] = "probe"
    """Whether the steps belonged to a probe or to a training run."""
    load: Load | None = None
    """Load of the last of the probe's batches, whose memory was measured; if the probe failed, of the failing step."""
    timed_load: Load | None = None
    """Load of the timed steps, if it differs from `load`."""
    parameters: int | None = None
    step: StepTime | None = None
    live_bytes: int | None = None
    """Peak bytes of live tensors during a step; on an accelerator, torch's allocated bytes."""
    segments: Pairs[int] = ()
    """(segment, its own peak of live bytes) in the order a step passes through them."""
    footprint_bytes: int | None = None
    """Peak of the memory that counts against the budget: of the process on a CPU, reserved and context bytes on an
    accelerator."""
    baseline_bytes: int | None = None
    """The footprint before the model was built."""
    collate_s: float | None = None
    """Median seconds to make one batch of real samples ready, on one core."""
    update_s: float | None = None
    """Seconds of a step spent on clipping gradients and updating weights; None: not measured."""
    enforced: bool = False
    """Whether the probe's ceiling was enforced."""
    losses: tuple[float, ...] = ()
    """Losses of the first few steps: equal for equal requests, where steps are deterministic."""
    left_bytes: int | None = None
    """Live bytes after the profiled step minus those before it: memory that every step leaves behind. None if unknown."""
    sync_s: float | None = None
    """Seconds of a step that go into averaging gradients between ranks and are not hidden behind the backward pass; None: one
    process, or not measured."""
    latency_s: float | None = None
    """Seconds in which ranks exchange a single number; None as for `sync_s`."""
    joined_bytes: int | None = None
    """Footprint that meeting the other ranks added: threads, buffers and contexts of gloo or NCCL; None: one process."""
    ranks: tuple[RankFigures, ...] = ()
    """Each rank, in their order; empty: one process."""
    others_cores: float | None = None
    """Cores that other processes kept busy during the probe's steps; None: unknown."""
    remarks: tuple[str, ...] = ()
    """Side effects of the workload that were prevented, one line each."""
    n_steps: int = 0
    wall_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the probe ran to its end."""
        return self.status is Status.OK

    @property
    def summary(self) -> str:
        """Status and reason in a line: of a traceback the error, and the last line of the user's own code."""
        return f"{self.status}: {_last_words(self.detail)}" if self.detail else str(self.status)

    @property
    def step_load(self) -> Load | None:
        """Load of the timed steps."""
        return self.timed_load or self.load


def _last_words(detail: str) -> str:
    lines = detail.splitlines()
    frames = [place for place, line in enumerate(lines) if line.startswith(_FRAME)]
    if not frames:
        return lines[0] if lines else ""
    error = next((line for line in lines[frames[-1] + 1 :] if line and not line.startswith(" ")), lines[-1])
    own = [lines[place] for place in frames if _PACKAGES not in lines[place]]
    path, line = (own or [lines[frames[-1]]])[-1].removeprefix(_FRAME).split('", ')
    return f"{error} ({PureWindowsPath(path).name}, {line.partition(',')[0]})"  # which splits at either slash


class TrainedCycle(Record):
    """The measurements of a finished training cycle: those of a probe, over more steps."""

    fullest: Batch
    """The batch with the most predicted bytes."""
    fullest_load: Load
    mean_load: Load
    """Mean load of the timed batches, its graphs rounded."""
    step: StepTime
    """Time of the training step alone, without waiting for data."""
    footprint_bytes: int
    """Peak footprint of the training process."""


class Family(Record):
    """What a workload declares of its models."""

    space: dict[str, JsonValue] = {}
    """The family's own defaults for settings of `space`: layers, channels, options …"""
    capacity: tuple[str, ...] = ("layers", "channels")
    """The knobs that make a model larger and are searched. Another knob stays at the low end of its range. None: a fixed model."""
    supports_checkpointing: bool = True
    """Whether `build` honours `knobs.variant.checkpointing`."""
    own_optimizer: bool = False
    """Whether the workload makes the optimizer."""
    own_step: bool = False
    """Whether the workload makes whole updates: then no update gathers several batches."""
    evaluates: bool = True
    """Whether a loss can be computed without an update."""
    noun: str = ""
    """What its data consist of, in the plural, e.g. `images`; empty: of complexes, in batches of graphs."""
    n_samples: int | None = None
    """Samples that those of the description stand for; None: these are all."""
    is_stream: bool = False
    """Whether its samples are the first of a dataset that does not tell its length."""
    remarks: tuple[str, ...] = ()
    """What of the user's code is not used, a line each."""

    def is_trainable(self, n_known: int) -> bool:
        """Whether `compass train` can train it, if the sizes of `n_known` samples are known: it needs those of all, and a loss."""
        return self.evaluates and not self.is_stream and (self.n_samples is None or self.n_samples <= n_known)

    @property
    def uses_adamw(self) -> bool:
        """Whether weights are updated by Compass's own optimizer, of which there is a fused form."""
        return not (self.own_optimizer or self.own_step)

    @model_validator(mode="before")
    @classmethod
    def _accept_old_name(cls, given: Any) -> Any:
        """Read `recomputes`, the name until 0.1.0, as `supports_checkpointing`."""
        if isinstance(given, dict) and "recomputes" in given:
            return {"supports_checkpointing": given["recomputes"]} | {
                k: v for k, v in given.items() if k != "recomputes"
            }
        return given

    @property
    def recomputes(self) -> bool:
        """The name of `supports_checkpointing` until 0.1.0, for one more release."""
        warnings.warn("Family.recomputes is now Family.supports_checkpointing", DeprecationWarning, stacklevel=2)
        return self.supports_checkpointing


class Description(Record):
    """A worker's description of its machine and workload, before any probe."""

    fingerprint: Fingerprint
    hardware: Hardware
    features: tuple[str, ...]
    """Names of the sizes that describe a load, in order."""
    baseline_bytes: int
    """The footprint of an idle worker: interpreter, libraries, device context."""
    samples: Pairs[Load]
    """(sample id, load of one copy)."""
    parameters: tuple[tuple[Knobs, int], ...] = ()
    """Trainable parameters of the requested knobs."""
    family: Family = Family()
    n_devices: int = 1
    """Devices of this kind here; of a CPU, the cores that ranks can share out."""
    micro_batches: tuple[Batch, ...] = ()
    """Small batches for the calibration whose sizes vary independently, smallest first. Empty: synthetic graphs with the
    configured numbers of atoms and neighbours."""
