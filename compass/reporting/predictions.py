"""Each probe's prediction, made before it ran, beside its measurement."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from compass.records import NORMAL_90, Expectation, ProbeNote, StepTime
from compass.records.nouns import of_batch
from compass.reporting.evidence import Evidence
from compass.reporting.figure import Figure, PlotAxis, Rule, Series, Table
from compass.reporting.words import STAGE_NAMES, model_name
from compass.units import GIB, format_bytes


@dataclass(frozen=True)
class PredictedProbe:
    """A probe of which something was predicted and measured."""

    row: int
    """Of the table."""
    number: int
    """Of the probe within its run, from 1."""
    note: ProbeNote
    expected: Expectation


@dataclass(frozen=True)
class _StepError:
    """A measured step over its prediction; 1 is exact."""

    probe: PredictedProbe
    ratio: float
    low: float
    high: float
    """Ends of the measured median's interval, over the prediction as well."""
    factor: float
    """The predicted interval reaches from 1/factor to factor."""

    @classmethod
    def of(cls, probe: PredictedProbe, step: StepTime, expected_s: float) -> _StepError:
        """The error of `step`, of which `expected_s` was predicted."""
        ratio, low, high = (seconds / expected_s for seconds in (step.median_s, step.low_s, step.high_s))
        return cls(probe, ratio, low, high, _factor(probe.expected))

    @property
    def is_inside(self) -> bool:
        """Whether the measured median lies inside the predicted interval."""
        return 1 / self.factor <= self.ratio <= self.factor


def predicted_probes(evidence: Evidence) -> list[PredictedProbe]:
    """The probes of which something was predicted and measured, in the order they were made."""
    found: list[PredictedProbe] = []
    for number, note in enumerate(evidence.probe_log, 1):
        if note.expected is not None and (note.step is not None or note.footprint_bytes is not None):
            found.append(PredictedProbe(len(found), number, note, note.expected))
    return found


def prediction_table(evidence: Evidence) -> Table:
    """One row for each of them."""
    columns = (
        "probe",
        "stage",
        "model",
        of_batch(evidence.noun),
        "live, predicted",
        "live, measured",
        "footprint, at most",
        "footprint, measured",
        "step, predicted",
        "step, measured",
        "measured / predicted",
    )
    return Table(columns, tuple(map(_row, predicted_probes(evidence))))


def prediction_figures(evidence: Evidence) -> list[Figure]:
    """Memory with the budget, and time as measured over predicted."""
    return [figure for figure in (_memory(evidence), _time(evidence)) if figure is not None]


def _row(probe: PredictedProbe) -> tuple[str, ...]:
    note, expected, step = probe.note, probe.expected, probe.note.step
    return (
        str(probe.number),
        STAGE_NAMES[note.stage] if note.stage else "calibration",
        model_name(note),
        "" if note.load is None else f"{note.load.graphs:,}",
        format_bytes(expected.live_bytes),
        "" if note.live_bytes is None else format_bytes(note.live_bytes),
        format_bytes(expected.footprint_bound_bytes),
        "" if note.footprint_bytes is None else format_bytes(note.footprint_bytes),
        _interval(expected),
        "" if step is None else f"{_s(step.median_s)}, {_s(step.low_s)} to {_s(step.high_s)}",
        "" if step is None or expected.step_s is None else f"{step.median_s / expected.step_s:.3f}",
    )


def _interval(expected: Expectation) -> str:
    if expected.step_s is None:
        return ""
    factor = _factor(expected)
    return f"{_s(expected.step_s)}, {_s(expected.step_s / factor)} to {_s(expected.step_s * factor)}"


def _factor(expected: Expectation) -> float:
    """By which the 90 % interval of a step reaches below and above the prediction."""
    return math.exp(NORMAL_90 * (expected.spread or 0.0))


def _s(seconds: float) -> str:
    return f"{seconds:.3g} s"


