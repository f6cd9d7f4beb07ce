"""A plot as data: drawn by Plotly in the page and by Matplotlib for papers, from the same values.

A mark names its row of the table: the row is shown under the pointer, and is read instead of the plot.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Scale = Literal["linear", "log"]
Role = Literal[
    "chosen",
    "achieved",
    "runner_up",
    "front",
    "admissible",
    "untried",
    "memory",
    "time",
    "batch",
    "data",
    "space",
    "model",
    "bound",
    "measured",
    "measured_too",
    "runtime",
    "calibrate",
    "search",
    "certify",
    "failed",
    "bars",
    "training",
    "validation",
    "predicted",
    "ligand",
    "bounded",
]
"""The meaning of a series, which decides its `Look`."""
Colour = Literal["ink", "orange", "sky", "green", "yellow", "blue", "vermillion", "purple", "grey"]
"""Okabe and Ito's palette, by name; the page and the files have shades of their own."""


@dataclass(frozen=True)
class Look:
    """How the marks of a role are drawn, in the page and in files alike."""

    colour: Colour
    symbol: str
    """As Plotly names it; `-open` symbols are outlines."""
    size: float
    """Pixels in the page."""
    opacity: float = 1.0

    @property
    def is_outline(self) -> bool:
        """Whether a mark has no area to fill."""
        return self.symbol.endswith("-open") or self.symbol in {"x", "cross"}


LOOKS: dict[Role, Look] = {
    "chosen": Look("vermillion", "star", 15),
    "achieved": Look("vermillion", "diamond-open", 22),
    "measured": Look("vermillion", "diamond-open", 13),
    "measured_too": Look("green", "circle", 8),
    "runner_up": Look("orange", "diamond", 11),
    "front": Look("ink", "circle-open", 15),
    "admissible": Look("blue", "circle", 8),
    "untried": Look("grey", "circle-open", 8),
    "memory": Look("purple", "triangle-up", 8),
    "time": Look("yellow", "triangle-down", 8),
    "batch": Look("green", "square", 7),
    "data": Look("grey", "x-thin-open", 5),
    "space": Look("grey", "circle", 4, opacity=0.6),
    "model": Look("ink", "cross", 8),
    "bound": Look("blue", "line-ew-open", 13),
    "runtime": Look("purple", "triangle-down", 8),
    "calibrate": Look("sky", "circle", 8),
    "search": Look("orange", "square", 8),
    "certify": Look("green", "diamond", 8),
    "failed": Look("vermillion", "x", 9),
    "bars": Look("blue", "square", 8),
    "training": Look("blue", "circle", 7),
    "validation": Look("orange", "square", 7),
    "predicted": Look("blue", "circle", 6, opacity=0.7),
    "ligand": Look("orange", "diamond-open", 6, opacity=0.7),
    "bounded": Look("purple", "triangle-up", 7, opacity=0.7),
}
"""Symbols differ where colours do, so that colour alone never carries a meaning."""


@dataclass(frozen=True)
class Table:
    """Text in rows: the values behind one or more plots."""

    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class PlotAxis:
    """The title of an axis, with its unit, and its scale."""

    title: str
    scale: Scale = "linear"
    labels: tuple[str, ...] = ()
    """Of the places 0, 1, 2 …, on an axis that counts instead of measuring."""
    whole: bool = False
    """Whether only whole numbers have a meaning."""
    from_zero: bool = False
    """Whether the axis begins at zero, so that lengths can be compared."""


@dataclass(frozen=True)
class Series:
    """Marks, bars or a line of one role."""

    name: str
    role: Role
    x: tuple[float, ...]
    y: tuple[float, ...]
    rows: tuple[int, ...] = ()
    """The row of the table for each mark; empty: the marks have none."""
    names: tuple[str, ...] = ()
    """A text beside each mark, left out where it would cover another one; empty: none."""
    kind: Literal["points", "bars", "line"] = "points"
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    """The interval around y."""
    hidden: bool = False
    """Whether the page shows it only when asked to, and files not at all."""


@dataclass(frozen=True)
class Rule:
    """A line across the plot at a limit or a target, or along x = y."""

    along: Literal["x", "y", "diagonal"]
    """The axis on which the value lies; `diagonal`: the line x = y, on axes of one scale."""
    value: float
    label: str
    side: Literal["left", "right"] = "left"
    """The end of a horizontal line at which its label stands."""
    below: bool = False
    """Whether the label stands below a horizontal line, where marks usually lie above it."""


@dataclass(frozen=True)
class Figure:
    """One plot, with the words that describe it."""

    key: str
    """Names its files."""
    title: str
    says: str
    """The plot in words; also read out instead of it."""
    x: PlotAxis
    y: PlotAxis
    series: tuple[Series, ...]
    table: str
    """Key of its table."""
    rules: tuple[Rule, ...] = ()

    @property
    def is_square(self) -> bool:
        """Whether both axes have one scale and one range."""
        return any(rule.along == "diagonal" for rule in self.rules)

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest coordinate of all marks."""
        values = [value for series in self.series for value in (*series.x, *series.y)]
        return min(values), max(values)
