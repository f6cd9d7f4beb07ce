"""`compass report`: a profile as an HTML page, as figures for a paper, or as Markdown for a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.options import AsJsonOption, CacheOption

if TYPE_CHECKING:
    from compass.report.evidence import Evidence
    from compass.report.view import View

PAGE = Path("hardware_report.html")


def report(
    path: Annotated[
        Path | None, typer.Argument(metavar="PROFILE", help="Profile to read. Default: hardware_profile.json.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help=f"Page to write. Default: {PAGE}.")] = None,
    markdown: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write Markdown instead, to FILE or to stdout with -.")
    ] = None,
    figures: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write each plot as a file too; needs Matplotlib.")
    ] = None,
    formats: Annotated[
        str, typer.Option("--format", metavar="NAME,…", help="Formats of the figures: svg, png, pdf.")
    ] = "svg,png",
    ledger: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Ledger of probes. Default: probes.jsonl in the cache.")
    ] = None,
    cache: CacheOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Write an HTML page with the plans, the reasons for them, the alternatives, and the cost of the search.

    The page needs no network. From a damaged profile or ledger it shows the readable part and lists the gaps.
    """
    from compass.cli.parse import check_output
    from compass.errors import InputError
    from compass.probe.store import LEDGER, default_cache
    from compass.profile import PROFILE_NAME
    from compass.report.evidence import read_evidence
    from compass.report.view import view_of

    kinds = _formats(formats)
    if figures is not None:
        from compass.report.static import check_matplotlib

        check_matplotlib()
    if as_json and markdown == "-":
        raise InputError(
            "--markdown",
            got="- and --json as well",
            expected="one of the two on stdout",
            fix="Give --markdown a file, or leave out --json.",
        )
    page = out or (PAGE if markdown is None else None)
    text = None if markdown in {None, "-"} else Path(str(markdown))
    for option, one in (("--out", page), ("--markdown", text)):
        if one is not None:
            check_output(one, option)
    evidence = read_evidence(path or Path(PROFILE_NAME))
    named = ledger or (cache / LEDGER if cache else None)
    # A profile holds the probes behind it; the ledger adds those of other runs, if there is one.
    if named or not evidence.probe_log or (default_cache() / LEDGER).exists():
        evidence = _with_ledger(evidence, named or default_cache() / LEDGER)
    view = view_of(evidence)
    written = [*_write_page(view, page), *_write_markdown(view, markdown), *_write_figures(view, figures, kinds)]
    _tell(evidence, written, as_json=as_json, quiet=markdown == "-")


def _formats(text: str) -> tuple[str, ...]:
    from compass.errors import InputError
    from compass.report.static import FIGURE_FORMATS

    kinds = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    for kind in kinds:
        if kind not in FIGURE_FORMATS:
            raise InputError(
                "--format",
                got=repr(kind),
                expected=f"one or more of {', '.join(FIGURE_FORMATS)}",
                fix="Write them with commas.",
            )
    return kinds


def _with_ledger(evidence: Evidence, path: Path) -> Evidence:
    from compass.probe.store import read_ledger
    from compass.report.evidence import with_probes

    try:
        found = read_ledger(path)
    except OSError as error:
        return with_probes(evidence, (), [f"The ledger {path} cannot be read: {error.strerror or error}."])
    complaints = []
    if found.n_damaged:
        complaints.append(f"The ledger is damaged. Lines left out: {found.n_damaged:,}.")
    if found.n_older:
        complaints.append(f"The ledger holds {found.n_older:,} probes in an older format, which are left out.")
    return with_probes(evidence, found.entries, complaints)


def _write_page(view: View, page: Path | None) -> list[Path]:
    if page is None:
        return []
    from compass.report.page import html_page

    _write(page, html_page(view), "--out")
    return [page]


def _write_markdown(view: View, to: str | None) -> list[Path]:
    if to is None:
        return []
    from compass.report.markdown import markdown

    if to == "-":
        typer.echo(markdown(view), nl=False)
        return []
    _write(Path(to), markdown(view), "--markdown")
    return [Path(to)]


def _write_figures(view: View, folder: Path | None, kinds: tuple[str, ...]) -> list[Path]:
    if folder is None:
        return []
    from rich.console import Console

    from compass.cli.progress import live_progress
    from compass.records import Progress
    from compass.report.static import write_figures

    written, n_figures = [], len(view.figures)
    with live_progress(Console(stderr=True)) as watch:
        for n_done, figure in enumerate(view.figures):
            watch(Progress(phase="report", what=figure.key, n_done=n_done, n_expected=n_figures))
            written += write_figures([figure], folder, kinds)
    return written


def _write(path: Path, text: str, option: str) -> None:
    from compass.files import write_text

    write_text(text, path, option=option)


def _tell(evidence: Evidence, written: list[Path], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps({"written": [str(path) for path in written], "missing": evidence.missing}, indent=2))
        return
    for text in evidence.missing:
        typer.secho(f"missing: {text}", fg="yellow", err=True)
    for path in written[:3]:
        typer.echo(f"wrote {path}", err=quiet)
    if len(written) > 3:
        typer.echo(f"and {len(written) - 3} more beside {written[-1].parent}", err=quiet)
