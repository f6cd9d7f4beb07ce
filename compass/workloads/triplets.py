"""Triplets: pairs of edges that meet, k → j → i. DimeNet passes messages between them, depending on their angle.

Notation: n nodes, e edges, t triplets. `edge_index` (2, e) has sources in row 0 and targets in row 1, sorted by target, without
self-loops.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compass.files import MOST_TABLE_BYTES, read_file, replacing

_Indices = NDArray[np.int64]


def triplets(edge_index: _Indices, n_nodes: int) -> tuple[_Indices, _Indices]:
    """Edges k → j (t,) and the edges j → i (t,) that they lead into, with k ≠ i; sorted by the second."""
    source, target = edge_index
    incoming = np.bincount(target, minlength=n_nodes)
    first = np.concatenate([[0], np.cumsum(incoming)[:-1]])  # the first edge of each target
    counts = incoming[source]
    into = np.repeat(np.arange(len(source)), counts)
    place = np.arange(len(into)) - np.repeat(np.cumsum(counts) - counts, counts)
    out_of = np.repeat(first[source], counts) + place
    there_and_back = source[out_of] == target[into]
    return out_of[~there_and_back], into[~there_and_back]


def count_triplets(edge_index: _Indices, n_nodes: int) -> int:
    """The number of triplets, t, without listing them."""
    source, target = edge_index
    n_pairs = int(np.bincount(target, minlength=n_nodes)[source].sum())
    n_back = int(np.isin(target * n_nodes + source, source * n_nodes + target).sum())
    return n_pairs - n_back


def cached_counts(path: Path, digest: str, names: Iterable[str], count: Callable[[str], int]) -> dict[str, int]:
    """The count of each of `names`, from the file `path` if it holds them under the same `digest` of the data.

    Missing counts are computed and added to the file. A file that cannot be read is replaced; one that cannot be written is
    ignored.
    """
    try:
        kept = json.loads(read_file(path, MOST_TABLE_BYTES))
        known = dict(kept["counts"]) if kept["digest"] == digest else {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        known = {}
    missing = [name for name in names if name not in known]
    if missing:
        known |= {name: count(name) for name in missing}
        _write(path, json.dumps({"digest": digest, "counts": known}))
    return {name: int(known[name]) for name in names}


def _write(path: Path, text: str) -> None:
    """Replace the file atomically, because another worker may be reading it."""
    with contextlib.suppress(OSError), replacing(path) as file:
        file.write(text.encode("utf-8"))
