"""The frozen values that cross rooms and processes. They hold data and arithmetic, never behaviour.

Everything here has a JSON form (`model_dump_json` / `model_validate_json`), because a probe is asked for and answered
across a process boundary, kept in a ledger and written into a profile.
"""

from compass.records.axes import AXES, Axis, AxisValues
from compass.records.base import STAGES, Precision, Record, Scalar, Stage, digest
from compass.records.choosing import (
    Affine,
    BatchBudget,
    BytesLaw,
    Certificate,
    Choice,
    DatasetSummary,
    Estimate,
    Estimates,
    Interval,
    Progress,
    RuntimeChoice,
    RuntimeTrial,
    SizeSummary,
    StageFailure,
    StagePlan,
)
from compass.records.considered import Candidate, Change, Expectation, Model, ProbeNote, ScoreTerms, Verdict, WhatIf
from compass.records.devices import DEVICE_KINDS, DeviceKind, device_kind
from compass.records.knobs import (
    Allocator,
    Batch,
    Fingerprint,
    Hardware,
    Knobs,
    Load,
    RuntimeSettings,
    Variant,
    Waiting,
)
from compass.records.probing import Description, Family, Outcome, ProbeSpec, Status, StepTime, TrainedCycle

__all__ = [
    "AXES",
    "DEVICE_KINDS",
    "STAGES",
    "Affine",
    "Allocator",
    "Axis",
    "AxisValues",
    "Batch",
    "BatchBudget",
    "BytesLaw",
    "Candidate",
    "Certificate",
    "Change",
    "Choice",
    "DatasetSummary",
    "Description",
    "DeviceKind",
    "Estimate",
    "Estimates",
    "Expectation",
    "Family",
    "Fingerprint",
    "Hardware",
    "Interval",
    "Knobs",
    "Load",
    "Model",
    "Outcome",
    "Precision",
    "ProbeNote",
    "ProbeSpec",
    "Progress",
    "Record",
    "RuntimeChoice",
    "RuntimeSettings",
    "RuntimeTrial",
    "Scalar",
    "ScoreTerms",
    "SizeSummary",
    "Stage",
    "StageFailure",
    "StagePlan",
    "Status",
    "StepTime",
    "TrainedCycle",
    "Variant",
    "Verdict",
    "Waiting",
    "WhatIf",
    "device_kind",
    "digest",
]
