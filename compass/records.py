"""The frozen values that cross rooms and processes. They hold data and arithmetic, never behaviour.

Everything here has a JSON form (`model_dump_json` / `model_validate_json`), because a probe is asked for and answered
across a process boundary, kept in a ledger and written into a profile.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Scalar = bool | int | float | str
Precision = Literal["fp32", "bf16"]
Stage = Literal["smoke_test", "prototyping", "validation", "production"]
STAGES: tuple[Stage, ...] = ("smoke_test", "prototyping", "validation", "production")


class Record(BaseModel):
    """A frozen value with a JSON form; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def digest(*parts: object) -> str:
    """Sixteen hex digits that change when any of `parts` (by its `repr`) changes."""
    return hashlib.blake2b("\x1f".join(map(repr, parts)).encode(), digest_size=8).hexdigest()


# ---------------------------------------------------------------------------------------------- what is trained


class Variant(Record):
    """What a cost law is fitted for separately: everything about a model but its depth and width."""

    precision: Precision = "fp32"
    checkpointing: bool = False
    options: tuple[tuple[str, Scalar], ...] = ()
    """The family's own knobs, sorted by name; for ViSNet `heads`, `lmax`, `rbf`."""

    def option(self, name: str) -> Scalar:
        """The family knob `name`. Raises KeyError if the family has none of that name."""
        return dict(self.options)[name]

    def __str__(self) -> str:
        return f"{self.precision}{'+checkpointing' if self.checkpointing else ''}"


class Knobs(Record):
    """One configuration of a model family: depth, width and the variant."""

    layers: int = Field(ge=1)
    channels: int = Field(ge=1)
    variant: Variant = Variant()

    def covers(self, other: Knobs) -> bool:
        """Whether this is at least as large as `other` in both layers and channels."""
        return self.layers >= other.layers and self.channels >= other.channels

    def __str__(self) -> str:
        return f"{self.layers} layers × {self.channels} channels, {self.variant}"


class Load(Record):
    """How much work a batch is: its graphs, and its size in each feature the workload declares (nodes, edges, …)."""

    graphs: int = Field(ge=0)
    sizes: tuple[tuple[str, float], ...]
    """(feature, amount) pairs, in the order the workload declares them."""

    def __getitem__(self, feature: str) -> float:
        return dict(self.sizes)[feature]

    def __add__(self, other: Load) -> Load:
        added = tuple((name, size + other[name]) for name, size in self.sizes)
        return Load(graphs=self.graphs + other.graphs, sizes=added)

    def __mul__(self, copies: int) -> Load:
        scaled = tuple((name, size * copies) for name, size in self.sizes)
        return Load(graphs=self.graphs * copies, sizes=scaled)

    def __str__(self) -> str:
        return ", ".join([f"{self.graphs:,} graphs", *(f"{size:,.0f} {name}" for name, size in self.sizes)])


class Batch(Record):
    """What one training step is given: named samples with their copies, or a made-up batch of a given load."""

    members: tuple[tuple[str, int], ...] = ()
    """(sample id, copies) pairs."""
    synthetic: Load | None = None


# ------------------------------------------------------------------------------------------------- where it runs

Allocator = Literal["fast", "tight", "system"]


class RuntimeSettings(Record):
    """What is fixed before a worker starts, because it changes every figure measured after it."""

    threads: int = Field(ge=1)
    allocator: Allocator = "fast"


class Hardware(Record):
    """The device, and the memory that may be used on it."""

    kind: str
    """`cuda`, `xpu`, `mps` or `cpu`."""
    name: str
    driver: str
    total_bytes: int
    free_bytes: int
    others_bytes: int
    """Held by other processes when it was looked at."""
    limit_bytes: int | None = None
    """A limit from outside: the control group's, or the user's `--memory-limit`."""
    budget_bytes: int
    """What a training process may hold in all, after every limit."""


