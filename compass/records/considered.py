"""What was looked at on the way to a plan: every model, other circumstances, and each probe beside its prediction.

Thousands of these may stand in a profile, so they name a model by what the space varies; its other knobs are the
configuration's `space.options`.
"""

from __future__ import annotations

from typing import Any, Literal, Self

from compass.records.axes import AxisValues
from compass.records.base import Record, Stage
from compass.records.knobs import Knobs, Load
from compass.records.probing import Status, StepTime

CandidateVerdict = Literal["chosen", "admissible", "untried", "memory", "time", "batch", "data", "space", "model"]
"""`admissible`: would do, but scores less. `untried`: a sampler never asked. Else what rules it out: not one graph fits;
too slow even alone; only batches under the minimum fit; more parameters than the data feed; outside the stage's share of the
reference's capacity; does not run."""


WhatIfChange = Literal["none", "memory", "time", "data"]


class ModelShape(Record):
    """Depth and width of a model."""

    layers: int
    channels: int


class Model(AxisValues, ModelShape):
    """A model of the space: its depth, width and value on every axis. The family's options are left out."""

    @classmethod
    def of(cls, knobs: Knobs, **others: Any) -> Self:
        """The record of `knobs`, with the `others` of its fields. The only place that takes knobs apart."""
        return cls(layers=knobs.layers, channels=knobs.channels, **knobs.variant.axis_values, **others)

    def is_of(self, knobs: Knobs) -> bool:
        """Whether this names `knobs`."""
        same_shape = (self.layers, self.channels) == (knobs.layers, knobs.channels)
        return same_shape and self.axis_values == knobs.variant.axis_values

    def is_same(self, other: Model) -> bool:
        """Whether both name the same model; other fields may differ."""
        same_shape = (self.layers, self.channels) == (other.layers, other.channels)
        return same_shape and self.axis_values == other.axis_values


class Candidate(Model):
    """One model as a stage saw it last, with the batch it would have there. Figures are predictions, to six digits."""

    capacity: int
    """Trainable parameters."""
    verdict: CandidateVerdict
    reason: str = ""
    """What a probe of it, or of a smaller one, said."""
    batch_size: int | None = None
    """None, as all that follows: it does not run, or its size alone rules it out."""
    live_bytes: float | None = None
    footprint_bound_bytes: float | None = None
    step_s: float | None = None
    spread: float | None = None
    """Relative standard deviation of a run's step."""
    score: float | None = None

    @property
    def throughput(self) -> float | None:
        """Graphs per second."""
        return self.batch_size / self.step_s if self.batch_size and self.step_s else None


class ScoreTerms(Record):
    """A measured score taken apart into its two terms. The reference scores 1."""

    worth: float
    """Of a sample, at the measured cycle: 1 up to the target."""
    throughput_ratio: float
    """Measured graphs per second times their worth, over the reference's predicted."""
    capacity_ratio: float
    """Over the reference's."""
    samples: float
    """(1 − q) · throughput_ratio^−β"""
    parameters: float
    """q · capacity_ratio^−α"""

    @property
    def score(self) -> float:
        """The sum of both."""
        return self.samples + self.parameters


class WhatIf(Record):
    """What a stage would choose on paper if one circumstance were another."""

    change: WhatIfChange
    """`none`: what it would choose on paper now, to compare the others with."""
    amount: float = 0.0
    """More of it: bytes of budget, seconds of target, or complexes."""
    pick: Candidate | None = None
    """None: nothing is admissible."""


class Expectation(Record):
    """What was predicted of a probe before it ran."""

    live_bytes: float
    footprint_bound_bytes: float
    step_s: float | None = None
    """None: the time model was still being made, or times are compared under another allocator."""
    spread: float | None = None
    """Relative standard deviation of a run's step."""


class ProbeNote(Model):
    """One probe of a run, in the order they were made."""

    key: str
    """The probe's in the ledger."""
    phase: Literal["runtime", "calibrate", "search", "certify"]
    stage: Stage | None = None
    """None: calibration serves all."""
    load: Load | None = None
    """Of the batch whose step was timed."""
    expected: Expectation | None = None
    """None: nothing was known yet."""
    reused: bool = False
    """Answered from the ledger."""
    status: Status
    detail: str = ""
    live_bytes: int | None = None
    footprint_bytes: int | None = None
    """None where it says nothing: on a CPU, of a process that had made other probes before."""
    step: StepTime | None = None
    wall_s: float = 0.0
