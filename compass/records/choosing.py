"""What is predicted, chosen, proven and told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compass.records.base import Record, Stage
from compass.records.considered import Candidate, ScoreTerms, WhatIf
from compass.records.knobs import Batch, Fingerprint, Hardware, Knobs, Load, RuntimeSettings
from compass.records.probing import StepTime


class Affine(Record):
    """What is affine in a load, bytes or seconds: `base + Σ per_unit · size`."""

    base: float
    per_unit: tuple[tuple[str, float], ...]
    """(feature, what a unit of it costs)."""

    def at(self, load: Load) -> float:
        """At `load`."""
        return self.base + sum(rate * load[name] for name, rate in self.per_unit)

    def __mul__(self, factor: float) -> Affine:
        per_unit = tuple((name, rate * factor) for name, rate in self.per_unit)
        return Affine(base=self.base * factor, per_unit=per_unit)

    @property
    def varies(self) -> bool:
        """Whether the load makes any difference."""
        return any(rate for _, rate in self.per_unit)


class BytesLaw(Record):
    """The memory of one configuration as a function of the load: the largest of its segments' affine peaks.

    What batching and training need to know of the fitted models, without importing them.
    """

    segments: tuple[tuple[str, Affine], ...] = Field(min_length=1)
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


class Configuration(Record):
    """A model with the batch it is trained with: the answer of a stage, without any figure about it."""

    knobs: Knobs
    capacity: int
    """Trainable parameters."""
    batch_size: int
    """Graphs per batch."""
    load: Load
    """Of a typical batch."""


class Predicted(Record):
    """Figures that the fitted cost models give for a configuration before it runs."""

    live_bytes: float
    """At the worst batch."""
    footprint_bound_bytes: float
    """Upper bound of the footprint at the worst batch. It is compared with the budget."""
    step_s: float
    """At a typical batch, as are the figures below."""
    cycle_s: float
    throughput: float
    """Graphs per second."""
    score: float | None = None
    """None where no score decides."""


class Choice(Configuration, Predicted):
    """A configuration beside its prediction, as the search compares them."""

    @property
    def configuration(self) -> Configuration:
        """The configuration alone."""
        return Configuration(**{name: getattr(self, name) for name in Configuration.model_fields})

    @property
    def prediction(self) -> Predicted:
        """The predicted figures alone."""
        return Predicted(**{name: getattr(self, name) for name in Predicted.model_fields})


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
    """The most that a step may take by the plan's `step_law`; None where the clock does not bind."""
    n_batches: int
    """Of an epoch over the dataset as it was packed to find this out."""
    mean_graphs: float
    """Per batch."""
    median_fill: float
    """Upper footprint of the median batch, as a share of the budget."""
    throughput: float
    """Graphs per second: as predicted of all batches, corrected by one of mean time that was timed."""
    gain: float
    """Throughput relative to the fixed batch size's, minus 1: as measured or as predicted, whichever is less."""
    footprint_bytes: int
    """Measured over the fullest batch, shuffled ones, and the fullest again, under the ceiling."""


class Certificate(Record):
    """How a plan was certified: its worst batch, shuffled ones, the worst again, in one process under the ceiling."""

    ceiling_bytes: int
    batches: tuple[Batch, ...]
    """In the order they ran, with their members' ids. The first is the worst that the data can form. The second, if it is
    a single sample, is the largest sample that has a batch to itself."""
    evaluated: tuple[Batch, ...] = ()
    """The worst batch of validation, run without gradients."""
    timed: Batch | None = None
    """The batch of the mean load whose step was timed, where the data's batches differ."""
    worst: Load
    footprint_bound_bytes: int
    """Upper bound of the footprint of every batch that ran."""
    left_out: tuple[str, ...] = ()
    """Isolated samples that do not fit the budget even by themselves: this plan does not train on them."""
    n_steps: int
    enforced: bool
    """Whether the ceiling was enforced; without a limit nothing else would have stopped the process."""