class Fingerprint(Record):
    """What a measurement depends on. A figure measured under another fingerprint is not used."""

    device: str
    driver: str
    torch: str
    versions: tuple[tuple[str, str], ...]
    workload: str
    """Digest of the workload's name, options, code version and samples."""
    runtime: tuple[tuple[str, str], ...] = ()
    """What is in force in the worker: threads, waiting policy, allocators."""

    @property
    def key(self) -> str:
        """Sixteen hex digits standing for the whole."""
        return digest(self)


# ------------------------------------------------------------------------------------------------------- probing


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


class Outcome(Record):
    """What a probe found. Failure is a value: `status` and `detail` say what happened, measured fields stay None."""

    status: Status
    detail: str = ""
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
    enforced: bool = False
    """Whether anything held the process under the probe's ceiling."""
    n_steps: int = 0
    wall_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the probe ran to its end."""
        return self.status is Status.OK


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


# --------------------------------------------------------------------------------------------------------- choosing


class AffineBytes(Record):
    """Bytes that are affine in a load: `base + Σ per_unit · size`."""

    base: float
    per_unit: tuple[tuple[str, float], ...]
    """(feature, bytes a unit of it costs)."""

    def at(self, load: Load) -> float:
        """Bytes at `load`."""
        return self.base + sum(rate * load[name] for name, rate in self.per_unit)


class BytesLaw(Record):
    """The memory of one configuration as a function of the load: the largest of its segments' affine peaks.

    What batching and training need to know of the fitted models, without importing them.
    """

    segments: tuple[tuple[str, AffineBytes], ...] = Field(min_length=1)
    margin_share: float = 0.0
    """One-sided: true live bytes stay under `live · (1 + margin_share)` as often as the configured coverage says."""
    baseline_bytes: int = 0
    """Footprint without a model."""
    footprint_ratio: float = 1.0
    """Upper quantile of (footprint − baseline) / live."""

    def live(self, load: Load) -> float:
        """Predicted peak of live bytes at `load`."""
        return max(piece.at(load) for _, piece in self.segments)

    def upper_live(self, load: Load) -> float:
        """Upper bound of live bytes at `load`."""
        return self.live(load) * (1.0 + self.margin_share)

    def upper_footprint(self, load: Load) -> float:
        """Upper bound of the footprint at `load`: what is compared with the budget."""
        return self.baseline_bytes + self.footprint_ratio * self.upper_live(load)


class Choice(Record):
    """A configuration with a batch, and what it is predicted to do."""

    knobs: Knobs
    capacity: int
    """Trainable parameters."""
    batch_size: int
    load: Load
    live_bytes: float
    footprint_bytes: float
    """Upper bound."""
    step_s: float
    cycle_s: float
    throughput: float
    """Graphs per second."""
    score: float | None = None


class Interval(Record):
    """A prediction, and between what the truth should lie."""

    expected: float
    low: float
    high: float

    def __mul__(self, factor: float) -> Interval:
        return Interval(expected=self.expected * factor, low=self.low * factor, high=self.high * factor)


class Estimate(Record):
    """What a configuration and batch are predicted to take, without any of it being run.

    Memory reaches from the prediction to its upper bound, times over the 90 % interval of the step's.
    """

    knobs: Knobs
    capacity: int
    """Trainable parameters."""
    batch_size: int
    load: Load
    """Of a typical batch."""
    live_bytes: Interval
    footprint_bytes: Interval
    """From an idle worker and the live bytes, with nothing lost to the allocator, to the upper bound."""
    fits: Literal["yes", "perhaps", "no"]
    """The budget: `yes` if the upper bound does, `no` if not even the prediction does."""
    step_s: Interval
    cycle_s: Interval
    epoch_s: Interval
    training_s: Interval
    """All epochs."""
    throughput: float
    """Graphs per second."""


class Estimates(Record):
    """Predictions for one or more configurations, and what they assume."""

    hardware: Hardware
    fingerprint: Fingerprint
    workload: str
    runtime: RuntimeSettings
    dataset_size: int
    """Complexes in an epoch."""
    epochs: int
    cycle_batches: int
    n_probes: int
    """Made for this; 0: everything was known from an earlier run."""
    rows: tuple[Estimate, ...]


class SizeSummary(Record):
    """One feature over a dataset."""

    feature: str
    mean: float
    quantiles: tuple[tuple[float, float], ...]
    """(share of the complexes, size that they do not exceed)."""
    histogram: tuple[tuple[float, int], ...]
    """(lower end of the bin, complexes in it)."""


class DatasetSummary(Record):
    """What a scan found, in short."""

    path: str
    n_complexes: int
    n_usable: int
    n_labelled: int
    """Of the usable."""
    n_trained: int
    """What the parameter cap follows: the labelled, or all usable if none is, without those refused for their size."""
    sizes: tuple[SizeSummary, ...]
    largest: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]
    """(id, sizes)."""
    oversize_policy: str
    """`isolate`, `crop` or `refuse`."""
    oversize: tuple[str, ...]
    """The ids that the policy is for, largest first."""


class BatchBudget(Record):
    """Batches that fill the memory whatever their members' sizes, instead of a fixed count of graphs."""

    budget_bytes: int
    """The most that a batch's upper footprint may be."""
    max_graphs: int
    max_step_s: float | None
    """The most that a step may be predicted to take; None where the clock does not bind."""
    n_batches: int
    """Of an epoch over the dataset as it was packed to find this out."""
    mean_graphs: float
    """Per batch."""
    median_fill: float
    """Upper footprint of the median batch, as a share of the budget."""
    throughput: float
    """Expected graphs per second."""
    gain: float
    """Expected throughput, relative to the fixed batch size's, minus 1."""
    footprint_bytes: int
    """Measured over the fullest batch, shuffled ones, and the fullest again, under the ceiling."""


