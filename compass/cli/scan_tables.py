"""Scan results as tables of 80 columns, as JSON, and as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.table import Table

from compass.cli.plain_console import PlainConsole
from compass.cli.tables import print_rows
from compass.data.scan.catalogue import Catalogue
from compass.data.scan.scan import ScanProgress
from compass.data.scan.summary import QUANTILES, ComplexGroup, ScanSummary
from compass.files import write_text
from compass.units import format_count, format_seconds

N_LISTED = 100
"""Most complexes under one heading of the report; `scan.jsonl` lists all."""


def describe_progress(now: ScanProgress) -> str:
    """Progress, speed and remaining time, e.g. `30/90, 61/s, 1.0 s left`."""
    done = f"{format_count(now.n_done)}/{format_count(now.n_expected)}, {now.per_s:.0f}/s"
    return done if now.remaining_s is None else f"{done}, {format_seconds(now.remaining_s)} left"


def print_summary(summary: ScanSummary) -> None:
    """Print the speed, the counts, the size quantiles and the catalogue's path."""
    console = PlainConsole(soft_wrap=True)
    console.print(_speed_line(summary))
    tables = [("status", summary.statuses)]
    tables += [("rejected because", summary.reasons), ("repaired by", summary.repairs)]
    for title, groups in tables:
        for line in _group_lines(title, groups, console.width) if groups else ():
            console.print(line, overflow="ignore", no_wrap=True)
    if summary.quantiles:
        console.print(_quantiles_table(summary))
    print_rows(_facts(summary))


def write_report(catalogue: Catalogue, summary: ScanSummary, folder: Path) -> None:
    """Write `scan.jsonl`, one row per line, and the readable `scan.md` to `folder`.

    Raises:
        InputError: they cannot be written.
    """
    lines = "".join(f"{row.model_dump_json()}\n" for row in catalogue.rows)
    for name, text in (("scan.jsonl", lines), ("scan.md", "\n".join(_page(catalogue, summary)) + "\n")):
        write_text(text, folder / name, option="--report")


# ------------------------------------------------------------------------------------------------------------- tables


def _speed_line(summary: ScanSummary) -> str:
    n_listed_only = summary.n_complexes - summary.n_read - summary.n_known
    parts = [f"{format_count(summary.n_read)} read", f"{format_count(summary.n_known)} unchanged"]
    if n_listed_only:
        parts.append(f"{format_count(n_listed_only)} without files")
    return (
        f"{format_count(summary.n_complexes)} complexes in {format_seconds(summary.took_s)} "
        f"({', '.join(parts)}): {_rate(summary.per_s)} per second"
    )


def _rate(per_s: float) -> str:
    return format_count(per_s) if per_s >= 100 else f"{per_s:.3g}"


def _group_lines(title: str, groups: Sequence[ComplexGroup], width: int) -> Iterator[str]:
    """A table of `width` columns. Counts are always whole; examples are cut, however long the ids are."""
    rows = [(title, "complexes", "for example")]
    rows += [(group.name, format_count(group.n), ", ".join(group.examples)) for group in groups]
    n_name = max(24, *(len(name) for name, _, _ in rows))
    n_count = max(len(count) for _, count, _ in rows)
    for name, count, examples in rows:
        line = f"{name:<{n_name}}  {count:>{n_count}}  {examples}"
        yield (line if len(line) <= width else f"{line[: width - 1]}…").rstrip()


def _quantiles_table(summary: ScanSummary) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("size", no_wrap=True)
    for name, _ in QUANTILES:
        table.add_column(name, justify="right")
    for feature, quantiles in summary.quantiles.items():
        table.add_row(feature, *(format_count(size) for size in quantiles.values()))
    return table


def _facts(summary: ScanSummary) -> list[tuple[str, str]]:
    facts = [_largest(summary)] if summary.largest else []
    if summary.largest:
        source = f", from {summary.labels_from}" if summary.labels_from else ""
        facts.append(("labels", _counts(summary.labels) + source))
    if any(group.n for group in summary.splits):
        facts.append(("splits", _counts(summary.splits)))
    if summary.noted.n:
        facts.append(("notes", f"on {format_count(summary.noted.n)}, for example {', '.join(summary.noted.examples)}"))
    facts.append(("catalogue", summary.catalogue))
    return facts


def _largest(summary: ScanSummary) -> tuple[str, str]:
    feature = summary.largest[0][1][-1][0]
    return f"most {feature}", ", ".join(f"{id_} ({format_count(sizes[-1][1])})" for id_, sizes in summary.largest)


def _counts(groups: Sequence[ComplexGroup]) -> str:
    return ", ".join(f"{format_count(group.n)} {group.name}" for group in groups if group.n)


# ------------------------------------------------------------------------------------------------------------- report


def _page(catalogue: Catalogue, summary: ScanSummary) -> list[str]:
    """`scan.md`, line by line."""
    from compass.reporting.markdown import plain_text

    lines = [f"# Scan of {plain_text(summary.source)}", "", _speed_line(summary) + ".", ""]
    lines += [f"- **{label}**: {plain_text(text)}" for label, text in _facts(summary)]
    lines += [f"- **warning**: {plain_text(warning)}" for warning in summary.warnings]
    lines += [
        "",
        "| status | complexes |",
        "|---|---|",
        *(f"| {group.name} | {group.n:,} |" for group in summary.statuses),
    ]
    if summary.quantiles:
        header = " | ".join(name for name, _ in QUANTILES)
        lines += ["", f"| size | {header} |", "|---" * (len(QUANTILES) + 1) + "|"]
        for feature, quantiles in summary.quantiles.items():
            lines.append(f"| {feature} | {' | '.join(format_count(size) for size in quantiles.values())} |")
    for reason in summary.reasons:
        lines += _listed(
            f"Rejected: {reason.name}", [(r.id, (r.detail,)) for r in catalogue.rows if r.reason == reason.name]
        )
    for repair in summary.repairs:
        lines += _listed(
            f"Repaired: {repair.name}", [(r.id, r.notes) for r in catalogue.usable if repair.name in r.repairs]
        )
    lines += _listed("Notes", [(r.id, r.notes) for r in catalogue.usable if r.notes and not r.repairs])
    return lines


def _listed(title: str, entries: Sequence[tuple[str, Sequence[str]]]) -> list[str]:
    if not entries:
        return []
    from compass.reporting.markdown import plain_text

    lines = ["", f"## {title} ({len(entries):,})", ""]
    lines += [f"- {plain_text(id_ + (': ' if texts else '') + '; '.join(texts))}" for id_, texts in entries[:N_LISTED]]
    if len(entries) > N_LISTED:
        lines.append(f"- … and {len(entries) - N_LISTED:,} more, in scan.jsonl")
    return lines
