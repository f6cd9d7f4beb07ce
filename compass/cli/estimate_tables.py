"""Estimates as a page, a table that can be read in 80 columns, or CSV."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TextIO

from rich.table import Table

from compass.cli.plain_console import PlainConsole
from compass.cli.tables import print_rows
from compass.files import writing_text
from compass.records import Estimate, Estimates, Hardware, Interval
from compass.records.nouns import counted, of_data
from compass.reporting.words import rate, rate_unit
from compass.units import format_bytes, format_count, format_seconds

INTERVALS = ("live_bytes", "footprint_bytes", "step_s", "cycle_s", "epoch_s", "training_s")
FITS = {"yes": "fits in", "perhaps": "may not fit in", "no": "does not fit in"}


def print_estimates(found: Estimates) -> None:
    """One model as a page, several as a table for each variant."""
    if len(found.rows) == 1:
        print_rows([*_page(found.rows[0], found), ("assumes", _assumptions(found))])
        return
    console = PlainConsole()
    console.print(f"{_machine(found.hardware)}; {_assumptions(found)}")
    console.print(
        f"training: {format_count(found.epochs)} epochs of {counted(found.dataset_size, of_data(found.noun))}; "
        "memory is an upper bound"
    )
    for variant, rows in groupby(found.rows, key=lambda row: str(row.knobs.variant)):
        console.print(_table(variant, rows))


def write_csv(rows: Iterable[Estimate], to: str) -> None:
    """One line per model, to the file `to`, or to stdout if that is `-`. Bytes and seconds are not rounded.

    Raises:
        InputError: the file cannot be written.
    """
    if to == "-":
        _write(rows, sys.stdout)
        return
    with writing_text(Path(to), option="--csv") as file:
        _write(rows, file)


def _write(rows: Iterable[Estimate], file: TextIO) -> None:
    lines = [_flat(row) for row in rows]
    writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)


def _flat(row: Estimate) -> dict[str, object]:
    """Columns of one row; an interval becomes three, e.g. `step_s`, `step_low_s`, `step_high_s`."""
    knobs = row.knobs
    flat: dict[str, object] = {
        "layers": knobs.layers,
        "channels": knobs.channels,
        **knobs.variant.choices,
        "parameters": row.capacity,
        "batch": row.batch_size,
        "fits": row.fits,
        "throughput": row.throughput,
    }
    for field in INTERVALS:
        interval: Interval = getattr(row, field)
        name, _, unit = field.rpartition("_")
        flat |= {field: interval.expected, f"{name}_low_{unit}": interval.low, f"{name}_high_{unit}": interval.high}
    return flat


def _page(row: Estimate, found: Estimates) -> list[tuple[str, str]]:
    n_batches = math.ceil(found.dataset_size / row.batch_size)
    budget = format_bytes(found.hardware.budget_bytes)
    return [
        ("model", str(row.knobs)),
        ("parameters", format_count(row.capacity)),
        ("batch", row.load.in_words(found.noun)),
        ("live memory", f"{format_bytes(row.live_bytes.expected)}, upper bound {format_bytes(row.live_bytes.high)}"),
        (
            "footprint",
            (
                f"{format_bytes(row.footprint_bytes.low)} to {format_bytes(row.footprint_bytes.high)}: "
                f"{FITS[row.fits]} the {budget} that may be used"
            ),
        ),
        ("step", _time(row.step_s)),
        ("throughput", f"{rate(row.throughput)} {rate_unit(found.noun)}"),
        ("cycle", f"{_time(row.cycle_s)} ({format_count(found.cycle_batches)} batches)"),
        (
            "epoch",
            (
                f"{_time(row.epoch_s)} ({format_count(n_batches)} batches for "
                f"{counted(found.dataset_size, of_data(found.noun))})"
            ),
        ),
        ("training", f"{_time(row.training_s)} ({format_count(found.epochs)} epochs)"),
    ]


def _table(variant: str, rows: Iterable[Estimate]) -> Table:
    table = Table(box=None, padding=(0, 1), collapse_padding=True, pad_edge=False, title=variant, title_justify="left")
    table.add_column("model", no_wrap=True)
    for header in ("parameters", "batch", "memory", "fits", "step", "±", "cycle", "training"):
        table.add_column(header, justify="right")
    for row in rows:
        table.add_row(
            row.knobs.shape,
            format_count(row.capacity),
            format_count(row.batch_size),
            format_bytes(row.footprint_bytes.high),
            row.fits,
            format_seconds(row.step_s.expected),
            f"{row.step_s.high / row.step_s.expected - 1:.0%}",
            format_seconds(row.cycle_s.expected),
            format_seconds(row.training_s.expected),
        )
    return table


def _time(interval: Interval) -> str:
    low, middle, high = (format_seconds(value) for value in (interval.low, interval.expected, interval.high))
    return f"{middle}, {low} to {high}"


def _machine(hardware: Hardware) -> str:
    return f"{hardware.name} ({hardware.kind}), {format_bytes(hardware.budget_bytes)} may be used"


def _assumptions(found: Estimates) -> str:
    return f"{found.runtime.threads} threads, {found.runtime.allocator} allocator; 90 % intervals of time"
