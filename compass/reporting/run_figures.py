"""The plots of a training run: learning curves, predicted against true, and every cycle beside its promise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from compass.records import Cycle
from compass.records.nouns import counted, of_data, singular
from compass.records.training import OF_LIGAND, OF_MEAN
from compass.reporting.figure import Figure, PlotAxis, Role, Rule, Series, Table
from compass.reporting.results import PART_NAMES, metric_words
from compass.reporting.run_evidence import Epoch, PredictedComplex, RunEvidence
from compass.units import GIB, format_bytes, format_count, format_seconds

MOST_DRAWN = 1_000
"""Complexes in one plot: more marks hide each other and slow the page down. The table holds all."""
EPOCH_COLUMNS = ("epoch", "updates", "training loss", "its root", "validation RMSE", "validation R")


# ---------------------------------------------------------------------------------------------------------- learning


def epoch_table(run: RunEvidence) -> Table:
    """A row for each epoch."""
    return Table(EPOCH_COLUMNS, tuple(_epoch_row(epoch) for epoch in run.epochs))


def learning_figure(run: RunEvidence) -> Figure | None:
    """Training and validation error by epoch, with the baselines; None without an epoch."""
    train = _curve(run, "training", "training", lambda epoch: _root(epoch.train_loss))
    validation = _curve(run, "validation", "validation", lambda epoch: epoch.val_rmse)
    best = min((epoch for epoch in run.epochs if epoch.val_rmse is not None), key=_by_validation, default=None)
    kept = (
        []
        if best is None
        else _curve(run, "kept model", "chosen", lambda epoch: epoch.val_rmse if epoch is best else None)
    )
    if not train and not validation:
        return None
    return Figure(
        key="learning-curves",
        title="Error by epoch",
        says=_learning_words(run, best),
        x=PlotAxis("epoch", whole=True),
        y=PlotAxis("RMSE in pK" if validation else "root of the training loss"),
        series=(*train, *validation, *kept),
        table="epochs",
        rules=_baseline_rules(run) if validation else (),
    )


def _learning_words(run: RunEvidence, best: Epoch | None) -> str:
    n = f"{len(run.epochs):,} epochs" if len(run.epochs) != 1 else "1 epoch"
    text = f"{n}. Training: the root of the mean loss during the epoch."
    if best is None or best.val_rmse is None:
        return text
    return f"{text} Validation: after it. The lowest validation error, {best.val_rmse:.2f}, is that of epoch {best.number}, whose model is kept."


def _curve(run: RunEvidence, name: str, role: Role, value: Callable[[Epoch], float | None]) -> list[Series]:
    marks = [(float(epoch.number), y, row) for row, epoch in enumerate(run.epochs) if (y := value(epoch)) is not None]
    if not marks:
        return []
    xs, ys, rows = zip(*marks, strict=True)
    return [Series(name, role, xs, ys, rows, kind="points" if role == "chosen" else "line")]


def _baseline_rules(run: RunEvidence) -> tuple[Rule, ...]:
    """The baselines' validation errors."""
    names = {OF_LIGAND: "validation, ligand alone", OF_MEAN: "validation, mean"}
    return tuple(
        Rule("y", one.metrics.rmse, names[one.of], side="right")
        for one in run.evaluations
        if one.part == "val" and one.of in names and one.metrics.rmse is not None
    )


def _by_validation(epoch: Epoch) -> float:
    return math.inf if epoch.val_rmse is None else epoch.val_rmse


def _root(loss: float | None) -> float | None:
    return None if loss is None or loss < 0 else math.sqrt(loss)


def _epoch_row(epoch: Epoch) -> tuple[str, ...]:
    figures = (epoch.train_loss, _root(epoch.train_loss), epoch.val_rmse, epoch.val_pearson)
    return (
        f"{epoch.number:,}",
        f"{epoch.n_updates:,}",
        *("" if value is None else f"{value:.3f}" for value in figures),
    )


# ------------------------------------------------------------------------------------------------ predicted against true


def complex_table(run: RunEvidence) -> Table:
    """A row for each complex of the last evaluation."""
    columns = (singular(of_data(run.noun)), "part", "true pK", "predicted pK", "ligand alone")
    return Table(columns, tuple(_complex_row(one) for one in run.predictions))


def parity_figures(run: RunEvidence) -> list[Figure]:
    """Predicted against true for each part, the test set first."""
    parts = {part: [(row, one) for row, one in enumerate(run.predictions) if one.part == part] for part in PART_NAMES}
    return [_parity(run, part, marks) for part, marks in reversed(parts.items()) if marks]


