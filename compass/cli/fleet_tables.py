"""A fleet as tables: its kinds of node, and each stage on each kind."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from compass.cli.plain_console import PlainConsole
from compass.fleet.record import FleetRecord
from compass.fleet.table import FleetCell, FleetTable, Recommendation
from compass.units import format_count, format_duration

MOST_NODES = 4
"""Nodes named in a line; the record names all."""


def print_kinds(record: FleetRecord) -> None:
    """The kinds of node, each in a paragraph: device, nodes, versions, and what is to be said about it."""
    console = PlainConsole()
    for kind in record.kinds:
        more = f" and {len(kind.nodes) - MOST_NODES} more" if len(kind.nodes) > MOST_NODES else ""
        console.print(f"{kind.name}: {kind.device} on {', '.join(kind.nodes[:MOST_NODES])}{more}")
        if kind.versions:
            console.print(f"  {', '.join(f'{name} {version}' for name, version in kind.versions.items())}")
        for note in (*kind.notes, *([f"no profile: {kind.failure}"] if kind.failure else [])):
            console.print(f"  {note}")


def print_fleet_table(table: FleetTable) -> None:
    """A table of the kinds for each stage, with the kinds to choose below it."""
    console = PlainConsole()
    for one in table.recommendations:
        console.print()
        console.print(
            _stage_table(one.stage, [cell for cell in table.cells if cell.stage == one.stage], table.currency)
        )
        console.print(recommendation_line(one))
    console.print(
        "\nEvery plan is proven: it ran on that kind under its memory ceiling. ~: its time is indicative only."
    )


def _stage_table(stage: str, cells: Sequence[FleetCell], currency: str) -> Table:
    shown = Table(box=None, padding=(0, 1), pad_edge=False, title=stage, title_justify="left")
    for header in ("kind", "model"):
        shown.add_column(header, overflow="fold")
    for header in ("parameters", "batch", "epoch", "training"):
        shown.add_column(header, justify="right", no_wrap=True)
    shown.add_column("limit")
    columns = {f"price{f' ({currency})' if currency else ''}": "price", "kWh": "energy_kwh"}
    known = {header: name for header, name in columns.items() if any(getattr(cell, name) is not None for cell in cells)}
    for header in known:
        shown.add_column(header, justify="right")
    for cell in cells:
        shown.add_row(*_row(cell, list(known.values())))
    return shown


def _row(cell: FleetCell, of_cost: Sequence[str]) -> list[str]:
    if not cell.is_proven:
        return [cell.kind, "no plan", "", "", "", "", cell.limited_by, *("" for _ in of_cost)]
    about = "~" if cell.is_time_estimated else ""
    times = ["" if one is None else f"{about}{format_duration(one)}" for one in (cell.epoch_s, cell.training_s)]
    costs = [getattr(cell, name) for name in of_cost]
    return [
        cell.kind,
        cell.model,
        format_count(cell.capacity),
        format_count(cell.batch_size),
        *times,
        cell.limited_by,
        *("" if one is None else f"{about}{one:,.2f}" for one in costs),
    ]


def recommendation_line(one: Recommendation) -> str:
    """The kinds to choose for a stage, in a sentence."""
    if one.fastest is None:
        return f"{one.stage}: {one.why}."
    parts = [f"fastest on {one.fastest}"]
    if one.cheapest is not None:
        parts.append(f"cheapest{' (none is within the target)' if one.beyond_target else ''} on {one.cheapest}")
    return f"{one.stage}: {', '.join(parts)}{f'; {one.why}' if one.why else ''}."
