"""Splits of a dataset into training, validation and test parts.

A split is given (by lists or a manifest's column) or made from ordered groups: the first groups are the test set, the next
the validation set, the rest is trained on. No group is divided: a part ends where it comes nearest to its share. Complexes
that a rule cannot place (no year, no cluster, a ligand that RDKit cannot read) are trained on.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

import numpy as np

from compass.data.pool import CHUNK, each
from compass.data.scan.catalogue import Catalogue
from compass.data.scan.rows import Row
from compass.data.splits.split_files import read_clusters, read_lists, resolver
from compass.device import available_cores
from compass.errors import InputError
from compass.optimizer_config import SplitRules
from compass.records import Record, digest

PARTS = ("train", "val", "test")
NONE = ""
"""The part of complexes that are left out."""
_Group = tuple[str, ...]
"""Ids that stay together."""


class Split(Record):
    """Labelled complexes in three parts, each sorted by id; no id is in two of them."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]
    why: str
    """How the split was made, in one line."""

    @property
    def digest(self) -> str:
        """Changes when any id changes its part."""
        return digest(self.train, self.val, self.test)


def split_dataset(catalogue: Catalogue, rules: SplitRules, seed: int, among: Collection[str] | None = None) -> Split:
    """The labelled complexes of `catalogue`, split by `rules`.

    Deterministic for given complexes and seed. Under a random split, added complexes move few of the others.

    Args:
        catalogue: the scan; a scaffold split reads the ligand files.
        rules: the criterion and the shares of the parts.
        seed: of the random order.
        among: ids that may be used; None: all usable ones.

    Raises:
        InputError: a requested part would be empty, or the input of the rule is missing or wrong.
        StructureError: a ligand file is missing or has changed since the scan.
        WorkerError: no process can be started to read ligands.
    """
    rows = [row for row in catalogue.usable if row.label is not None and (among is None or row.id in among)]
    if not rows:
        raise _error("no complex with a label", "complexes to train on", "Check the index, or the manifest's labels.")
    match rules.by:
        case "lists":
            return _as_given(rows, read_lists(rules, resolver(row.id for row in catalogue.rows)), "as listed")
        case "given":
            return _as_given(rows, {row.id: row.split for row in rows if row.split}, "as the manifest says")
        case "random":
            return _at_random({row.id: row.id for row in rows}, rules, seed, "at random")
        case "year":
            return _by_year(rows, rules)
        case "scaffold":
            return _at_random(_scaffolds(rows, catalogue.root), rules, seed, "by ligand scaffold")
        case "clusters":
            clusters = read_clusters(rules.clusters, resolver(row.id for row in rows))
            return _at_random({row.id: clusters.get(row.id) for row in rows}, rules, seed, "by protein cluster")


# ----------------------------------------------------------------------------------------------------- given splits


def _as_given(rows: Sequence[Row], part_of: Mapping[str, str], how: str) -> Split:
    """Complexes without a part are trained on if no training part is given, and left out otherwise."""
    asked = {"train", *part_of.values()}
    if asked == {"train"}:
        raise _error(
            f"no complex in validation or test, {how}",
            "at least one of them",
            "Name them, or choose another training.split.by.",
        )
    rest = NONE if "train" in part_of.values() else "train"
    parts = defaultdict[str, list[str]](list)
    for row in rows:
        parts[part_of.get(row.id, rest)].append(row.id)
    return _checked(parts, asked, how + _count_note(len(parts.pop(NONE, ())), "in none, left out"))


# ---------------------------------------------------------------------------------------------------- ordered groups


def _at_random(group_of: Mapping[str, str | int | None], rules: SplitRules, seed: int, how: str) -> Split:
    """A random order in which groups that fill more than half of a part come last, the largest at the end.

    Thus the largest groups are trained on, and the test set samples all others, not only groups of one.
    """
    groups, unplaced = _grouped(group_of)
    limit = max(1.0, min((n for n in _wanted(len(group_of), rules) if n), default=0) / 2)
    order = sorted(groups, key=lambda group: (len(group) if len(group) > limit else 0, digest(seed, group)))
    return _cut(order, unplaced, rules, how)


def _by_year(rows: Sequence[Row], rules: SplitRules) -> Split:
    years = {row.id: row.year for row in rows}
    groups, unplaced = _grouped(years)
    return _cut(
        sorted(groups, key=lambda group: -(years[group[0]] or 0)), unplaced, rules, "by year, the newest tested"
    )


