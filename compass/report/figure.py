"""A plot as data: drawn by Plotly in the page and by Matplotlib for papers, from the same values.

Rows of the table are what a pointer shows and what is read instead of the plot, so a mark names its row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scale = Literal["linear", "log"]
Role = Literal[
    "chosen", "achieved", "runner_up", "front", "admissible", "untried", "memory", "time", "batch", "data", "space", "model",
    "bound", "measured", "measured_too", "runtime", "calibrate", "search", "certify", "failed", "bars",
]  # fmt: skip
"""What a series stands for; colour and symbol follow from it."""


@dataclass(frozen=True)
class Table:
    """Text in rows: what stands behind one or more plots."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Axis:
    """What is along it, with its unit."""

    title: str
    scale: Scale = "linear"
    labels: tuple[str, ...] = ()
    """Of the places 0, 1, 2 …, where it counts things instead of measuring."""


@dataclass(frozen=True)
class Series:
    """Marks or bars of one role."""

    name: str
    role: Role
    x: tuple[float, ...]
    y: tuple[float, ...]
    rows: tuple[int, ...] = ()
    """Of the table, one a mark; none: nothing to point at."""
    kind: Literal["points", "bars"] = "points"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    """Between what y should lie."""


@dataclass(frozen=True)
class Rule:
    """A line across the plot, at a value that means something."""

    along: Literal["x", "y"]
    """The axis on which the value lies."""
    value: float
    label: str


@dataclass(frozen=True)
class Figure:
    """One plot."""

    key: str
    """Names its files."""
    title: str
    says: str
    """What is to be seen in it, in words; also read out instead of it."""
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    table: str
    """Key of its table."""
    rules: tuple[Rule, ...] = ()
