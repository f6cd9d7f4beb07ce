"""Building all graphs of a dataset once, in several processes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from compass.data.graphs.dataset import Dataset
from compass.data.graphs.graph_store import PART, SUFFIX, encode, open_store, write_store
from compass.data.pool import each
from compass.data.scan.reading import load_neighbour_list
from compass.device import available_cores
from compass.optimizer_config import OptimizerConfig

log = logging.getLogger(__name__)

PER_WORKER = 400
"""Graphs per process: building so many takes as long as starting a process."""
ABANDONED_S = 3600.0
"""Seconds without a write after which a partial file belongs to a killed process."""


def pack_graphs(
    rules: OptimizerConfig, *, workers: int | None = None, watch: Callable[[int, int], None] = lambda _done, _all: None
) -> Path | None:
    """Build every graph of `rules.dataset.catalogue`, unless they exist. A later `Dataset` reads them from the store.

    Several processes may run this at once: each writes its own file, and the last one stays. Stores of earlier states of the
    dataset are removed.

    Args:
        rules: configuration that names the catalogue.
        workers: processes; None: limited by cores and by the number of graphs.
        watch: called with (graphs done, all graphs) after every few.

    Returns:
        The store's path; None if it cannot be written. Graphs are then built at every access.

    Raises:
        InputError: the catalogue cannot be used.
    """
    load_neighbour_list()
    dataset = Dataset(rules)
    path, digest, names = dataset.store_path, dataset.digest, dataset.names
    if open_store(path, digest) is not None:
        return path
    log.info("building %s graphs, once for every epoch", f"{len(names):,}")
    n_workers = min(workers or available_cores(), len(names) // PER_WORKER)
    try:
        with closing(_built(rules, names, n_workers)) as built:
            write_store(path, digest, len(names), _numbered(built, names, watch))
    except OSError as error:
        log.warning(
            "graphs are built again for every batch, because %s cannot be written (%s)", path, error.strerror or error
        )
        return None
    _tidy(path, dataset.catalogue.path.stem)
    return path


def _built(rules: OptimizerConfig, names: Sequence[str], n_workers: int) -> Generator[list[tuple[str, bytes]]]:
    """Yield lists of (id, record), in no order. If building a graph ends its process, the record is empty."""
    build = _Builder(rules)
    if n_workers > 1:
        yield from each(build, names, n_workers=n_workers, died=lambda _: b"")
    else:
        for name in names:
            yield [(name, build(name))]


def _numbered(
    built: Iterable[list[tuple[str, bytes]]], names: Sequence[str], watch: Callable[[int, int], None]
) -> Iterator[tuple[int, bytes]]:
    numbers = {name: number for number, name in enumerate(names)}
    n_done = 0
    for found in built:
        yield from ((numbers[name], record) for name, record in found)
        n_done += len(found)
        watch(n_done, len(names))


@dataclass(frozen=True)
class _Builder:
    """Builds graphs. It is pickled to each worker once."""

    rules: OptimizerConfig

    def __call__(self, name: str) -> bytes:
        return encode(self._dataset.build(name))

    @cached_property
    def _dataset(self) -> Dataset:
        load_neighbour_list()
        return Dataset(self.rules)


def _tidy(path: Path, stem: str) -> None:
    """Remove stores of earlier states of the dataset and partial files of killed processes."""
    for other in (*path.parent.glob(f"{stem}.*{SUFFIX}*"), *path.parent.glob(f".{stem}.*{SUFFIX}*")):
        with suppress(OSError):  # another process removed it first, or Windows still has it open
            abandoned = time.time() - other.stat().st_mtime > ABANDONED_S
            if other != path and (other.suffix == SUFFIX or (other.suffix == PART and abandoned)):
                other.unlink()
