"""Alternatives to a plan: every model, other circumstances, and each probe beside its prediction.

A profile may hold thousands of these, so they name a model only by the axes and options that the space varies. Its other knobs
are in the configuration's `space.options`.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from compass.records.allocators import Allocator
from compass.records.axes import AxisValues, options_label
from compass.records.base import Pairs, Record, Scalar, Stage
from compass.records.knobs import Knobs, Load
from compass.records.probing import Status, StepTime

CandidateVerdict = Literal["chosen", "admissible", "untried", "memory", "time", "batch", "data", "space", "model"]
"""`admissible`: would do, but scores worse. `untried`: a sampler never tried it. The others rule a model out: not one graph
fits the memory; too slow even at batch 1; only batches under the minimum fit; more parameters than the data allow; outside
the stage's share of the reference model's size; does not run."""


WhatIfChange = Literal["none", "memory", "time", "data"]


class ModelShape(Record):
    """Depth and width of a model."""

    layers: int
    """Depth: the repeated layers."""
    channels: int
    """Width: the features of a node in every layer."""


class Model(AxisValues, ModelShape):
    """A model of the space: its depth, width, value on every axis, and the options that are searched."""

    options: Pairs[Scalar] = ()
    """The family's options of which the space has several values."""

    @classmethod
    def of(cls, knobs: Knobs, **others: Any) -> Self:
        """The record of `knobs`, with the `others` of its fields. The only place that takes knobs apart."""
        variant = knobs.variant
        own = {"layers": knobs.layers, "channels": knobs.channels, "options": variant.searched_options}
        return cls(**own, **variant.axis_values, **others)

    @property
    def label(self) -> str:
        """The name of the axes' values and the searched options, e.g. `bf16+rank=8`."""
        return super().label + options_label(self.options)

    def is_of(self, knobs: Knobs) -> bool:
        """Whether this names `knobs`."""
        return self.is_same(Model.of(knobs))

    def is_same(self, other: Model) -> bool:
        """Whether both name the same model; other fields may differ."""
        names = tuple(Model.model_fields)
        return all(getattr(self, name) == getattr(other, name) for name in names)


class Candidate(Model):
    """One model as a stage last saw it, with its batch. All figures are predictions, to six digits."""

    capacity: int
    """Trainable parameters."""
    verdict: CandidateVerdict
    """The part that it played in the choice."""
    reason: str = ""
    """The failure of a probe of this model or of a smaller one."""
    batch_size: int | None = None
    """None, like all figures below: the model does not run, or its size alone rules it out."""
    allocator: Allocator | None = None
    """The allocator that it would run under."""
    live_bytes: float | None = None
    """Peak of the bytes that tensors hold at the worst batch."""
    footprint_bound_bytes: float | None = None
    """Upper bound of the footprint at the worst batch."""
    step_s: float | None = None
    """Seconds of a step at a typical batch."""
    spread: float | None = None
    """Relative standard deviation of a run's step time."""
    score: float | None = None
    """Lower is better; None where no score decides."""

    @property
    def throughput(self) -> float | None:
        """Graphs per second."""
        return self.batch_size / self.step_s if self.batch_size and self.step_s else None


class ScoreTerms(Record):
    """The two terms of a measured score, `samples + parameters`. The reference model scores 1."""

    worth: float
    """Weight of a sample at the measured cycle: 1 up to the target."""
    throughput_ratio: float
    """Measured graphs per second times their weight, over the predicted throughput of the reference model."""
    capacity_ratio: float
    """Parameters over those of the reference model."""
    samples: float
    """(1 − q) · throughput_ratio^−β"""
    parameters: float
    """q · capacity_ratio^−α"""

    @property
    def score(self) -> float:
        """The sum of both."""
        return self.samples + self.parameters


class WhatIf(Record):
    """The predicted choice of a stage if one circumstance were different."""

    change: WhatIfChange
    """`none`: the predicted choice now, to compare the other rows with."""
    amount: float = 0.0
    """The increase: bytes of budget, seconds of target, or complexes."""
    pick: Candidate | None = None
    """None: no model is admissible."""


class Expectation(Record):
    """The prediction for a probe, made before it ran."""

    live_bytes: float
    """Peak of the bytes that tensors hold."""
    footprint_bound_bytes: float
    """Upper bound of the footprint."""
    step_s: float | None = None
    """None: the time model was not fitted yet."""
    spread: float | None = None
    """Relative standard deviation of a run's step time."""


class ProbeNote(Model):
    """One probe of a run; notes stand in the order of the probes."""

    key: str
    """Key of the probe in the ledger."""
    phase: Literal["runtime", "calibrate", "search", "certify"]
    """The part of the run that it belongs to."""
    stage: Stage | None = None
    """None: a probe of the calibration, which serves all stages."""
    load: Load | None = None
    """Load of the batch whose step was timed."""
    expected: Expectation | None = None
    """None: no prediction was possible yet."""
    reused: bool = False
    """Whether the ledger of an earlier run held the outcome."""
    status: Status
    detail: str = ""
    """The error of a probe that failed."""
    live_bytes: int | None = None
    """Peak of the bytes that tensors held."""
    footprint_bytes: int | None = None
    """None where it means nothing: on a CPU, of a process that had made other probes before."""
    step: StepTime | None = None
    wall_s: float = 0.0
    """Seconds that the probe took in all."""