class Certificate(Record):
    """The proof that a plan fits: its worst batch, shuffled ones, the worst again, in one process under the ceiling."""

    ceiling_bytes: int
    batches: tuple[Batch, ...]
    """In the order they ran, with their members' ids; the first is the worst that the data can form, the one after it, if
    it is a single sample, the largest that has a batch to itself."""
    evaluated: tuple[Batch, ...] = ()
    """The worst batch of validation, run without gradients."""
    worst: Load
    bound_bytes: int = 0
    """Upper bound of the footprint of whatever ran."""
    left_out: tuple[str, ...] = ()
    """Isolated samples that do not fit the budget even by themselves: this plan does not train on them."""
    live_bytes: int
    footprint_bytes: int
    n_steps: int
    enforced: bool
    """Whether the ceiling was enforced; without a limit nothing else would have stopped the process."""


class StagePlan(Record):
    """One stage's choice, proven."""

    stage: Stage
    choice: Choice
    accumulate: int
    """Batches a weight update gathers to reach the configured effective batch."""
    runtime: RuntimeSettings
    bytes_law: BytesLaw
    step: StepTime
    """Measured while confirming."""
    cycle_s: float
    """Measured: batches in a cycle × the median step."""
    throughput: float
    """Measured graphs per second."""
    indicative: bool = False
    """The cycle is a hint only: too few steps, or not the work the stage will do."""
    binds: str
    """What keeps the plan from being larger or faster: `memory`, `time`, `data`, `space` or `score`."""
    why: str
    certificate: Certificate
    batch_budget: BatchBudget | None = None
    """The alternative to the fixed batch size, for a dataset of complexes that differ in size."""
    recommended: Literal["batch_size", "batch_budget"] = "batch_size"
    literal: Choice | None = None
    """The pick at q = 0: highest throughput, largest batch."""
    runners_up: tuple[Choice, ...] = ()
    front: tuple[Choice, ...] = ()
    """The Pareto front of throughput, capacity and cycle among the admissible."""
    follows: str = ""
    """For validation: the prototyping plan whose findings it checks, and how much larger it is."""


class StageFailure(Record):
    """A stage that found nothing: which limit binds and what came nearest."""

    stage: Stage
    binds: str
    reason: str
    nearest: Choice | None = None


class Progress(Record):
    """What is going on, for whoever watches."""

    phase: Literal["scan", "calibrate", "search", "confirm"]
    what: str
    """What is being tried, in a few words."""
    n_done: int
    n_expected: int
    remaining_s: float | None = None
