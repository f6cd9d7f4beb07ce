"""The plots as SVG and PNG for papers, by Matplotlib, from the same values as the page's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compass.errors import InputError
from compass.files import replacing, unwritable
from compass.reporting.figure import LOOKS, Colour, Figure, PlotAxis, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FIGURE_FORMATS = ("svg", "png", "pdf")
SHADES: dict[Colour, str] = {
    "ink": "#000000",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "yellow": "#B8A800",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#9AA0A8",
}
MARKERS = {
    "star": "*",
    "circle": "o",
    "diamond": "D",
    "square": "s",
    "triangle-up": "^",
    "triangle-down": "v",
    "x": "x",
    "x-thin": "x",
    "cross": "+",
    "line-ew": "_",
}
"""Matplotlib's marker for each of Plotly's symbols."""
POINTS_PER_PIXEL = 0.55
"""A figure on paper is smaller than the page."""
STYLE = {
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E6EA",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "compass",
    "pdf.fonttype": 42,
    "savefig.dpi": 300,
}
"""Text stays text, and the same figure always gives the same bytes."""
INCHES = (6.3, 3.9)
"""As wide as a text block."""


def write_figures(figures: Iterable[Figure], folder: Path, formats: Iterable[str] = ("svg", "png")) -> list[Path]:
    """Each figure as a file of each format in `folder`, named by its key.

    Raises:
        InputError: Matplotlib is not installed, or the folder cannot be written to.
    """
    check_matplotlib()
    formats, written = tuple(formats), []
    with _quiet_style():
        for figure in figures:
            drawn = _drawn(figure)
            for kind in formats:
                path = folder / f"{figure.key}.{kind}"
                try:
                    folder.mkdir(parents=True, exist_ok=True)
                    with replacing(path) as file:
                        drawn.savefig(file, format=kind, bbox_inches="tight", metadata=_metadata(kind, figure))
                except OSError as error:
                    raise unwritable(path, error, "--figures") from error
                written.append(path)
    return written


def check_matplotlib() -> None:
    """Make sure that figures can be drawn.

    Raises:
        InputError: Matplotlib is not installed.
    """
    from importlib.util import find_spec

    if find_spec("matplotlib") is None:
        raise InputError(
            "--figures", got="no Matplotlib", expected="it installed", fix="pip install 'compass-optimizer[report]'."
        )


@contextmanager
def _quiet_style() -> Iterator[None]:
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        yield


def _metadata(kind: str, figure: Figure) -> dict[str, Any]:
    """No date, so that files differ only where figures do."""
    return {
        "svg": {"Title": figure.title, "Description": figure.says, "Date": None},
        "png": {"Title": figure.title, "Description": figure.says, "Software": None},
        "pdf": {"Title": figure.title, "Subject": figure.says, "CreationDate": None},
    }[kind]


def _drawn(figure: Figure) -> Any:
    """The figure, drawn without pyplot: no window, no global state."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Sheet

    sheet = Sheet(figsize=INCHES)
    FigureCanvasAgg(sheet)
    axes = sheet.subplots()
    for series in figure.series:
        if not series.hidden:
            _add(axes, series)
            _name(axes, series)
    _dress(axes, figure)
    return sheet


def _add(axes: Axes, series: Series) -> None:
    look = LOOKS[series.role]
    colour, marker = SHADES[look.colour], MARKERS[look.symbol.removesuffix("-open")]
    if series.kind == "bars":
        axes.bar(series.x, series.y, width=0.82, color=colour, label=series.name)
        return
    if series.low:
        below = [y - low for y, low in zip(series.y, series.low, strict=True)]
        above = [high - y for y, high in zip(series.y, series.high, strict=True)]
        axes.errorbar(series.x, series.y, yerr=[below, above], fmt="none", ecolor=colour, elinewidth=1.1, capsize=2)
    axes.plot(
        series.x,
        series.y,
        color=colour,
        label=series.name,
        alpha=look.opacity,
        linestyle="-" if series.kind == "line" else "none",
        marker=marker,
        markersize=POINTS_PER_PIXEL * look.size,
        markerfacecolor="none" if look.is_outline else colour,
        markeredgewidth=1.2 if look.is_outline else 0.4,
        markeredgecolor=colour if look.is_outline else "white",
    )


def _name(axes: Axes, series: Series) -> None:
    """The names of marks, to their upper right."""
    for x, y, name in zip(series.x, series.y, series.names, strict=False):
        axes.annotate(name, (x, y), xytext=(5, 4), textcoords="offset points", fontsize=6)


def _dress(axes: Axes, figure: Figure) -> None:
    axes.set_title(figure.title, loc="left", fontsize=9, fontweight="bold")
    for name, axis in (("x", figure.x), ("y", figure.y)):
        _scale(axes, name, axis)
    _rule(axes, figure)
    if figure.is_square:
        low, high = figure.range
        pad = 0.04 * (high - low)
        axes.set(xlim=(low - pad, high + pad), ylim=(low - pad, high + pad), aspect="equal")
    if figure.y.from_zero:
        axes.set_ylim(0, 1.06 * axes.get_ylim()[1])  # room for marks at the top
    if len(figure.series) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=7)


def _rule(axes: Axes, figure: Figure) -> None:
    """Lines across the plot, labelled where they hide least."""
    bars = any(series.kind == "bars" for series in figure.series)
    line: dict[str, Any] = {
        "color": SHADES["vermillion"],
        "linewidth": 0.9,
        "linestyle": "--",
        "zorder": 3 if bars else 0,
    }
    upright = any(rule.along == "x" for rule in figure.rules)
    for rule in figure.rules:
        if rule.along == "diagonal":
            axes.axline(figure.range[:1] * 2, slope=1, **line)
            axes.annotate(rule.label, figure.range[1:] * 2, ha="right", va="bottom", fontsize=7)
        elif rule.along == "y":
            axes.axhline(rule.value, **line)
            place, side = (0.5, "center") if upright else (float(rule.side == "right"), rule.side)
            at, within = (place, rule.value), ("axes fraction", "data")
            axes.annotate(rule.label, at, xycoords=within, ha=side, va="top" if rule.below else "bottom", fontsize=7)
        else:
            axes.axvline(rule.value, **line)
            at, within = (rule.value, 1), ("data", "axes fraction")
            axes.annotate(rule.label, at, xycoords=within, rotation=90, ha="right", va="top", fontsize=7)


def _scale(axes: Axes, name: str, axis: PlotAxis) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    (axes.set_xlabel if name == "x" else axes.set_ylabel)(axis.title)
    own = axes.xaxis if name == "x" else axes.yaxis
    if axis.labels:
        every = -(-len(axis.labels) // 12)
        places = range(0, len(axis.labels), every)
        own.set_ticks(list(places), [axis.labels[place] for place in places])
    elif axis.whole:
        own.set_major_locator(MaxNLocator(integer=True))
    elif axis.scale == "log":
        (axes.set_xscale if name == "x" else axes.set_yscale)("log")
        own.set_major_locator(LogLocator(subs=(1, 2, 5)))
        own.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
        own.set_minor_formatter(NullFormatter())
