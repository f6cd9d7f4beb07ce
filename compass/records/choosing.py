"""Predicted, chosen and certified configurations, and the plans made of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from compass.records.allocators import Allocator
from compass.records.base import Pairs, Record, Stage
from compass.records.considered import Candidate, ScoreTerms, WhatIf
from compass.records.knobs import Batch, Fingerprint, Hardware, Knobs, Load, RuntimeSettings
from compass.records.probing import StepTime
from compass.records.ranks import RanksPlan


class Affine(Record):
    """An affine function of a load, in bytes or seconds: `base + Σ per_unit · size`."""

    base: float
    """The value at a load of zero."""
    per_unit: Pairs[float]
    """(feature, bytes or seconds per unit of it)."""

    def at(self, load: Load) -> float:
        """The value at `load`."""
        return self.base + sum(rate * load[name] for name, rate in self.per_unit)

    def __mul__(self, factor: float) -> Affine:
        per_unit = tuple((name, rate * factor) for name, rate in self.per_unit)
        return Affine(base=self.base * factor, per_unit=per_unit)

    @property
    def varies(self) -> bool:
        """Whether the value depends on the load."""
        return any(rate for _, rate in self.per_unit)


class BytesLaw(Record):
    """The memory of one configuration as a function of the load: the largest of its segments' affine peaks.

    Batching and training use it in place of the fitted models, which they do not import.
    """

    segments: Pairs[Affine] = Field(min_length=1)
    """(segment of the training step, its peak of live bytes as a function of the load)."""
    margin_share: float = 0.0
    """One-sided margin: true live bytes stay under `live · (1 + margin_share)` with the configured coverage."""
    baseline_bytes: int = 0
    """Footprint of a process without a model."""
    footprint_ratio: float = 1.0
    """Upper quantile of (footprint − baseline) / live."""

    def live(self, load: Load) -> float:
        """Predicted peak of live bytes at `load`."""
        return max(piece.at(load) for _, piece in self.segments)

    def upper_live(self, load: Load) -> float:
        """Upper bound of live bytes at `load`."""
        return self.live(load) * (1.0 + self.margin_share)

    def upper_footprint(self, load: Load) -> float:
        """Upper bound of the footprint at `load`, which is compared with the budget."""
        return self.baseline_bytes + self.footprint_ratio * self.upper_live(load)

    def in_ranks(self, capacity: int, host_bytes: int = 0) -> BytesLaw:
        """The law of one of several ranks that train a model of `capacity` parameters.

        DDP's buckets are a second copy of the gradients while it rebuilds them. `host_bytes` are held beside the model by each
        rank: threads, buffers and contexts of gloo or NCCL.
        """
        bucket_bytes = 4.0 * capacity
        segments = tuple(
            (name, Affine(base=piece.base + bucket_bytes, per_unit=piece.per_unit)) for name, piece in self.segments
        )
        return self.model_copy(update={"segments": segments, "baseline_bytes": self.baseline_bytes + host_bytes})

    def capped(self, load: Load, budget_bytes: int) -> BytesLaw:
        """This law, or one with a smaller ratio whose bound at `load` is the budget: a batch of that load has run within it."""
        if self.upper_footprint(load) <= budget_bytes:
            return self
        return self.model_copy(
            update={"footprint_ratio": (budget_bytes - self.baseline_bytes) / self.upper_live(load) * (1 - 1e-9)}
        )


class Configuration(Record):
    """A model with the batch it is trained with: the answer of a stage, without any figure about it."""

    knobs: Knobs
    capacity: int
    """Trainable parameters."""
    batch_size: int
    """Graphs per batch."""
    allocator: Allocator = "fast"
    """The C allocator that it runs under; an accelerator has its own."""
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
    """Batches per cycle × the step."""
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


NORMAL_90 = 1.645
"""Half-width, in standard deviations, of the central 90 % of a normal distribution."""


class Interval(Record):
    """A prediction, with the interval that should hold the true value."""

    expected: float
    low: float
    high: float

    def __mul__(self, factor: float) -> Interval:
        return Interval(expected=self.expected * factor, low=self.low * factor, high=self.high * factor)


class Estimate(Record):
    """The predicted memory and time of a configuration with its batch, none of which has been run.

    Memory: from the prediction to its upper bound. Time: the prediction with a 90 % interval.
    """

    knobs: Knobs
    capacity: int
    """Trainable parameters."""
    batch_size: int
    load: Load
    """Of a typical batch."""
    live_bytes: Interval
    footprint_bytes: Interval
    """From an idle worker plus the live bytes, without loss to the allocator, to the upper bound."""
    fits: Literal["yes", "perhaps", "no"]
    """Whether it fits the budget: `yes` if the upper bound fits, `no` if not even the prediction fits."""
    step_s: Interval
    cycle_s: Interval
    epoch_s: Interval
    training_s: Interval
    """All epochs."""
    throughput: float
    """Graphs per second."""


class Estimates(Record):
    """Estimates of one or more configurations, and their assumptions."""

    hardware: Hardware
    fingerprint: Fingerprint
    workload: str
    noun: str = ""
    """What the workload's data consist of, in the plural; empty: of complexes, in batches of graphs."""
    runtime: RuntimeSettings
    dataset_size: int
    """Complexes, or other samples, per epoch."""
    epochs: int
    cycle_batches: int
    n_probes: int
    """Probes made for these estimates; 0: an earlier run had made all of them."""
    rows: tuple[Estimate, ...]

    def __repr__(self) -> str:
        fitting = sum(row.fits != "no" for row in self.rows)
        return (
            f"<estimates of {len(self.rows):,} models of {self.workload} on {self.hardware.name}: {fitting:,} may fit>"
        )


