"""Prediction against reality: what every finished cycle took and held, beside what the plan said."""

from __future__ import annotations

import csv
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from compass.records import Batch, Load, Record, RuntimeSettings, StagePlan
from compass.units import format_bytes, format_seconds

log = logging.getLogger(__name__)

CYCLES = "cycles.csv"
FAR_LONGER = 1.5


class Cycle(Record):
    """A run of batches, measured."""

    number: int
    n_batches: int
    n_graphs: int
    predicted_s: float
    """For as many batches."""
    measured_s: float
    """Steps and waiting for data; without evaluations and checkpoints."""
    data_s: float
    """Of which waiting for data."""
    step_s: float
    """The median step."""
    bound_bytes: int
    peak_bytes: int
    """Since training began."""
    loss: float
    """Mean over the graphs."""

    def __str__(self) -> str:
        off = self.measured_s / self.predicted_s - 1
        bottleneck = "data loading" if self.data_s > self.measured_s / 2 else "the device"
        waiting = f", {self.data_s / self.measured_s:.0%} of it waiting for data: {bottleneck} is the bottleneck"
        return (
            f"cycle {self.number}: {self.n_batches} batches in {format_seconds(self.measured_s)} "
            f"({format_seconds(self.predicted_s)} predicted, {off:+.1%}){waiting}; "
            f"{format_bytes(self.peak_bytes)} at most (bound {format_bytes(self.bound_bytes)}); loss {self.loss:.3f}"
        )


class CycleClock:
    """Gathers steps until a cycle is full."""

    def __init__(self, step_s: float, bound_bytes: int, n_batches: int) -> None:
        self._promised_s, self._bound_bytes, self._size = step_s, bound_bytes, n_batches
        self.number = 0
        self._step_s: list[float] = []
        self._data_s = 0.0
        self._loss = 0.0
        self._loads: list[tuple[Batch, Load]] = []

    def add(self, batch: Batch, load: Load, *, step_s: float, data_s: float, loss: float) -> None:
        """Take in one batch."""
        self._step_s.append(step_s)
        self._data_s += data_s
        self._loss += loss * load.graphs
        self._loads.append((batch, load))

    @property
    def full(self) -> bool:
        """Whether a cycle is complete."""
        return len(self._step_s) >= self._size

    @property
    def step_times(self) -> Sequence[float]:
        """Seconds of the steps so far."""
        return self._step_s

    @property
    def loads(self) -> Sequence[tuple[Batch, Load]]:
        """The batches so far."""
        return self._loads

    def finish(self, peak_bytes: int) -> Cycle:
        """The cycle so far."""
        n_graphs = sum(load.graphs for _, load in self._loads)
        return Cycle(
            number=self.number + 1,
            n_batches=len(self._step_s),
            n_graphs=n_graphs,
            predicted_s=self._promised_s * len(self._step_s),
            measured_s=sum(self._step_s) + self._data_s,
            data_s=self._data_s,
            step_s=median(self._step_s),
            bound_bytes=self._bound_bytes,
            peak_bytes=peak_bytes,
            loss=self._loss / max(1, n_graphs),
        )

    def start_anew(self) -> None:
        """The next cycle begins."""
        self.number += 1
        self._step_s, self._data_s, self._loss, self._loads = [], 0.0, 0.0, []


def promised_s(plan: StagePlan, mean_load: Load, *, budgeted: bool) -> float:
    """What `plan` says that batches of this load take in the mean: hiccups and, without loaders of their own, their making included.

    Certificates update weights at every step, training once in `plan.accumulate` batches. Budgeted batches are as full
    whatever they are made of.
    """
    budget, measured = plan.batch_budget, plan.measured
    step = measured.step
    hiccups = step.of_many_s / step.median_s
    collate_s = 0.0 if plan.loader_workers else measured.collate_s or 0.0
    if budgeted and budget is not None:
        step_s = budget.mean_graphs / budget.throughput
    else:
        step_s = step.median_s if plan.step_law is None else plan.step_law.at(mean_load)
    saved_s = (measured.update_s or 0.0) * (1 - 1 / plan.accumulate)
    return hiccups * (step_s - saved_s) + collate_s


def doubt(cycle: Cycle, runtime: RuntimeSettings) -> str | None:
    """What a person should look into after a cycle that took far longer than promised."""
    factor = cycle.measured_s / cycle.predicted_s
    if factor < FAR_LONGER or runtime.waiting == "sleep":
        return None
    return (
        f"a cycle took {factor:.1f} times what was promised. Its threads spin while they wait, which suits idle cores only: "
        "if other programs use them, plan anew with --set runtime.waiting=sleep"
    )


def drop_rows(path: Path, column: str, last: int) -> None:
    """Leave out of the table in `path`, if there is one, the rows whose `column` is beyond `last`."""
    if not path.exists():
        return
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or ()
        rows = [row for row in reader if (row.get(column) or "").isdigit() and int(row[column]) <= last]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=names)
        writer.writeheader()
        writer.writerows(rows)


def append_row(row: Mapping[str, object], path: Path) -> None:
    """Add `row` to the table in `path`, with a heading if it is the first."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
