"""The axes of the space besides depth and width: one row and one field each.

To add an axis: a field in `AxisValues` and a row in `AXES`, a setting of the same name in `StageRules` (the values that a
stage chooses from), the code in `compass/workloads/step.py` that applies the value, and tests. Search, cost models,
`estimate`, the report, Optuna's study and exports loop over the table.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Literal

from compass.records.base import Matmul, Pairs, Precision, Record, Scalar


class AxisValues(Record):
    """A value on every axis. `Variant` and `Model` inherit these fields."""

    precision: Precision = "fp32"
    """Floating-point type of the activations; weights are fp32."""
    checkpointing: bool = False
    """Whether layers run again in the backward pass, so that their activations need not be kept."""
    fused: bool = False
    """Whether one kernel updates all weights."""
    matmul: Matmul = "full"
    """`full`, or `reduced`: float32 matrices may be multiplied in TF32 or bf16."""
    compiled: bool = False
    """Whether `torch.compile` compiles the layers."""

    @property
    def axis_values(self) -> dict[str, Scalar]:
        """The value on each axis, by the axis's name."""
        return {axis.name: getattr(self, axis.name) for axis in AXES}

    @property
    def label(self) -> str:
        """The values as a short name, e.g. `bf16+checkpointing`, without those of the weight update, which all models share."""
        return "".join(axis.shown[getattr(self, axis.name)] for axis in AXES if axis.decided_by != "update")

    @property
    def departures(self) -> tuple[bool, ...]:
        """Whether each axis is off its default, the last axis first: sorts the plainest variant to the front."""
        return tuple(getattr(self, axis.name) != axis.default for axis in reversed(AXES))

    @property
    def is_factor(self) -> bool:
        """Whether the step time is modelled as factors of a plainer variant's; see `Axis.own_time`."""
        return any(getattr(self, axis.name) != axis.default for axis in AXES if axis.is_factor)

    @property
    def time_key(self) -> tuple[Hashable, ...]:
        """The values on the axes that have a time model of their own; variants with equal keys share one model."""
        return tuple(getattr(self, axis.name) for axis in AXES if not axis.is_factor)


def options_label(options: Pairs[Scalar]) -> str:
    """Searched options as a part of a variant's name, e.g. `+heads=4`."""
    return "".join(f"+{name}={value}" for name, value in options)


@dataclass(frozen=True)
class Axis:
    """One axis: its values, how they are shown, and which cost models tell them apart."""

    name: str
    """The field of `AxisValues`, the setting of `StageRules`, and the name in studies, tables and exports."""
    shown: Mapping[Scalar, str]
    """Every value, the default first, with its part of a variant's name."""
    of_model: bool
    """Whether the value changes how a model is built; otherwise it changes how a step is made. Exports are grouped by it."""
    own_time: bool = False
    """Whether each value has a time model of its own. Otherwise a value multiplies the parts of the plain variant's step, and
    the few models of `probe.anchor_checkpointing` are timed with it."""
    decided_by: Literal["search", "update", "step"] = "search"
    """What chooses the value: the search of each stage, or a trial on one small model, once on a machine, which times the
    weight update alone or whole steps; then all stages take the fastest of the values that they allow."""
    changes_memory: bool = True
    """Whether memory laws are fitted separately for each value. Otherwise the default's law serves, without probes."""
    family_flag: str = ""
    """Field of `Family` which says whether a workload supports any value but the default; empty: every workload does."""

    @property
    def is_tried(self) -> bool:
        """Whether a trial chooses the value, for all models alike."""
        return self.decided_by != "search"

    @property
    def is_factor(self) -> bool:
        """Whether a value multiplies the parts of the plain variant's step; otherwise each has a time model of its own."""
        return not (self.own_time or self.is_tried)

    @property
    def values(self) -> tuple[Scalar, ...]:
        """Every value, the default first."""
        return tuple(self.shown)

    @property
    def default(self) -> Scalar:
        """The value of a plain model."""
        return self.values[0]


AXES = (
    Axis("precision", {"fp32": "fp32", "bf16": "bf16", "fp16": "fp16"}, of_model=False, own_time=True),
    Axis("checkpointing", {False: "", True: "+checkpointing"}, of_model=True, family_flag="supports_checkpointing"),
    Axis("fused", {False: "", True: "+fused"}, of_model=False, decided_by="update", family_flag="uses_adamw"),
    Axis("matmul", {"full": "", "reduced": "+reduced matmul"}, of_model=False, decided_by="step"),
    Axis("compiled", {False: "", True: "+compiled"}, of_model=False, decided_by="step"),
)
FIRST_AXES = ("precision", "checkpointing")
"""The axes of Compass 0.1.0. Digests name a later axis only where it is off its default, so that adding one changes no key."""