class SizeSummary(Record):
    """The sizes of a dataset in one feature."""

    feature: str
    """Name of the size, such as `nodes`."""
    mean: float
    """Over all usable complexes."""
    quantiles: tuple[tuple[float, float], ...]
    """(share of the complexes, largest size among them)."""
    histogram: tuple[tuple[float, int], ...]
    """(lower end of the bin, complexes in it)."""


class DatasetSummary(Record):
    """The result of a scan, in short."""

    path: str
    """The folder or manifest, absolute."""
    n_complexes: int
    """Complexes that the dataset lists."""
    n_usable: int
    """Those that could be read."""
    n_labelled: int
    """Usable complexes with a label."""
    n_trained: int
    """Complexes that set the parameter cap: the labelled ones, or all usable ones if none has a label, without those
    refused for their size."""
    sizes: tuple[SizeSummary, ...]
    largest: Pairs[Pairs[float]]
    """(id, sizes)."""
    oversize_policy: str
    """`isolate`, `crop` or `refuse`."""
    oversize: tuple[str, ...]
    """Ids of the complexes that the policy applies to, largest first."""


class BatchBudget(Record):
    """Variable-size batches filled up to a memory budget, in place of a fixed number of graphs."""

    budget_bytes: int
    """The largest upper bound of a batch's footprint."""
    max_graphs: int
    """Most graphs per batch."""
    max_step_s: float | None
    """The longest step by the plan's `step_law`; None where time is not the limit."""
    n_batches: int
    """Batches per epoch of the dataset, as packed for this plan."""
    mean_graphs: float
    """Mean number of graphs per batch."""
    median_fill: float
    """Upper footprint of the median batch, as a share of the budget."""
    throughput: float
    """Graphs per second: predicted for all batches, and corrected by the measured time of one mean batch."""
    gain: float
    """Throughput relative to the fixed batch size's, minus 1: the smaller of the measured and the predicted gain."""
    footprint_bytes: int
    """Measured over the fullest batch, shuffled ones, and the fullest again, under the ceiling."""


class Certificate(Record):
    """How a plan was certified: its worst batch, shuffled ones, the worst again, in one process under the ceiling."""

    ceiling_bytes: int = Field(ge=1)
    """The footprint that the process was allowed."""
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
    """Steps that it ran, of all its batches."""
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
    """Peak of the bytes that tensors held, at the worst batch."""
    footprint_bytes: int
    """Peak of the memory that the process held."""
    update_s: float | None = None
    """Seconds of every timed step that went into updating weights; None where `step` is of training, which updates seldom."""
    collate_s: float | None = None
    """Median seconds to make one batch ready, on one core; None where samples stood in for others and were copied."""
    terms: ScoreTerms | None = None
    """Of the score at the measured cycle, where a score decides."""


class RuntimeTrial(Record):
    """One value of a runtime setting that was tried."""

    value: str
    """The value, as text."""
    step_s: float | None
    """Seconds per step; None if it did not run."""
    footprint_bytes: int | None = None
    """Footprint of the process, where settings differ in it."""


class RuntimeChoice(Record):
    """The chosen value of a runtime setting, and its gain."""

    setting: str
    """`threads`, `waiting`, `allocator`, `loader_workers`, or an axis that a trial decides."""
    stage: Stage | None = None
    """The stage whose plan has this value; None: all stages."""
    chosen: str
    """The chosen value, as text."""
    why: str
    """The reason, with the times that were compared."""
    tried: tuple[RuntimeTrial, ...] = ()
    gain: float | None = None
    """Step time with the best alternative / step time with the chosen value; for the allocator, with the slowest of those that
    were measured. None where nothing was compared."""


