"""A training run's promises beside its measurements, over all cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compass.records import Cycle, Measured
from compass.records.nouns import of_data
from compass.reporting.figure import Table
from compass.reporting.run_evidence import RunEvidence
from compass.reporting.words import rate
from compass.units import format_bytes, format_seconds

PROMISES = ("", "by the certificate", "promised for this run", "measured", "difference")


@dataclass(frozen=True)
class Totals:
    """Sums over a run's cycles; of the bytes the largest."""

    n_batches: int
    n_graphs: int
    predicted_s: float
    measured_s: float
    data_s: float
    bound_bytes: int
    peak_bytes: int


def totals_of(cycles: Sequence[Cycle]) -> Totals | None:
    """The totals of `cycles`; None without any."""
    if not cycles:
        return None
    return Totals(
        n_batches=sum(cycle.n_batches for cycle in cycles),
        n_graphs=sum(cycle.n_graphs for cycle in cycles),
        predicted_s=sum(cycle.predicted_s for cycle in cycles),
        measured_s=sum(cycle.measured_s for cycle in cycles),
        data_s=sum(cycle.data_s for cycle in cycles),
        bound_bytes=max(cycle.bound_bytes for cycle in cycles),
        peak_bytes=max(cycle.peak_bytes for cycle in cycles),
    )


def promise_table(run: RunEvidence) -> Table:
    """The certificate's figures, those promised for this run's batches, and the measured ones; no rows without a cycle."""
    totals, certified = totals_of(run.cycles), run.plan.measured if run.plan else None
    if totals is None:
        return Table(PROMISES, ())
    rows = [_batch(totals, certified), _rate(totals, certified, run.noun), _footprint(totals, certified)]
    if run.config is not None:
        rows.insert(1, _whole_cycle(totals, certified, run.config.cycle_batches))
    return Table(PROMISES, tuple(rows))


def promise_words(run: RunEvidence) -> str:
    """What the columns of the table mean; empty without a cycle."""
    totals = totals_of(run.cycles)
    if totals is None:
        return ""
    return (
        "The certificate timed its own batches. The promise is for this run's mean batch, with collating and weight updates. "
        f"{totals.data_s / totals.measured_s:.0%} of the measured time was spent waiting for data."
    )


def _batch(totals: Totals, certified: Measured | None) -> tuple[str, ...]:
    return (
        "time of a batch",
        f"{certified.step.median_s:.3g} s" if certified else "",
        f"{totals.predicted_s / totals.n_batches:.3g} s",
        f"{totals.measured_s / totals.n_batches:.3g} s",
        _change(totals.measured_s, totals.predicted_s),
    )


def _whole_cycle(totals: Totals, certified: Measured | None, n_batches: int) -> tuple[str, ...]:
    return (
        f"cycle of {n_batches:,} batches",
        format_seconds(certified.cycle_s) if certified else "",
        format_seconds(n_batches * totals.predicted_s / totals.n_batches),
        format_seconds(n_batches * totals.measured_s / totals.n_batches),
        _change(totals.measured_s, totals.predicted_s),
    )


def _rate(totals: Totals, certified: Measured | None, noun: str) -> tuple[str, ...]:
    return (
        f"{of_data(noun)} per second",
        rate(certified.throughput) if certified else "",
        rate(totals.n_graphs / totals.predicted_s),
        rate(totals.n_graphs / totals.measured_s),
        _change(totals.predicted_s, totals.measured_s),
    )


def _footprint(totals: Totals, certified: Measured | None) -> tuple[str, ...]:
    return (
        "footprint",
        format_bytes(certified.footprint_bytes) if certified else "",
        f"at most {format_bytes(totals.bound_bytes)}",
        format_bytes(totals.peak_bytes),
        _change(totals.peak_bytes, totals.bound_bytes),
    )


def _change(measured: float, promised: float) -> str:
    return f"{measured / promised - 1:+.1%}"
