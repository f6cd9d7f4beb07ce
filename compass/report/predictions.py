"""What was predicted of each probe before it ran, beside what it showed."""

from __future__ import annotations

import math

from compass.records import Expectation, ProbeNote
from compass.report.evidence import Evidence
from compass.report.figure import Axis, Figure, Rule, Series, Table
from compass.report.words import STAGE_NAMES, model_name
from compass.units import GIB, format_bytes

QUANTILE = 1.645
"""Standard deviations that hold 90 % of a normal distribution on both sides of its mean."""
HEADERS = (
    "probe", "for", "model", "graphs", "live, predicted", "live, measured", "footprint, at most", "footprint, measured",
    "step, predicted", "step, measured", "measured / predicted",
)  # fmt: skip


def predicted_notes(evidence: Evidence) -> list[tuple[int, ProbeNote]]:
    """The probes of which something was predicted and measured, with their places in the trail."""
    return [
        (place, note)
        for place, note in enumerate(evidence.trail)
        if note.expected is not None and (note.step is not None or note.footprint_bytes is not None)
    ]


def prediction_table(evidence: Evidence) -> Table:
    """One row for each of them."""
    return Table(HEADERS, tuple(_row(place, note) for place, note in predicted_notes(evidence)))


def prediction_figures(evidence: Evidence) -> list[Figure]:
    """Memory with the budget, and time as measured over predicted."""
    return [figure for figure in (_memory(evidence), _time(evidence)) if figure is not None]


def _row(place: int, note: ProbeNote) -> tuple[str, ...]:
    expected, step = note.expected, note.step
    if expected is None:
        raise ValueError(f"probe {note.key}: nothing was predicted of it")
    return (
        str(place + 1),
        STAGE_NAMES[note.stage] if note.stage else "calibration",
        model_name(note),
        "" if note.load is None else f"{note.load.graphs:,}",
        format_bytes(expected.live_bytes),
        "" if note.live_bytes is None else format_bytes(note.live_bytes),
        format_bytes(expected.footprint_bytes),
        "" if note.footprint_bytes is None else format_bytes(note.footprint_bytes),
        _interval(expected),
        "" if step is None else f"{_s(step.median_s)}, {_s(step.low_s)} to {_s(step.high_s)}",
        "" if step is None or expected.step_s is None else f"{step.median_s / expected.step_s:.3f}",
    )


def _interval(expected: Expectation) -> str:
    if expected.step_s is None:
        return ""
    factor = math.exp(QUANTILE * (expected.spread or 0.0))
    return f"{_s(expected.step_s)}, {_s(expected.step_s / factor)} to {_s(expected.step_s * factor)}"


def _s(seconds: float) -> str:
    return f"{seconds:.3g} s"


def _memory(evidence: Evidence) -> Figure | None:
    """A bar from the live bytes to the most that the process may reach; what was measured lies inside."""
    seen = [
        (row, place, note.expected, note.footprint_bytes, note.live_bytes)
        for row, (place, note) in enumerate(predicted_notes(evidence))
        if note.expected is not None and note.footprint_bytes is not None
    ]
    if not seen:
        return None
    x, rows = _along(len(seen)), tuple(row for row, *_ in seen)
    bound = tuple(expected.footprint_bytes / GIB for _, _, expected, _, _ in seen)
    live = tuple(expected.live_bytes / GIB for _, _, expected, _, _ in seen)
    footprint = tuple(footprint_bytes / GIB for *_, footprint_bytes, _ in seen)
    held = sum(taken <= most for taken, most in zip(footprint, bound, strict=True))
    budget = evidence.hardware.budget_bytes if evidence.hardware else None
    series = [
        Series("predicted: live to footprint at most", "bound", x, bound, rows, low=live, high=bound),
        Series("footprint, measured", "measured", x, footprint, rows),
    ]
    told = [(float(i), row, live_bytes / GIB) for i, (row, *_, live_bytes) in enumerate(seen) if live_bytes is not None]
    if told:
        where, its_rows, values = zip(*told, strict=True)
        series.append(Series("live, measured", "measured_too", where, values, its_rows))
    return Figure(
        key="memory",
        title="Memory: predicted and measured",
        says=(
            f"Memory of {len(seen)} probes on real samples, in GiB, in the order they were made. In {held} of them the measured "
            f"footprint stayed under the bound that was predicted"
            + ("." if budget is None else f"; the budget is {format_bytes(budget)}.")
        ),
        x=Axis("probe", labels=tuple(str(place + 1) for _, place, *_ in seen)),
        y=Axis("GiB"),
        series=tuple(series),
        table="predictions",
        rules=() if budget is None else (Rule("y", budget / GIB, "budget"),),
    )


def _time(evidence: Evidence) -> Figure | None:
    """Ratios, for steps differ by orders of magnitude and errors by per cents."""
    seen = [
        (row, place, note.step, note.expected.step_s, math.exp(QUANTILE * (note.expected.spread or 0.0)))
        for row, (place, note) in enumerate(predicted_notes(evidence))
        if note.step and note.expected and note.expected.step_s
    ]
    if not seen:
        return None
    x, rows = _along(len(seen)), tuple(row for row, *_ in seen)
    factors = tuple(factor for *_, factor in seen)
    ratios = tuple(step.median_s / expected_s for _, _, step, expected_s, _ in seen)
    inside = sum(1 / factor <= ratio <= factor for ratio, factor in zip(ratios, factors, strict=True))
    worst = max(abs(ratio - 1) for ratio in ratios)
    return Figure(
        key="time",
        title="Step time: measured over predicted",
        says=(
            f"Measured over predicted step time of {len(seen)} probes, in the order they were made: 1 is exact. {inside} lie inside "
            f"the 90 % interval that was predicted; the farthest is off by {worst:.1%}."
        ),
        x=Axis("probe", labels=tuple(str(place + 1) for _, place, *_ in seen)),
        y=Axis("measured / predicted"),
        series=(
            Series("predicted, 90 % interval", "bound", x, (1.0,) * len(seen), rows,
                   low=tuple(1 / factor for factor in factors), high=factors),
            Series("measured", "measured", x, ratios, rows,
                   low=tuple(step.low_s / expected_s for _, _, step, expected_s, _ in seen),
                   high=tuple(step.high_s / expected_s for _, _, step, expected_s, _ in seen)),
        ),
        table="predictions",
        rules=(Rule("y", 1.0, "exact"),),
    )  # fmt: skip


def _along(count: int) -> tuple[float, ...]:
    """Places side by side."""
    return tuple(map(float, range(count)))