def _parity(run: RunEvidence, part: str, marks: Sequence[tuple[int, PredictedComplex]]) -> Figure:
    drawn = marks[:: -(-len(marks) // MOST_DRAWN)]
    values, bounds = ([mark for mark in drawn if mark[1].is_bound == is_bound] for is_bound in (False, True))
    cells = {one.of: metric_words(one) for one in run.evaluations if one.part == part}
    shown = f", {format_count(len(drawn))} of them drawn" if len(drawn) < len(marks) else ""
    beside = f" Ligand alone: RMSE {cells[OF_LIGAND]}." if OF_LIGAND in cells else ""
    model = f" Model: RMSE {cells['model']}." if "model" in cells else ""
    return Figure(
        key=f"parity-{part}",
        title=f"{PART_NAMES[part].capitalize()} set",
        says=f"{counted(len(marks), of_data(run.noun))}{shown}.{model}{beside}",
        x=PlotAxis("true pK"),
        y=PlotAxis("predicted pK"),
        series=(
            *_marks("model", "predicted", [(row, one.pk, one.predicted_pk) for row, one in values]),
            *_marks("model, label is a bound", "bounded", [(row, one.pk, one.predicted_pk) for row, one in bounds]),
            *_marks("ligand alone", "ligand", [(row, one.pk, one.ligand_pk) for row, one in values], hidden=True),
        ),
        table="predictions",
        rules=(Rule("diagonal", 0.0, "exact"),),
    )


def _marks(
    name: str, role: Role, found: Sequence[tuple[int, float, float | None]], *, hidden: bool = False
) -> list[Series]:
    marks = [(row, x, y) for row, x, y in found if y is not None]
    if not marks:
        return []
    rows, x, y = zip(*marks, strict=True)
    return [Series(name, role, x, y, rows, hidden=hidden)]


def _complex_row(one: PredictedComplex) -> tuple[str, ...]:
    relation = one.relation if one.is_bound else ""
    ligand = "" if one.ligand_pk is None else f"{one.ligand_pk:.2f}"
    return (one.id, PART_NAMES.get(one.part, one.part), f"{relation}{one.pk:.2f}", f"{one.predicted_pk:.2f}", ligand)


# -------------------------------------------------------------------------------------------------------------- cycles


def cycle_table(run: RunEvidence) -> Table:
    """A row for each cycle."""
    columns = (
        "cycle",
        "batches",
        of_data(run.noun),
        "promised",
        "measured",
        "difference",
        "waiting for data",
        "median step",
        "footprint",
        "bound",
        "loss",
    )
    return Table(columns, tuple(_cycle_row(cycle) for cycle in run.cycles))


def cycle_figures(run: RunEvidence) -> list[Figure]:
    """Time per batch and footprint of every cycle, beside the promise."""
    return [_times(run), _memory(run)] if run.cycles else []


def _times(run: RunEvidence) -> Figure:
    cycles = run.cycles
    promised_s = sum(cycle.predicted_s for cycle in cycles) / sum(cycle.n_batches for cycle in cycles)
    worst = max(cycles, key=lambda cycle: abs(cycle.slowness - 1))
    scale, unit = (1000.0, "ms") if promised_s < 0.5 else (1.0, "s")
    return Figure(
        key="cycle-times",
        title="Time per batch",
        says=(
            f"Mean time of a batch in each cycle, waiting for data included; {format_seconds(promised_s)} were promised. "
            f"The largest difference is {worst.slowness - 1:+.1%}, in cycle {worst.number}."
        ),
        x=_cycle_axis(cycles),
        y=PlotAxis(f"{unit} per batch", from_zero=True),
        series=(_cycle_series("measured", cycles, [scale * cycle.measured_s / cycle.n_batches for cycle in cycles]),),
        table="cycles",
        rules=(Rule("y", scale * promised_s, "promised", below=True),),
    )


def _memory(run: RunEvidence) -> Figure:
    cycles = run.cycles
    bound_bytes, peak_bytes = max(cycle.bound_bytes for cycle in cycles), max(cycle.peak_bytes for cycle in cycles)
    scale = GIB if max(bound_bytes, peak_bytes) >= GIB else 1024**2
    rules = [Rule("y", bound_bytes / scale, "bound")]
    if run.budget_bytes is not None and run.budget_bytes > 1.03 * bound_bytes:
        rules.append(Rule("y", run.budget_bytes / scale, "budget"))
    kept = "It stayed under its bound" if peak_bytes <= bound_bytes else "It exceeded its bound"
    return Figure(
        key="cycle-memory",
        title="Footprint",
        says=f"Largest footprint until the end of each cycle. {kept}: {format_bytes(peak_bytes)}, bound {format_bytes(bound_bytes)}.",
        x=_cycle_axis(cycles),
        y=PlotAxis("GiB" if scale == GIB else "MiB", from_zero=True),
        series=(_cycle_series("measured", cycles, [cycle.peak_bytes / scale for cycle in cycles]),),
        table="cycles",
        rules=tuple(rules),
    )


def _cycle_axis(cycles: Sequence[Cycle]) -> PlotAxis:
    return PlotAxis("cycle", labels=tuple(str(cycle.number) for cycle in cycles))


def _cycle_series(name: str, cycles: Sequence[Cycle], y: Sequence[float]) -> Series:
    places = tuple(range(len(cycles)))
    return Series(name, "measured", tuple(map(float, places)), tuple(y), places, kind="line")


def _cycle_row(cycle: Cycle) -> tuple[str, ...]:
    return (
        str(cycle.number),
        f"{cycle.n_batches:,}",
        f"{cycle.n_graphs:,}",
        format_seconds(cycle.predicted_s),
        format_seconds(cycle.measured_s),
        f"{cycle.slowness - 1:+.1%}",
        f"{cycle.data_s / cycle.measured_s:.0%}",
        f"{cycle.step_s:.3g} s",
        format_bytes(cycle.peak_bytes),
        format_bytes(cycle.bound_bytes),
        f"{cycle.loss:.3f}",
    )
