"""Reading a whole dataset: list, read in processes, store in the catalogue. A killed scan continues where it stopped."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from pathlib import Path

from compass.data.pool import CHUNK, each
from compass.data.scan.catalogue import CATALOGUE_VERSION, About, ScanStore
from compass.data.scan.listing import Listing
from compass.data.scan.manifest import list_manifest
from compass.data.scan.names import is_text
from compass.data.scan.outside import outside_warning
from compass.data.scan.reading import Reader, Reading, ReadingRules, crashed
from compass.data.scan.rows import Row
from compass.data.scan.tree import list_tree
from compass.device import available_cores
from compass.errors import InputError
from compass.optimizer_config import DatasetRules, OptimizerConfig
from compass.records import Record, digest

MANIFESTS = {".csv", ".parquet"}
DIED = "the process that read it died twice, the second time with this complex alone. Replay it with `compass scan … --only`"


class ScanProgress(Record):
    """How far a scan is."""

    n_done: int
    n_expected: int
    n_read: int
    """How many of those done were read. Some have no files to read."""
    n_known: int
    """How many were known from an earlier scan."""
    n_rejected: int
    elapsed_s: float

    @property
    def per_s(self) -> float:
        """Complexes per second so far."""
        return self.n_done / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Expected time for the rest, in seconds; None before there is a speed."""
        return (self.n_expected - self.n_done) / self.per_s if self.per_s else None


def scan_source(
    source: Path,
    rules: OptimizerConfig,
    cache: Path,
    *,
    workers: int | None = None,
    watch: Callable[[ScanProgress], None] = lambda _: None,
) -> Path:
    """Read every complex of `source` and store one row for each.

    Only files that changed since an earlier scan by the same rules are read. Results are on disk at once, so a scan may be
    killed at any time and continues where it stopped.

    Args:
        source: a PDBbind-style folder, or a CSV or Parquet manifest.
        rules: `structures`, `graph` and `dataset` count.
        cache: the folder of caches; the catalogue goes to `scans` in it.
        workers: processes; None: as many as there are cores.
        watch: called with the progress after every few complexes.

    Returns:
        The catalogue's path, for `Catalogue.open`.

    Raises:
        InputError: `source` or its index cannot be used, or the cache cannot be written.
        WorkerError: processes cannot be started.
    """
    started_s = time.monotonic()
    listing = list_source(source, rules.dataset)
    reading_rules = ReadingRules.of(rules)
    n_workers = check_workers(workers) or available_cores()
    with ScanStore(catalogue_path(source, rules, cache)) as store:
        rows = _rows(listing, reading_rules, store, n_workers)
        with closing(rows):
            now = _read_all(rows, store, len(listing.complexes), started_s, watch)
        store.finish(
            About(
                source=str(source.absolute()),
                labels=listing.labels,
                warnings=(*store.warnings, *listing.warnings, *filter(None, [outside_warning(listing)])),
                rules=reading_rules.digest,
                n_read=now.n_read,
                n_known=now.n_known,
                took_s=time.monotonic() - started_s,
            )
        )
    return store.path


def list_source(source: Path, rules: DatasetRules) -> Listing:
    """The complexes that `source` lists, with their labels.

    Raises:
        InputError: no such folder or file, a file of another kind, no complexes, or the rules' index is no index file.
    """
    if not is_text(str(source.absolute())):
        raise InputError(
            f"dataset {source}",
            got="a path that is not valid text",
            expected="names that can be written down",
            fix="Rename the folder.",
        )
    try:
        source.stat()
    except FileNotFoundError:
        pass
    except OSError as error:
        raise InputError(
            f"dataset {source}",
            got=error.strerror or str(error),
            expected="a folder or manifest that can be read",
            fix="Check its permissions.",
        ) from error
    if source.is_dir():
        return list_tree(source, rules)
    if source.suffix.lower() not in MANIFESTS or not source.is_file():
        got = f"a {source.suffix or 'nameless'} file" if source.is_file() else "no such folder or file"
        raise InputError(
            f"dataset {source}",
            got=got,
            expected="a folder, or a manifest that ends in .csv or .parquet",
            fix="Check the path.",
        )
    if rules.index:
        raise InputError(
            f"index {rules.index}",
            got="an index beside a manifest",
            expected="labels from one of them",
            fix="Leave the index out: the manifest has a column for labels.",
        )
    return list_manifest(source)


def catalogue_path(source: Path, rules: OptimizerConfig, cache: Path) -> Path:
    """The catalogue's path for a scan of `source` by `rules`."""
    name = digest(CATALOGUE_VERSION, str(source.resolve()), ReadingRules.of(rules).digest)
    return cache / "scans" / f"{name}.sqlite"


def check_workers(workers: int | None) -> int | None:
    """Return `workers` if it is None or positive.

    Raises:
        InputError: it is below 1.
    """
    if workers is not None and workers < 1:
        raise InputError(
            "workers",
            got=str(workers),
            expected="a whole number above zero",
            fix="Give the processes that may run, or leave it out.",
        )
    return workers


def _read_all(
    rows: Iterable[list[tuple[Row, Reading | None]]],
    store: ScanStore,
    n_expected: int,
    started_s: float,
    watch: Callable[[ScanProgress], None],
) -> ScanProgress:
    """Store `rows` as they come. Returns the final progress."""
    now = ScanProgress(n_done=0, n_expected=n_expected, n_read=0, n_known=0, n_rejected=0, elapsed_s=0.0)
    for found in rows:
        store.add(found)
        readings = [reading for _, reading in found if reading is not None]
        n_known = sum(reading.outcome is None for reading in readings)
        now = ScanProgress(
            n_done=now.n_done + len(found),
            n_expected=n_expected,
            n_read=now.n_read + len(readings) - n_known,
            n_known=now.n_known + n_known,
            n_rejected=now.n_rejected + sum(not row.usable for row, _ in found),
            elapsed_s=time.monotonic() - started_s,
        )
        watch(now)
    return now


def _rows(
    listing: Listing, rules: ReadingRules, store: ScanStore, n_workers: int
) -> Generator[list[tuple[Row, Reading | None]]]:
    """Yield lists of (row, reading), in no order; the reading is None where no file was read."""
    yield [(candidate.row, None) for candidate in listing.complexes if not candidate.row.usable]
    tasks = [candidate for candidate in listing.complexes if candidate.row.usable]
    n_workers = min(n_workers, math.ceil(len(tasks) / CHUNK))
    reader = Reader(listing.root.absolute(), rules, store.known())
    with closing(each(reader, tasks, n_workers=n_workers, died=lambda _: crashed(DIED))) as chunks:
        for chunk in chunks:
            yield [
                ((reading.outcome or store.outcome(reading.key)).completes(candidate.row, reading.key), reading)
                for candidate, reading in chunk
            ]