class StagePlan(Record):
    """One stage's choice, certified."""

    stage: Stage
    """The stage that it is for."""
    choice: Configuration
    predicted: Predicted
    measured: Measured
    certificate: Certificate
    epoch_s: float | None = None
    """Seconds of a pass over all complexes, batched as recommended; None in profiles of Compass 0.1."""
    training_s: float | None = None
    """Seconds of the configured number of such passes."""
    least_batch: int = 1
    """Fewest samples of a batch: two if the model cannot be trained on one. An epoch's last batches are evened out to it."""
    accumulate: int
    """Batches of each rank per weight update, to reach the configured effective batch."""
    ranks: RanksPlan | None = None
    """For several devices: what they do together. All other figures are of one rank."""
    runtime: RuntimeSettings
    loader_workers: int = Field(ge=0, default=0)
    """Processes that make batches ready beside training; 0: the training process does."""
    bytes_law: BytesLaw
    step_law: Affine | None = None
    """The median step as a function of the batch's load, near the load it was measured at: training's batches may differ."""
    indicative: bool = False
    """The measured cycle is a hint only: too few steps, a step that an accelerator spends waiting for the host, or `unsettled`."""
    unsettled: bool = False
    """The certificate ended before its step time was known as well as configured: its interval tells how well."""
    doubts: tuple[str, ...] = ()
    """What the fitted laws that this plan was chosen by are known to miss, a sentence for each; its own certificate holds all the same."""
    discouraged: str = ""
    """Why the plan is not recommended although it ran as certified: a law that it was chosen by is off by tens of per cent. Usually empty."""
    limited_by: str
    """The limit that keeps the plan from being larger or faster: `memory`, `time`, `data`, `space`, `score` or, in a smoke
    test, `nothing`."""
    why: str
    """The reason for the choice, in a sentence."""
    batch_budget: BatchBudget | None = None
    """The alternative to the fixed batch size, for a dataset of complexes that differ in size."""
    recommended: Literal["batch_size", "batch_budget"] = "batch_size"
    """The better of both kinds of batches."""
    fastest: Choice | None = None
    """The pick at q = 0: highest throughput, largest batch."""
    largest_batch: Choice | None = None
    """The same depth and width with the largest batch that fits at any price: other allocators, activation checkpointing."""
    smaller: Choice | None = None
    """Where the size costs speed: the fastest of the models of at least nine tenths of the parameters, as predicted."""
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
    def throughput(self) -> float:
        """Graphs per second of all ranks together, batched as recommended."""
        budgeted = self.batch_budget if self.recommended == "batch_budget" else None
        return budgeted.throughput * self._speedup if budgeted else self.together_throughput

    @property
    def together_throughput(self) -> float:
        """Graphs per second of all ranks together, in batches of the fixed size."""
        return self.measured.throughput * self._speedup

    @property
    def _speedup(self) -> float:
        """Throughput of all ranks / of one that waits for none."""
        return 1.0 if self.ranks is None else self.ranks.speedup

    @property
    def n_ranks(self) -> int:
        """Processes that train together, over all machines."""
        return 1 if self.ranks is None else self.ranks.n_ranks

    def with_times(self, n_complexes: int, epochs: int) -> StagePlan:
        """This plan with the times of an epoch and of a training."""
        epoch_s = n_complexes / self.throughput
        return self.model_copy(update={"epoch_s": epoch_s, "training_s": epochs * epoch_s})

    @property
    def predicted_choice(self) -> Choice:
        """The choice beside its prediction, for comparison with runners-up."""
        return Choice(**dict(self.choice), **dict(self.predicted))

    @property
    def measured_choice(self) -> Choice:
        """The choice with its measured time."""
        time = {
            "step_s": self.measured.step.median_s,
            "cycle_s": self.measured.cycle_s,
            "throughput": self.measured.throughput,
        }
        return self.predicted_choice.model_copy(update=time)


class StageFailure(Record):
    """A stage that found no plan: the limit that prevented it, and the configuration that came nearest."""

    stage: Stage
    """The stage that it is about."""
    limited_by: str
    """`memory`, `time`, `data`, `space`, `model` or `search`."""
    reason: str
    """What went wrong, in a sentence."""
    nearest: Choice | None = None
    """As predicted; None: no configuration could be tried."""
    nearest_cycle_s: float | None = None
    """The measured cycle of the nearest, where it ran and took longer than the window allows."""
    candidates: tuple[Candidate, ...] = ()
    what_ifs: tuple[WhatIf, ...] = ()


class Progress(Record):
    """The present step of a run, to show to the user."""

    phase: Literal["scan", "runtime", "calibrate", "search", "certify", "verify", "train", "report"]
    what: str
    """The present step, in a few words."""
    n_done: int
    n_expected: int
    remaining_s: float | None = None
    """Seconds that the phase still takes; None: unknown."""
    in_all_s: float | None = None
    """Seconds that the whole run still takes; None: unknown, or the phase is all of it."""
    later_s: float = 0.0
    """Of these, the seconds of what comes after the present step: they are left even if it takes longer than expected."""
    stage: str = ""
    """The stage that is decided, with its place: `stage 2 of 4, production`."""
