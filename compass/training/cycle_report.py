"""The tables of a run: every cycle's measured time and memory beside the predictions, and every epoch's metrics."""

from __future__ import annotations

import csv
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from statistics import median

from compass.checksum import ROW_CHECKSUM, is_row_whole, row_with_checksum
from compass.files import MOST_TABLE_BYTES, append_whole, read_file, write_text
from compass.records import Batch, Cycle, Evaluation, Load, Metrics, StagePlan

log = logging.getLogger(__name__)

_LONGEST_LINE = 10_000
"""Characters; a longer line is damaged."""
_LONGEST_COUNT = 20
"""Digits: Python refuses to read thousands with an error of its own."""


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
        self._loss, self._n_told = 0.0, 0
        self._loads: list[tuple[Batch, Load]] = []

    def add(self, batch: Batch, load: Load, *, step_s: float, data_s: float, loss: float) -> None:
        """Add a batch with its load, times and mean loss, which counts if it is finite."""
        self._step_s.append(step_s)
        self._data_s += data_s
        if math.isfinite(loss):
            self._loss += loss * load.graphs
            self._n_told += load.graphs
        self._loads.append((batch, load))

    @property
    def full(self) -> bool:
        """Whether a cycle is complete."""
        return self.n_batches >= self._size

    @property
    def n_batches(self) -> int:
        """Batches of the unfinished cycle."""
        return len(self._step_s)

    @property
    def measured_s(self) -> float:
        """Steps and waiting for data of the unfinished cycle."""
        return sum(self._step_s) + self._data_s

    @property
    def predicted_s(self) -> float:
        """The predicted time of as many batches."""
        return self._predicted_batch_s * len(self._step_s)

    @property
    def step_times(self) -> Sequence[float]:
        """The seconds of each step of the unfinished cycle."""
        return self._step_s

    @property
    def loads(self) -> Sequence[tuple[Batch, Load]]:
        """The batches of the unfinished cycle, with their loads."""
        return self._loads

    def finish(self, peak_bytes: int, ends_at: int = 0) -> Cycle:
        """The report of the batches since the last cycle, at least one; `ends_at` counts all batches of the run."""
        n_graphs = sum(load.graphs for _, load in self._loads)
        return Cycle(
            number=self.number + 1,
            n_batches=self.n_batches,
            n_graphs=n_graphs,
            predicted_s=self.predicted_s,
            measured_s=self.measured_s,
            data_s=self._data_s,
            step_s=median(self._step_s),
            bound_bytes=self._bound_bytes,
            peak_bytes=peak_bytes,
            loss=self._loss / max(1, self._n_told),
            ends_at=ends_at,
        )

    def start_next(self) -> None:
        """Begin the next cycle."""
        self.number += 1
        self._step_s, self._data_s, self._loads = [], 0.0, []
        self._loss, self._n_told = 0.0, 0


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


def drop_rows(path: Path, column: str, last: int, headers: Iterable[Sequence[str]] = ()) -> int:
    """Delete the rows whose `column` exceeds `last` from the CSV table at `path`; returns the number of those that stay.

    A row that was cut when the process was killed is deleted too, and one that was damaged, with a warning. A damaged header is
    replaced by the one of `headers` under which the rows are whole.
    """
    if not path.exists():
        return 0
    lines = read_file(path, MOST_TABLE_BYTES).decode("utf-8", errors="replace").splitlines()
    header, *cells = [_cells(line) for line in lines if len(line) < _LONGEST_LINE] or [[]]
    # The table's own header comes last: of equals it is the damaged one, whose rows seem to have no checksum.
    tried = [(names, _whole_under(names, cells)) for names in (*([*names, ROW_CHECKSUM] for names in headers), header)]
    names, whole = max(tried, key=lambda one: len(one[1]))
    if n_damaged := len(cells) - cells.count([]) - len(whole):
        log.warning("%s: %d damaged or incomplete rows are left out", path, n_damaged)
    at = names.index(column) if column in names else None
    rows = whole if at is None else [row for row in whole if _at_most(row[at], last)]
    if not rows:  # the next row begins the table anew
        path.unlink()
        return 0
    text = StringIO(newline="")
    csv.writer(text).writerows([names, *rows])
    write_text(text.getvalue(), path)
    return len(rows)


def _cells(line: str) -> list[str]:
    """Each line is read on its own: a quotation mark that damage has set must not swallow those that follow."""
    if '"' in line:
        return next(csv.reader([line]), [])
    return line.split(",") if line else []


def _at_most(text: str, last: int) -> bool:
    return text.isdecimal() and len(text) < _LONGEST_COUNT and int(text) <= last


def _whole_under(names: Sequence[str], cells: Iterable[list[str]]) -> list[list[str]]:
    """Those of `cells` that are whole rows under `names` of columns."""
    rows = [row for row in cells if len(row) == len(names)]
    if ROW_CHECKSUM not in names:
        return rows
    return [row for row in rows if is_row_whole(dict(zip(names, row, strict=True)))]


def epoch_row(epoch: int, n_updates: int, train_loss: float, found: Evaluation | None) -> dict[str, object]:
    """A row of the table of epochs; it has the same columns in every epoch, empty where a metric is not defined."""
    metrics = {} if found is None else {f"{found.part}_{name}": value for name, value in found.metrics}
    return {"epoch": epoch, "updates": n_updates, "train_loss": train_loss, **metrics}


def epoch_headers() -> list[list[str]]:
    """The columns that a table of epochs may have: without a validation set, and with one."""
    nothing = Metrics(n=0, rmse=None, mae=None, pearson=None, spearman=None)
    return [list(epoch_row(0, 0, 0.0, found)) for found in (None, Evaluation(part="val", metrics=nothing))]


def append_row(row: Mapping[str, object], path: Path) -> None:
    """Append `row` to the CSV table at `path`, whole or not at all; the first row is preceded by a header.

    A table that an older version began keeps its columns.

    Raises:
        OSError: it cannot be written.
    """
    is_new, cells = not path.exists() or not path.stat().st_size, row_with_checksum(row)
    names = list(cells)
    if not is_new:
        with path.open(newline="", encoding="utf-8", errors="replace") as file:
            header = next(csv.reader([file.readline(_LONGEST_LINE)]), names)
        names = names if len(header) == len(names) else header  # as many, but others: it was damaged meanwhile
    text = StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=names, extrasaction="ignore")
    if is_new:
        writer.writeheader()
    writer.writerow(cells)
    append_whole(text.getvalue().encode(), path)
