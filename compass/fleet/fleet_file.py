"""The fleet file: names, prices and power of the kinds of node, and how workload and dataset reach the nodes."""

from __future__ import annotations

import re
import reprlib
from datetime import date
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from compass.config_files import read_yaml_file
from compass.errors import InputError, expected_value

Delivery = Literal["path", "runtime_env"]
WAIT_S = 60.0
"""Seconds until a missing kind is an error: a node that starts, or is taken by another job, needs some."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)


class KindRules(_Strict):
    """What the user says about one kind of node."""

    device: str = ""
    """Its device's name as `compass fleet describe` prints it; `*` stands for any text. Empty: any device."""
    node: str = ""
    """The names of its nodes, with `*`. Empty: any node."""
    partition: str = ""
    """Its partition in Slurm. Empty: named like the kind."""
    price_per_hour: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Of one node, in the file's currency."""
    power_w: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    """Of one node in training, in watts."""


class FleetFile(_Strict):
    """The kinds of node in a fleet, and how things reach them. Every entry has a default."""

    kinds: dict[str, KindRules] = {}
    """By a name of your choice. Nodes that match none are kinds too, named after their device."""
    currency: str = Field(default="", max_length=8)
    """Of the prices."""
    priced_on: date | None = None
    """When the prices held."""
    workload: Delivery = "path"
    """How a workload's file reaches a node: it lies on shared storage at the same path, or Ray sends it."""
    dataset: Delivery = "path"
    """The same for the dataset."""
    wait_s: float = Field(default=WAIT_S, gt=0, le=86_400)
    """Seconds to wait for a kind that is not there."""

    @field_validator("kinds")
    @classmethod
    def _names_are_file_names(cls, kinds: dict[str, KindRules]) -> dict[str, KindRules]:
        for name in kinds:
            if not _NAME.fullmatch(name):
                raise ValueError("names of letters, digits, '.', '_' and '-'")
        return kinds


def read_fleet_file(path: Path | None) -> FleetFile:
    """The fleet file at `path`; without one, every default.

    Raises:
        InputError: it cannot be read, or an entry cannot be used.
    """
    if path is None:
        return FleetFile()
    where = f"fleet file {path}"
    try:
        tree = read_yaml_file(path)
    except OSError as error:
        raise InputError(
            where, got=error.strerror or str(error), expected="a YAML file", fix="See docs/fleet.md for an example."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            where, got=" ".join(str(error).split()), expected="valid YAML", fix="Correct the file."
        ) from error
    try:
        return FleetFile.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        got = "nothing" if first["type"] == "missing" else reprlib.repr(first["input"])
        raise InputError(
            f"{where}, {field}" if field else where,
            got=got,
            expected=expected_value(first).removeprefix("Value error, "),
            fix="See docs/fleet.md for every entry.",
        ) from error
