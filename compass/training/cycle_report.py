"""Every finished cycle: its measured time and memory beside the plan's predictions."""

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
"""Measured over predicted time from which a cycle is doubted."""


class Cycle(Record):
    """A fixed number of batches, measured."""

    number: int
    n_batches: int
    n_graphs: int
    predicted_s: float
    """The predicted time of as many batches."""
    measured_s: float
    """Steps and waiting for data, without evaluations and checkpoints."""
    data_s: float
    """Waiting for data, part of `measured_s`."""
    step_s: float
    """The median step."""
    bound_bytes: int
    """The footprint that no batch should exceed."""
    peak_bytes: int
    """The largest footprint since training began."""
    loss: float
    """The mean over the graphs."""

    def __str__(self) -> str:
        difference = self.measured_s / self.predicted_s - 1
        bottleneck = "data loading" if self.data_s > self.measured_s / 2 else "the device"
        return (
            f"cycle {self.number}: {self.n_batches} batches in {format_seconds(self.measured_s)} "
            f"({format_seconds(self.predicted_s)} predicted, {difference:+.1%}), "
            f"{self.data_s / self.measured_s:.0%} of it waiting for data: {bottleneck} is the bottleneck; "
            f"{format_bytes(self.peak_bytes)} at most (bound {format_bytes(self.bound_bytes)}); loss {self.loss:.3f}"
        )


class CycleClock:
    """Collects batches until a cycle is full.

    Attributes:
        number: of finished cycles.
    """

    def __init__(self, batch_s: float, bound_bytes: int, n_batches: int) -> None:
        """Cycles of `n_batches`, predicted to take `batch_s` each and to stay below `bound_bytes`."""
        self._predicted_batch_s, self._bound_bytes, self._size = batch_s, bound_bytes, n_batches
        self.number = 0
        self._step_s: list[float] = []
        self._data_s = 0.0
        self._loss = 0.0
        self._loads: list[tuple[Batch, Load]] = []

    def add(self, batch: Batch, load: Load, *, step_s: float, data_s: float, loss: float) -> None:
        """Add a batch with its load, times and mean loss."""
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
        """The seconds of each step of the unfinished cycle."""
        return self._step_s

    @property
    def loads(self) -> Sequence[tuple[Batch, Load]]:
        """The batches of the unfinished cycle, with their loads."""
        return self._loads

    def finish(self, peak_bytes: int) -> Cycle:
        """The report of the batches since the last cycle, with at least one batch."""
        n_graphs = sum(load.graphs for _, load in self._loads)
        return Cycle(
            number=self.number + 1,
            n_batches=len(self._step_s),
            n_graphs=n_graphs,
            predicted_s=self._predicted_batch_s * len(self._step_s),
            measured_s=sum(self._step_s) + self._data_s,
            data_s=self._data_s,
            step_s=median(self._step_s),
            bound_bytes=self._bound_bytes,
            peak_bytes=peak_bytes,
            loss=self._loss / max(1, n_graphs),
        )

    def start_next(self) -> None:
        """Begin the next cycle."""
        self.number += 1
        self._step_s, self._data_s, self._loss, self._loads = [], 0.0, 0.0, []


def predicted_batch_s(plan: StagePlan, mean_load: Load, *, budgeted: bool) -> float:
    """The mean time of a batch of `mean_load` by `plan`, in seconds; without loader processes it includes collating.

    The median step is scaled by the certificate's mean over median, so that hiccups count. Certificates update weights at every
    step, training once in `plan.accumulate` batches. Budgeted batches are equally full, whatever their load.
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
    """A warning if a cycle took much longer than predicted and the reason may be threads that spin; else None."""
    factor = cycle.measured_s / cycle.predicted_s
    if factor < FAR_LONGER or runtime.waiting == "sleep":
        return None
    return (
        f"a cycle took {factor:.1f} times as long as predicted. Its threads spin while they wait, which is fast on idle cores "
        "only. If other programs use the cores, run `compass optimize` again with --set runtime.waiting=sleep"
    )


def drop_rows(path: Path, column: str, last: int) -> None:
    """Delete the rows whose `column` exceeds `last` from the CSV table at `path`, if it exists."""
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
    """Append `row` to the CSV table at `path`; the first row is preceded by a header."""
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row))
        if is_new:
            writer.writeheader()
        writer.writerow(row)
