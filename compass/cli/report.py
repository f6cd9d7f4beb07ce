"""`compass report`: a profile or a training run as an HTML page, as figures for a paper, or as Markdown for a pull request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption, CacheOption, ProfileOption
from compass.cli.say import say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compass.reporting.run_view import RunView
    from compass.reporting.view import View


def report_command(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PROFILE|RUN", help="A profile, or the folder of a training run. Default: hardware_profile.json."
        ),
    ] = None,
    profile_path: ProfileOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Page to write. Default: hardware_report.html, or report.html in the folder of a run."
        ),
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
    from compass.cli.parse import one_profile
    from compass.profile import PROFILE_NAME
    from compass.reporting.reading import default_page, read_view

    kinds, path = _formats(formats), one_profile(path, profile_path) or Path(PROFILE_NAME)
    _check_alone(figures, markdown, ledger if os.path.isdir(path) else None, as_json=as_json)  # noqa: PTH112 - Path.is_dir raises for a name that is too long
    page = _checked_page(out or (default_page(path) if markdown is None else None), markdown)
    view, missing = read_view(path, ledger, cache)
    written = [*_write_texts(view, page, markdown), *_write_figures(view, figures, kinds)]
    _tell(missing, written, as_json=as_json, quiet=markdown == "-")


def _check_alone(figures: Path | None, markdown: str | None, ledger_of_run: Path | None, *, as_json: bool) -> None:
    """Refuse options that do not go together, before anything is read."""
    from compass.errors import InputError

    if figures is not None:
        from compass.reporting.static import check_matplotlib

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


def _formats(text: str) -> tuple[str, ...]:
    from compass.errors import InputError
    from compass.reporting.static import FIGURE_FORMATS

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


def _write_texts(view: View | RunView, page: Path | None, markdown: str | None) -> list[Path]:
    """Write the page and the Markdown that are asked for, and return their paths; Markdown may go to stdout."""
    from compass.files import write_text
    from compass.reporting.reading import as_markdown, as_page

    written = []
    if page is not None:
        write_text(as_page(view), page, option="--out")
        written.append(page)
    if markdown == "-":
        typer.echo(as_markdown(view), nl=False)
    elif markdown is not None:
        write_text(as_markdown(view), Path(markdown), option="--markdown")
        written.append(Path(markdown))
    return written


def _write_figures(view: View | RunView, folder: Path | None, kinds: tuple[str, ...]) -> list[Path]:
    if folder is None:
        return []
    from rich.console import Console

    from compass.cli.progress import live_progress
    from compass.records import Progress
    from compass.reporting.static import write_figures

    written, n_figures = [], len(view.figures)
    with live_progress(Console(stderr=True)) as watch:
        for n_done, figure in enumerate(view.figures):
            watch(Progress(phase="report", what=figure.key, n_done=n_done, n_expected=n_figures))
            written += write_figures([figure], folder, kinds)
    return written


def _tell(missing: Sequence[str], written: list[Path], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        import json

        print_json(json.dumps({"written": [str(path) for path in written], "missing": missing}, indent=2))
        return
    for text in missing:
        say(f"missing: {text}", fg="yellow", err=True)
    for path in written[:3]:
        say(f"wrote {path}", err=quiet)
    if len(written) > 3:
        say(f"and {len(written) - 3} more beside {written[-1].parent}", err=quiet)