def _grouped(group_of: Mapping[str, str | int | None]) -> tuple[list[_Group], _Group]:
    """(groups, ids without a group)."""
    members: dict[str | int | None, list[str]] = defaultdict(list)
    for name, group in sorted(group_of.items()):
        members[group].append(name)
    unplaced = tuple(members.pop(None, ()))
    return [tuple(names) for names in members.values()], unplaced


def _cut(groups: Sequence[_Group], unplaced: _Group, rules: SplitRules, how: str) -> Split:
    """A split whose first groups are the test set and the next the validation set."""
    n_test, n_val = _wanted(sum(map(len, groups)) + len(unplaced), rules)
    n_others = 0 if unplaced else 1
    n_parts = bool(n_test) + bool(n_val) + n_others
    if len(groups) < n_parts:
        what = "complexes" if rules.by == "random" else f"groups {how}"
        raise _error(
            f"{len(groups)} {what}",
            f"at least {n_parts}, one per part",
            "Give more data, a share of 0, or another training.split.by.",
        )
    test_end = _nearest(groups, n_test, len(groups) - bool(n_val) - n_others)
    val_end = test_end + _nearest(groups[test_end:], n_val, len(groups) - test_end - n_others)
    asked = {"train", *(["val"] if n_val else []), *(["test"] if n_test else [])}
    parts = {"test": groups[:test_end], "val": groups[test_end:val_end], "train": [*groups[val_end:], unplaced]}
    ids = {name: chain.from_iterable(held) for name, held in parts.items()}
    return _checked(ids, asked, how + _count_note(len(unplaced), "that could not be placed are trained on"))


def _wanted(n: int, rules: SplitRules) -> tuple[int, int]:
    """Target sizes (test, validation) out of `n` complexes: at least one where the share is not zero."""
    if rules.val_share + rules.test_share >= 1:
        raise _error(
            f"shares of {rules.val_share:g} and {rules.test_share:g}",
            "something left to train on",
            "Lower training.split.val_share or test_share.",
        )
    n_test, n_val = (max(1, round(share * n)) if share else 0 for share in (rules.test_share, rules.val_share))
    return n_test, n_val


def _nearest(groups: Sequence[_Group], wanted: int, most: int) -> int:
    """The number of groups (1 to `most`) whose size is nearest to `wanted` complexes; 0 if none are wanted."""
    if not wanted:
        return 0
    held = np.cumsum([len(group) for group in groups[:most]])
    return int(np.abs(held - wanted).argmin()) + 1


def scaffold_of(path: str) -> str | None:
    """The scaffold of the ligand in `path`; None if RDKit cannot sanitise it."""
    from compass.data.structures.molecules import murcko_scaffold, read_chemistry

    molecule = read_chemistry(Path(path))
    return None if molecule is None else murcko_scaffold(molecule)


def _scaffolds(rows: Sequence[Row], root: Path) -> dict[str, str | None]:
    """The scaffold of every ligand. Processes read them, so that RDKit does not add to a training's footprint."""
    files = sorted({str(root / row.ligand) for row in rows})
    n_workers = min(available_cores(), math.ceil(len(files) / CHUNK))
    with closing(each(scaffold_of, files, n_workers=n_workers, died=lambda _: None)) as chunks:
        scaffolds = dict(chain.from_iterable(chunks))
    return {row.id: scaffolds[str(root / row.ligand)] for row in rows}


# ------------------------------------------------------------------------------------------------ checks and messages


def _checked(parts: Mapping[str, Iterable[str]], asked: Collection[str], how: str) -> Split:
    """The split, after a check that no requested part is empty."""
    train, val, test = (tuple(sorted(parts.get(name, ()))) for name in PARTS)
    empty = [name for name, ids in zip(PARTS, (train, val, test), strict=True) if name in asked and not ids]
    if empty:
        raise _error(
            f"nothing in {' and '.join(empty)}, {how}",
            "a labelled complex in each requested part",
            "Correct the lists, or choose another training.split.by.",
        )
    return Split(
        train=train, val=val, test=test, why=f"{how}: {len(train):,} train, {len(val):,} val, {len(test):,} test"
    )


def _count_note(n: int, what: str) -> str:
    return f" ({n:,} {what})" if n else ""


def _error(got: str, expected: str, fix: str) -> InputError:
    return InputError("training.split", got=got, expected=expected, fix=fix)
