"""`compass scan`: read a whole dataset and report the status of every complex."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.json_text import print_json
from compass.cli.options import (
    AsJsonOption,
    CacheOption,
    ConfigOption,
    IndexOption,
    MaxAtomsOption,
    PocketRadiusOption,
    SetOption,
)
from compass.cli.say import say

if TYPE_CHECKING:
    from rich.console import Console

    from compass.data.scan.catalogue import Catalogue
    from compass.data.scan.scan import ScanProgress
    from compass.optimizer_config import OptimizerConfig


def scan_command(
    source: Annotated[Path, typer.Argument(metavar="FOLDER|MANIFEST", help="PDBbind-style, or a CSV or Parquet file.")],
    index: IndexOption = None,
    pocket_radius: PocketRadiusOption = None,
    max_atoms: MaxAtomsOption = None,
    only: Annotated[str | None, typer.Option(metavar="ID", help="Replay one complex alone, step by step.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write scan.jsonl and scan.md there.")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Processes. Default: one per core.")] = None,
    cache: CacheOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Read every complex of a dataset, and report usable complexes and the faults of the others.

    Exit codes: 0 done, 2 bad input, 3 no complex can be used, 130 interrupted (results are kept).
    """
    from compass.cli import parse
    from compass.data.scan.scan import check_workers

    flags = parse.dataset_changes(None, index, pocket_radius=pocket_radius, max_atoms=max_atoms)
    config = parse.load_settings(config_file, [*(set_values or ()), *flags])
    check_workers(workers)
    if only is not None:
        _check_alone(report, as_json=as_json)
        _replay(source, config, only)
        return
    if report is not None:
        _make(report)
    _report(_scan(source, config, cache, workers), report, as_json=as_json)
    if not as_json:
        from compass.cli.tables import print_commands

        print_commands([(_optimize(source, config), "find a configuration for each stage")])


def _check_alone(report: Path | None, *, as_json: bool) -> None:
    from compass.errors import InputError

    for option, given in (("--report", report is not None), ("--json", as_json)):
        if given:
            raise InputError("--only", got=f"{option} as well", expected="one of the two", fix="Leave one out.")


def _make(folder: Path) -> None:
    from compass.files import unwritable

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error, "--report") from error


def _scan(source: Path, config: OptimizerConfig, cache: Path | None, workers: int | None) -> Catalogue:
    from rich.console import Console

    from compass.data.scan.catalogue import Catalogue
    from compass.data.scan.scan import scan_source
    from compass.probe.store import default_cache

    try:
        with _live(Console(stderr=True)) as watch:
            path = scan_source(source, config, cache or default_cache(), workers=workers, watch=watch)
    except KeyboardInterrupt:
        say("interrupted: results so far are kept; the same command continues", fg="yellow", err=True)
        raise typer.Exit(130) from None
    return Catalogue.open(path)


@contextlib.contextmanager
def _live(console: Console) -> Iterator[Callable[[ScanProgress], None]]:
    """A progress line at the bottom of `console`; a line every half minute if it is not a terminal."""
    from compass.cli.progress import PlainLines, bar_on
    from compass.cli.scan_tables import describe_progress
    from compass.cli.verbosity import is_quiet

    if is_quiet():
        yield lambda _: None
        return
    if not console.is_terminal:
        lines = PlainLines(console)
        yield lambda now: lines.add(lambda: f"scan: {describe_progress(now)}")
        return
    with bar_on(console) as bar:
        task = bar.add_task("scan: looking for complexes", total=None, left="")
        yield lambda now: bar.update(
            task, description="scan", left=describe_progress(now), completed=now.n_done, total=now.n_expected
        )


def _report(catalogue: Catalogue, report: Path | None, *, as_json: bool) -> None:
    from compass.cli.scan_tables import print_summary, write_report
    from compass.data.scan.summary import summarise_scan

    summary = summarise_scan(catalogue)
    for warning in catalogue.about.warnings:
        say(f"warning: {warning}", fg="yellow", err=True)
    if as_json:
        print_json(summary.model_dump_json(indent=2))
    else:
        print_summary(summary)
    if report is not None:
        write_report(catalogue, summary, report)
        say(f"wrote {report / 'scan.jsonl'} and {report / 'scan.md'}", err=as_json)
    if not catalogue.usable:
        say(f"error: none of the complexes of {catalogue.about.source} can be used", fg="red", err=True)
        raise typer.Exit(3)


def _optimize(source: Path, config: OptimizerConfig) -> str:
    """The command that plans for the dataset, read by the same rules."""
    from compass.commands import optimize_again
    from compass.planning.request import Request

    read_here = config.model_copy(update={"dataset": config.dataset.model_copy(update={"path": str(source)})})
    request = Request(config=read_here)
    return optimize_again(request.asked, request.workload)


def _replay(source: Path, config: OptimizerConfig, only: str) -> None:
    from compass.data.scan.reading import ReadingRules
    from compass.data.scan.replay import listed_complex, replay_complex
    from compass.data.scan.scan import list_source

    listing = list_source(source, config.dataset)
    steps = replay_complex(listed_complex(listing, only), listing.root, ReadingRules.of(config))
    usable = True
    while True:
        try:
            label, text = next(steps)
        except StopIteration as end:
            usable = end.value.usable
            break
        say(f"{label:<14} {text}")
    if not usable:
        raise typer.Exit(3)
