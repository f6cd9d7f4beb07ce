"""Files that define a split: lists of ids and clusters of proteins."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from compass.errors import InputError
from compass.files import MOST_TABLE_BYTES, read_file
from compass.optimizer_config import SplitRules

_N_NAMED = 5
"""Most ids that a message names."""

Resolve = Callable[[str], str | None]
"""Name in a file → id of the complex, None if there is none."""


def resolver(ids: Iterable[str]) -> Resolve:
    """A function that finds ids; an exact match first, then one in another case, as PDB codes are written in both."""
    exact = set(ids)
    by_lower = {name.lower(): name for name in sorted(exact, reverse=True)}
    return lambda name: name if name in exact else by_lower.get(name.lower())


def read_lists(rules: SplitRules, resolve: Resolve) -> dict[str, str]:
    """Id → part (`train`, `val` or `test`), from the lists that are given.

    Raises:
        InputError: a list cannot be read, names an unknown id, or shares an id with another list.
    """
    paths = {"train": rules.train_list, "val": rules.val_list, "test": rules.test_list}
    part_of: dict[str, str] = {}
    for part, path in paths.items():
        where = f"training.split.{part}_list"
        listed = [name for line in _lines(path, where) for name in line] if path else []
        unknown = [name for name in listed if resolve(name) is None]
        if unknown:
            raise InputError(
                f"{where} {path}",
                got=_named(unknown, "not in the dataset"),
                expected="ids of the dataset",
                fix="Remove them, or scan the data they are from.",
            )
        ids = {resolve(name) or name for name in listed}
        twice = sorted(ids & part_of.keys())
        if twice:
            raise InputError(
                f"{where} {path}",
                got=_named(twice, f"in {part_of[twice[0]]}_list too"),
                expected="each id in one list",
                fix="Remove it from one of them.",
            )
        part_of |= dict.fromkeys(ids, part)
    return part_of


def read_clusters(path: str, resolve: Resolve) -> dict[str, int]:
    """Id → number of its cluster, for the ids that are in a cluster.

    Names of chains or entities (`1abc_A`, `1ABC_1`) are accepted, and MMseqs2's pairs of a representative and a member.
    Clusters that share a complex or any other name are merged.

    Raises:
        InputError: it cannot be read, or names no complex of the dataset.
    """
    where = "training.split.clusters"
    found: dict[tuple[str, int], None] = {}  # (name, line), each once
    for number, names in enumerate(_lines(path, where)):
        for name in names:
            # Names outside the dataset are kept: they may be the only link between two lines of a cluster.
            found[resolve(name) or resolve(name.rpartition("_")[0]) or name, number] = None
    nodes = dict.fromkeys(node for node, _ in found)
    ids = sorted(node for node in nodes if resolve(node))
    if not ids:
        raise InputError(
            f"{where} {path}",
            got="no id of the dataset",
            expected="one cluster per line, ids separated by blanks",
            fix="Check the file, or choose another training.split.by.",
        )
    place = {
        node: i for i, node in enumerate(dict.fromkeys(ids) | nodes)
    }  # ids first, because clusters are numbered in this order
    rows, lines = zip(*((place[node], len(place) + number) for node, number in found), strict=True)
    n_nodes = max(lines) + 1
    _, cluster = connected_components(
        coo_array(([1] * len(rows), (rows, lines)), shape=(n_nodes, n_nodes)), directed=False
    )
    return {id_: int(cluster[place[id_]]) for id_ in ids}


def _lines(path: str, where: str) -> Iterator[list[str]]:
    """The words of every line without comment lines, which begin with #."""
    if not path:
        raise InputError(where, got="nothing", expected="a file", fix=f"Set {where}.")
    try:
        text = read_file(Path(path), MOST_TABLE_BYTES).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise InputError(
            f"{where} {path}", got=error.strerror or str(error), expected="a text file", fix="Check the path."
        ) from error
    return (line.split() for line in text.splitlines() if not line.lstrip().startswith("#"))


def _named(ids: list[str], what: str) -> str:
    more = f" and {len(ids) - _N_NAMED} more" if len(ids) > _N_NAMED else ""
    return f"{', '.join(ids[:_N_NAMED])}{more}, {what}"
