"""`compass.scan` and `compass.report`: what is in a dataset, and what is in a profile or a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from compass.api.arguments import AnyPath, config_of, path_of
from compass.data.scan.catalogue import Catalogue
from compass.data.scan.scan import ScanProgress, check_workers, scan_source
from compass.data.scan.summary import ScanSummary, summarise_scan
from compass.files import write_text
from compass.optimizer_config import OptimizerConfig
from compass.probe.store import default_cache
from compass.profile import PROFILE_NAME, Profile
from compass.reporting.evidence import of_profile
from compass.reporting.reading import PAGE, as_markdown, as_page, default_page, read_view
from compass.reporting.static import FIGURE_FORMATS, write_figures
from compass.reporting.view import view_of


def scan(  # noqa: PLR0913 - all are named
    dataset: AnyPath,
    *,
    index: AnyPath | None = None,
    config: OptimizerConfig | AnyPath | None = None,
    settings: Mapping[str, Any] | None = None,
    workers: int | None = None,
    cache: AnyPath | None = None,
    watch: Callable[[ScanProgress], None] = lambda _: None,
) -> ScanSummary:
    """Read every complex of a dataset: how many can be used, why the others cannot, and how large they are.

    Args:
        dataset: a PDBbind-style folder, or a CSV or Parquet manifest.
        index: the index file of the dataset; by default it is searched for in the folder.
        config: settings, or the path of a file with settings.
        settings: single settings by dotted key, e.g. `{"dataset.max_atoms": 2000}`.
        workers: processes; by default one per core.
        cache: folder of cached scans.
        watch: called with the progress.

    Raises:
        InputError: an argument cannot be used, or nothing is found.
    """
    check_workers(workers)
    rules = config_of(config, settings, index=index)
    folder = path_of(cache) or default_cache()
    path = scan_source(Path(dataset).expanduser(), rules, folder, workers=workers, watch=watch)
    return summarise_scan(Catalogue.open(path))


def report(
    source: Profile | AnyPath = PROFILE_NAME,
    *,
    out: AnyPath | None = None,
    markdown: AnyPath | None = None,
    figures: AnyPath | None = None,
    ledger: AnyPath | None = None,
    cache: AnyPath | None = None,
) -> Path:
    """Write an HTML page about a profile or a training run, and return its path.

    Args:
        source: a profile, its path, or the folder of a training run.
        out: the page; by default `hardware_report.html`, or `report.html` in the folder of a run.
        markdown: a file for the same as Markdown.
        figures: a folder for each plot as SVG, PNG and PDF; needs Matplotlib.
        ledger: the ledger whose probes are shown beside the profile's own; by default the cache's.
        cache: folder of cached probes.

    Raises:
        InputError: there is neither a profile nor a run, or a file cannot be written.
    """
    if isinstance(source, Profile):
        view: Any = view_of(of_profile(source, str(source.path or PROFILE_NAME)))
        page = path_of(out) or PAGE
    else:
        place = Path(source).expanduser()
        view, _ = read_view(place, path_of(ledger), path_of(cache))
        page = path_of(out) or default_page(place)
    write_text(as_page(view), page, option="out")
    if markdown is not None:
        write_text(as_markdown(view), Path(markdown).expanduser(), option="markdown")
    if figures is not None:
        write_figures(view.figures, Path(figures).expanduser(), FIGURE_FORMATS)
    return page
