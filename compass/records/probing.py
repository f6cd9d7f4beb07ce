"""What is asked of a worker, and what it answers."""

from __future__ import annotations

import warnings
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field, JsonValue, model_validator

from compass.records.base import Record, digest
from compass.records.knobs import Batch, Fingerprint, Hardware, Knobs, Load, RuntimeSettings


class ProbeSpec(Record):
    """A request for real training steps.

    The batches run in order, then `timed`, or the last of them again, until its step time has settled; with `profile`,
    one more step of the last batch then runs under the memory profiler.
    """

    knobs: Knobs
    batches: tuple[Batch, ...] = Field(min_length=1)
    evaluated: tuple[Batch, ...] = ()
    """Loss without gradients, as validation has it, before the last of `batches`."""
    timed: Batch | None = None
    """Where the batches show that memory suffices and another one is to be timed."""
    min_steps: int = Field(ge=1)
    max_steps: int = Field(ge=1)
    settle_share: float = 0.02
    """Stop when the half-width of the median's interval falls under this share of the median."""
    profile: bool = True
    fresh: bool = False
    """Run in a process of its own, so that no earlier probe has touched its memory."""
    ceiling_bytes: int | None = None
    """The whole footprint the process may reach, enforced by the operating system or the device's allocator."""
    timeout_s: float
    runtime: RuntimeSettings

    @property
    def sequence(self) -> tuple[Batch, ...]:
        """What the training steps run on, the last of it again and again."""
        return self.batches if self.timed is None else (*self.batches, self.timed)

    @property
    def key(self) -> str:
        """What makes two probes the same question: everything but the patience."""
        return digest(self.model_copy(update={"timeout_s": 0.0}))


class Status(StrEnum):
    """How a probe ended. Only `out_of_memory` says anything about size; the rest say it is not about size."""

    OK = "ok"
    OUT_OF_MEMORY = "out_of_memory"
    TIMED_OUT = "timed_out"
    CRASHED = "crashed"
    INVALID = "invalid"


class StepTime(Record):
    """The median step of the settled ones, with a distribution-free interval for the median."""

    median_s: float
    low_s: float
    high_s: float
    n_steps: int
    mean_s: float | None = None
    """Hiccups included: what many steps take. The median is what one usually takes, and what models are fitted to."""

    @property
    def of_many_s(self) -> float:
        """The mean; the median, where only that is known."""
        return self.median_s if self.mean_s is None else self.mean_s


class Outcome(Record):
    """What a probe found. Failure is a value: `status` and `detail` say what happened, measured fields stay None."""

    status: Status
    detail: str = ""
    source: Literal["probe", "training"] = "probe"
    """Whether the steps were made to find out, or to train."""
    load: Load | None = None
    """Of the last of the probe's batches, whose memory was measured; where a probe failed, of the step that did."""
    timed_load: Load | None = None
    """Of the steps that were timed, if it is another."""
    parameters: int | None = None
    step: StepTime | None = None
    live_bytes: int | None = None
    """Peak bytes held by live tensors during a step; on an accelerator, allocated bytes."""
    segments: tuple[tuple[str, int], ...] = ()
    """(segment, its own peak of live bytes) in the order a step passes through them."""
    footprint_bytes: int | None = None
    """Peak of what counts against the budget: the process's memory on the CPU, reserved and context bytes elsewhere."""
    baseline_bytes: int | None = None
    """The footprint before the model was built."""
    collate_s: float | None = None
    """Median seconds to make one batch of real samples ready, on one core."""
    update_s: float | None = None
    """Of a step, what goes into clipping gradients and updating weights; None: not asked for."""
    enforced: bool = False
    """Whether anything held the process under the probe's ceiling."""
    losses: tuple[float, ...] = ()
    """Of the first few steps: equal for equal questions, where steps are deterministic."""
    left_bytes: int | None = None
    """Live bytes after the profiled step beyond those before it: what every step leaves behind; None if it cannot be told."""
    others_cores: float | None = None
    """Cores that anything but the probe's process kept busy during its steps; None: not told."""
    remarks: tuple[str, ...] = ()
    """What the workload did beside training, and was kept from doing harm by: a line each."""
    n_steps: int = 0
    wall_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the probe ran to its end."""
        return self.status is Status.OK

    @property
    def step_load(self) -> Load | None:
        """Of the steps that were timed."""
        return self.timed_load or self.load


class TrainedCycle(Record):
    """What a finished cycle of a real training took: what a probe finds out, and for longer."""

    fullest: Batch
    """Of the batches that ran, the one with most predicted bytes."""
    fullest_load: Load
    mean_load: Load
    """Of the batches that were timed, their graphs rounded."""
    step: StepTime
    """Of the training step alone, without waiting for data."""
    footprint_bytes: int
    """The most the training process ever held."""


class Family(Record):
    """What a workload declares of its models."""

    space: dict[str, JsonValue] = {}
    """Its own defaults for settings of `space`: layers, channels, options …"""
    capacity: tuple[str, ...] = ("layers", "channels")
    """The knobs that make a model larger, and are searched; another stays at the low end of its range."""
    supports_checkpointing: bool = True
    """Whether `build` honours `knobs.variant.checkpointing`."""

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
    """What a worker says of itself before anything is probed."""

    fingerprint: Fingerprint
    hardware: Hardware
    features: tuple[str, ...]
    """The sizes a load is described by, in order."""
    baseline_bytes: int
    """The footprint of an idle worker: interpreter, libraries, device context."""
    samples: tuple[tuple[str, Load], ...]
    """(sample id, load of one copy)."""
    parameters: tuple[tuple[Knobs, int], ...] = ()
    """Trainable parameters of the knobs that were asked about."""
    family: Family = Family()
    micro_batches: tuple[Batch, ...] = ()
    """Small batches whose sizes vary independently, smallest first, to calibrate on; empty: made-up graphs of the configured
    atoms and neighbours."""
