"""`compass report`: a profile or a training run as an HTML page, as figures for a paper, or as Markdown for a pull request."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.options import AsJsonOption, CacheOption

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compass.report.evidence import Evidence
    from compass.report.run_view import RunView
    from compass.report.view import View

PAGE, RUN_PAGE = Path("hardware_report.html"), "report.html"


def report(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PROFILE|RUN", help="A profile, or the folder of a training run. Default: hardware_profile.json."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help=f"Page to write. Default: {PAGE}, or {RUN_PAGE} in the folder of a run."),
    ] = None,
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

    Of a training run: the verdict, the learning curves, predicted against true, and promised against measured time and memory.
    The page needs no network. From damaged files it shows the readable part and lists the gaps.
    """
    kinds = _formats(formats)
    run = path if path is not None and path.is_dir() else None
    _check_alone(figures, markdown, None if run is None else ledger, as_json=as_json)
    settings = None if run is None else _settings_of(run)
    default = PAGE if run is None else run / RUN_PAGE
    page = _checked_page(out or (default if markdown is None else None), markdown)
    view: View | RunView
    if run is not None and settings is not None:
        view, missing = _run_view(run, settings)
    else:
        view, missing = _profile_view(path, ledger, cache)
    written = [*_write_page(view, page), *_write_markdown(view, markdown), *_write_figures(view, figures, kinds)]
    _tell(missing, written, as_json=as_json, quiet=markdown == "-")


def _check_alone(figures: Path | None, markdown: str | None, ledger_of_run: Path | None, *, as_json: bool) -> None:
    """Refuse options that do not go together, before anything is read."""
    from compass.errors import InputError

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
    if ledger_of_run is not None:
        raise InputError(
            "--ledger", got="one for a training run", expected="none", fix="Leave it out, or name a profile."
        )


def _checked_page(page: Path | None, markdown: str | None) -> Path | None:
    """`page`, after a check that it and the Markdown's file can be written."""
    from compass.cli.parse import check_output

    text = None if markdown in {None, "-"} else Path(str(markdown))
    for option, one in (("--out", page), ("--markdown", text)):
        if one is not None:
            check_output(one, option)
    return page


def _settings_of(folder: Path) -> Path:
    """The file of settings of the run in `folder`."""
    from compass.errors import InputError
    from compass.training.run_spec import RUN_SPEC, find_run_spec

    found = find_run_spec(folder)
    if found is None:
        raise InputError(
            f"folder {folder}",
            got=f"no {RUN_SPEC} in it",
            expected="a profile, or the folder of a run",
            fix="Name a hardware_profile.json, or a folder that `compass train` wrote.",
        )
    return found


def _run_view(folder: Path, settings: Path) -> tuple[RunView, Sequence[str]]:
    """(the report on the run in `folder`, its missing parts)."""
    from compass.report.run_evidence import read_run
    from compass.report.run_view import run_view_of

    found = read_run(folder, settings)
    return run_view_of(found), found.missing


def _profile_view(path: Path | None, ledger: Path | None, cache: Path | None) -> tuple[View, Sequence[str]]:
    """(the report on the profile at `path`, its missing parts)."""
    from compass.probe.store import LEDGER, default_cache
    from compass.profile import PROFILE_NAME
    from compass.report.evidence import read_evidence
    from compass.report.view import view_of

    evidence = read_evidence(path or Path(PROFILE_NAME))
    named = ledger or (cache / LEDGER if cache else None)
    # A profile holds the probes behind it; the ledger adds those of other runs, if there is one.
    if named or not evidence.probe_log or (default_cache() / LEDGER).exists():
        evidence = _with_ledger(evidence, named or default_cache() / LEDGER)
    return view_of(evidence), evidence.missing


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


def _write_page(view: View | RunView, page: Path | None) -> list[Path]:
    if page is None:
        return []
    from compass.report.page import html_page, run_page
    from compass.report.run_view import RunView

    _write(page, run_page(view) if isinstance(view, RunView) else html_page(view), "--out")
    return [page]


def _write_markdown(view: View | RunView, to: str | None) -> list[Path]:
    if to is None:
        return []
    from compass.report.markdown import markdown
    from compass.report.run_markdown import run_markdown
    from compass.report.run_view import RunView

    text = run_markdown(view) if isinstance(view, RunView) else markdown(view)
    if to == "-":
        typer.echo(text, nl=False)
        return []
    _write(Path(to), text, "--markdown")
    return [Path(to)]


def _write_figures(view: View | RunView, folder: Path | None, kinds: tuple[str, ...]) -> list[Path]:
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


def _tell(missing: Sequence[str], written: list[Path], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        import json

        typer.echo(json.dumps({"written": [str(path) for path in written], "missing": missing}, indent=2))
        return
    for text in missing:
        typer.secho(f"missing: {text}", fg="yellow", err=True)
    for path in written[:3]:
        typer.echo(f"wrote {path}", err=quiet)
    if len(written) > 3:
        typer.echo(f"and {len(written) - 3} more beside {written[-1].parent}", err=quiet)
