"""From a path to its report: of a profile with the probes of its ledger, or of the folder of a training run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from compass.errors import InputError
from compass.files import first_of
from compass.probe.store import LEDGER, default_cache, read_ledger
from compass.records.training import RUN_SPEC, RUN_SPECS
from compass.reporting.evidence import Evidence, read_evidence, with_probes
from compass.reporting.markdown import markdown
from compass.reporting.page import html_page, run_page
from compass.reporting.run_evidence import read_run
from compass.reporting.run_markdown import run_markdown
from compass.reporting.run_view import RunView, run_view_of
from compass.reporting.view import View, view_of

PAGE, RUN_PAGE = Path("hardware_report.html"), "report.html"


def read_view(
    path: Path, ledger: Path | None = None, cache: Path | None = None
) -> tuple[View | RunView, Sequence[str]]:
    """(the report on the profile or on the run at `path`, its missing parts).

    Args:
        path: a profile, or the folder of a training run.
        ledger: the probes to show beside a profile; by default those of `cache`.
        cache: the folder of cached probes.

    Raises:
        InputError: there is neither a profile nor a run.
    """
    if os.path.isdir(path):  # noqa: PTH112 - Path.is_dir raises for a name that is too long
        run = read_run(path, _settings_of(path))
        return run_view_of(run), run.missing
    evidence, named = read_evidence(path), ledger or (cache / LEDGER if cache else None)
    # A profile holds the probes behind it; the ledger adds those of other runs, if there is one.
    if named or not evidence.probe_log or (default_cache() / LEDGER).exists():
        evidence = _with_ledger(evidence, named or default_cache() / LEDGER)
    return view_of(evidence), evidence.missing


def default_page(path: Path) -> Path:
    """Where the page about `path` is written."""
    return path / RUN_PAGE if os.path.isdir(path) else PAGE  # noqa: PTH112 - as above


def as_page(view: View | RunView) -> str:
    """`view` as an HTML page."""
    return run_page(view) if isinstance(view, RunView) else html_page(view)


def as_markdown(view: View | RunView) -> str:
    """`view` as Markdown."""
    return run_markdown(view) if isinstance(view, RunView) else markdown(view)


def _settings_of(folder: Path) -> Path:
    """The file of settings of the run in `folder`."""
    found = first_of(folder, RUN_SPECS)
    if found is None:
        raise InputError(
            f"folder {folder}",
            got=f"no {RUN_SPEC} in it",
            expected="a profile, or the folder of a run",
            fix="Name a hardware_profile.json, or a folder that `compass train` wrote.",
        )
    return found


def _with_ledger(evidence: Evidence, path: Path) -> Evidence:
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