class Measured(Record):
    """Figures of the run that certified a plan."""

    step: StepTime
    """Of the certificate; where this very plan was trained before, of its last cycle."""
    cycle_s: float
    """Batches per cycle × the median step."""
    throughput: float
    """Graphs per second at the median step."""
    live_bytes: int
    footprint_bytes: int
    update_s: float | None = None
    """Seconds of every timed step that went into updating weights; None where `step` is of training, which updates seldom."""
    collate_s: float | None = None
    """Median seconds to make one batch ready, on one core; None where a stand-in complex was copied."""
    terms: ScoreTerms | None = None
    """Of the score at the measured cycle, where a score decides."""


class RuntimeTrial(Record):
    """One value of a runtime setting, tried."""

    value: str
    step_s: float | None
    """Seconds that a step takes; None if it did not run."""


class RuntimeChoice(Record):
    """What a runtime setting was set to, and what that gains."""

    setting: Literal["threads", "waiting", "allocator", "loader_workers"]
    stage: Stage | None = None
    """The plan that it is for; None: all."""
    chosen: str
    why: str
    tried: tuple[RuntimeTrial, ...] = ()
    gain: float | None = None
    """A step's time with the best alternative to what was chosen, relative to that with what was; of the allocator, with no
    settings at all. None where nothing was compared."""


class StagePlan(Record):
    """One stage's choice, certified."""

    stage: Stage
    choice: Configuration
    predicted: Predicted
    measured: Measured
    certificate: Certificate
    accumulate: int
    """Batches per weight update, to reach the configured effective batch."""
    runtime: RuntimeSettings
    loader_workers: int = Field(ge=0, default=0)
    """Processes that make batches ready beside training; 0: the training process does."""
    bytes_law: BytesLaw
    step_law: Affine | None = None
    """The median step as a function of the batch's load, near the load it was measured at: training's batches may differ."""
    indicative: bool = False
    """The measured cycle is a hint only: too few steps, or a step that an accelerator spends waiting for the host."""
    limited_by: str
    """The limit that keeps the plan from being larger or faster: `memory`, `time`, `data`, `space`, `score` or, in a smoke
    test, `nothing`."""
    why: str
    batch_budget: BatchBudget | None = None
    """The alternative to the fixed batch size, for a dataset of complexes that differ in size."""
    recommended: Literal["batch_size", "batch_budget"] = "batch_size"
    fastest: Choice | None = None
    """The pick at q = 0: highest throughput, largest batch."""
    runners_up: tuple[Choice, ...] = ()
    front: tuple[Choice, ...] = ()
    """The Pareto front of throughput, capacity and cycle among the admissible. The chosen one stands in it, if it does, by
    its measured time, but its row holds its prediction like all others."""
    follows: str = ""
    """For validation: the prototyping plan whose findings it checks, and how much larger it is."""
    candidates: tuple[Candidate, ...] = ()
    """Every model of the stage's variants: the chosen first, the admissible by rank, then the others."""
    what_ifs: tuple[WhatIf, ...] = ()

    @property
    def predicted_choice(self) -> Choice:
        """The choice beside its prediction, for comparison with runners-up."""
        return Choice(**dict(self.choice), **dict(self.predicted))


class StageFailure(Record):
    """A stage that found no plan: the limit that prevented it, and the configuration that came nearest."""

    stage: Stage
    limited_by: str
    reason: str
    nearest: Choice | None = None
    """As predicted; None: no configuration could be tried."""
    nearest_cycle_s: float | None = None
    """The measured cycle of the nearest, where it ran and took longer than the window allows."""
    candidates: tuple[Candidate, ...] = ()
    what_ifs: tuple[WhatIf, ...] = ()


class Progress(Record):
    """What is going on, for whoever watches."""

    phase: Literal["scan", "runtime", "calibrate", "search", "certify", "verify", "train", "report"]
    what: str
    """What is being tried, in a few words."""
    n_done: int
    n_expected: int
    remaining_s: float | None = None