def _memory(evidence: Evidence) -> Figure | None:
    """A bar from the predicted live bytes to the bound of the footprint; the measured footprint lies inside."""
    probes = [probe for probe in predicted_probes(evidence) if probe.note.footprint_bytes is not None]
    if not probes:
        return None
    live = tuple(probe.expected.live_bytes / GIB for probe in probes)
    bound = tuple(probe.expected.footprint_bound_bytes / GIB for probe in probes)
    footprint = tuple((probe.note.footprint_bytes or 0) / GIB for probe in probes)
    n_held = sum(measured <= most for measured, most in zip(footprint, bound, strict=True))
    budget = evidence.hardware.budget_bytes if evidence.hardware else None
    x, rows = _side_by_side(probes), _rows(probes)
    return Figure(
        key="memory",
        title="Memory: predicted and measured",
        says=(
            f"Memory of {len(probes)} probes on real samples, in GiB, in the order they were made. In {n_held} of them the "
            f"measured footprint stayed under the predicted bound"
            + ("." if budget is None else f"; the budget is {format_bytes(budget)}.")
        ),
        x=_probe_axis(probes),
        y=PlotAxis("GiB"),
        series=(
            Series("predicted: live to footprint at most", "bound", x, bound, rows, low=live, high=bound),
            Series("footprint, measured", "measured", x, footprint, rows),
            *_live_measured(probes),
        ),
        table="predictions",
        rules=() if budget is None else (Rule("y", budget / GIB, "budget"),),
    )


def _live_measured(probes: Sequence[PredictedProbe]) -> list[Series]:
    """The measured live bytes; a certificate under a ceiling has none, since it runs without the profiler."""
    known = [(x, probe) for x, probe in enumerate(probes) if probe.note.live_bytes is not None]
    if not known:
        return []
    measured = tuple((probe.note.live_bytes or 0) / GIB for _, probe in known)
    x, rows = tuple(float(x) for x, _ in known), tuple(probe.row for _, probe in known)
    return [Series("live, measured", "measured_too", x, measured, rows)]


def _time(evidence: Evidence) -> Figure | None:
    """Ratios, since steps differ by orders of magnitude and errors by per cents."""
    errors = [
        _StepError.of(probe, probe.note.step, probe.expected.step_s)
        for probe in predicted_probes(evidence)
        if probe.note.step and probe.expected.step_s
    ]
    if not errors:
        return None
    probes = [error.probe for error in errors]
    x, rows = _side_by_side(probes), _rows(probes)
    n_inside, worst = sum(error.is_inside for error in errors), max(abs(error.ratio - 1) for error in errors)
    return Figure(
        key="time",
        title="Step time: measured over predicted",
        says=(
            f"Measured over predicted step time of {len(errors)} probes, in the order they were made: 1 is exact. {n_inside} lie "
            f"inside the predicted 90 % interval; the largest error is {worst:.1%}."
        ),
        x=_probe_axis(probes),
        y=PlotAxis("measured / predicted"),
        series=(
            Series(
                "predicted, 90 % interval",
                "bound",
                x,
                (1.0,) * len(errors),
                rows,
                low=tuple(1 / error.factor for error in errors),
                high=tuple(error.factor for error in errors),
            ),
            Series(
                "measured",
                "measured",
                x,
                tuple(error.ratio for error in errors),
                rows,
                low=tuple(error.low for error in errors),
                high=tuple(error.high for error in errors),
            ),
        ),
        table="predictions",
        rules=(Rule("y", 1.0, "exact"),),
    )


def _probe_axis(probes: Sequence[PredictedProbe]) -> PlotAxis:
    return PlotAxis("probe", labels=tuple(str(probe.number) for probe in probes))


def _side_by_side(probes: Sequence[PredictedProbe]) -> tuple[float, ...]:
    """A place on the axis for each probe."""
    return tuple(map(float, range(len(probes))))


def _rows(probes: Sequence[PredictedProbe]) -> tuple[int, ...]:
    return tuple(probe.row for probe in probes)
