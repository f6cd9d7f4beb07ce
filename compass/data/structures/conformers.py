"""One conformer for each residue, whether its alternates have letters or have lost them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

from compass.data.structures.elements import is_standard
from compass.units import format_count

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from compass.data.structures.atom_table import AtomTable
    from compass.optimizer_config import StructureRules

CONFORMERS_WITHOUT_LETTERS = "conformers_without_letters"
"""The repair of a residue that holds two conformers, at least one of them without a letter."""
OVERLAP_ANGSTROM = 0.8
"""No two atoms of one conformer come this near, hydrogen apart: the shortest bond between heavy atoms is 1.1 Å."""
APART_ANGSTROM = 2.2
"""Repeated atoms of one name and at least so far apart belong to two residues under one number."""
_ANCHORS = ("CA", "C1'", "C1*")
ANCHORS_ANGSTROM = 2.7
"""The same for these atoms of a chain: those of neighbours are 2.8 Å or more apart, even in a cis peptide."""
SAME_RESIDUE_ANGSTROM = 2.4
"""Parts of a file under one number whose heavy atoms come this near are one residue; hydrogen bonds are longer."""
CONFORMERS_ANGSTROM = 5.0
"""The same for conformers with letters and for side chains alone: they may lie further from each other, but not as far as another chain does."""

MOST_PARTS = 1_000
"""Of a file under one number. The waters of the largest box of 800,000 atoms are numbered 80 times over."""


class TooManyPartsError(ValueError):
    """One number stands in so many parts of a file that to compare them would take minutes."""


def one_conformer(table: AtomTable, rules: StructureRules) -> AtomTable:
    """`table` with one conformer for each residue; atoms without an alternate stay.

    Residues under one number are alternates of each other (microheterogeneity) and are chosen together. One label counts for
    the whole residue: atom by atom, a side chain could be half of one conformer and half of the other.
    """
    if rules.alternates == "all" or not len(table):
        return table
    sites = _sites(table)
    keep = np.ones(len(table), np.bool_)
    dropped: list[str] = []
    for places in _in_question(table, sites):
        labels, is_guess = _labels(table, places)
        if labels is None:
            continue
        kept, chosen = _chosen(table, places, labels, rules)
        keep[places] = kept
        if is_guess and not kept.all():
            dropped.append(f"{table.residue_label(int(places[0]))}: {np.count_nonzero(~kept)} atoms ({chosen} kept)")
    chosen_atoms = table.where(keep)
    if not dropped:
        return chosen_atoms
    more = f" and {format_count(len(dropped) - 3)} more residues" if len(dropped) > 3 else ""
    note = f"conformers without letters dropped: {'; '.join(dropped[:3])}{more}"
    return chosen_atoms.noting(note, repairs=(CONFORMERS_WITHOUT_LETTERS,))


def _sites(table: AtomTable) -> NDArray[np.int64]:
    """(n,) number of each atom's site: the residues under one number that lie at one place, wherever they stand in the file."""
    sites = table.runs(by_name=False)
    starts = np.unique(sites, return_index=True)[1]
    columns = (table.models, table.chains, table.numbers)
    keys = list(zip(*(column[starts].tolist() for column in columns), strict=True))
    if len(set(keys)) == len(keys):
        return sites
    parts = np.split(np.arange(len(table)), starts[1:])
    low, high = np.minimum.reduceat(table.positions, starts), np.maximum.reduceat(table.positions, starts)
    merged = np.arange(len(starts))
    by_key: dict[tuple[int, str, str], list[int]] = defaultdict(list)
    for site, key in enumerate(keys):
        by_key[key].append(site)
    if max(map(len, by_key.values())) > MOST_PARTS:
        raise TooManyPartsError(f"one residue number in more than {MOST_PARTS:,} parts of the file")
    for group in filter(lambda group: len(group) > 1, map(np.array, by_key.values())):
        for at in range(1, len(group)):
            site, before = group[at], group[:at]
            # Waters of a large box are numbered many times over: most of one number are far apart.
            gaps = np.maximum(low[before] - high[site], low[site] - high[before]).max(axis=1)
            for other in before[gaps < CONFORMERS_ANGSTROM]:
                if _at_one_place(table, parts[other], parts[site]):
                    merged[site] = merged[other]
                    break
    return np.asarray(merged[sites])


def _at_one_place(table: AtomTable, one: NDArray[np.int64], other: NDArray[np.int64]) -> bool:
    """Whether two parts of a file under one number are one residue: bonded, on each other, or conformers by their letters.

    Two chains may have lost their letters, and two molecules may share a number.
    """
    apart = np.linalg.norm(table.positions[one, None] - table.positions[other], axis=2)
    if (table.alternates[one] != "").any() and (table.alternates[other] != "").any():
        return bool(apart.min() < CONFORMERS_ANGSTROM)
    if not np.isin(table.residue_names[other], table.residue_names[one]).any():
        return False
    is_side_chain = is_standard(str(table.residue_names[other[0]])) and not np.isin(table.names[other], _ANCHORS).any()
    if is_side_chain and np.isin(table.names[other], table.names[one]).all():
        return bool(apart.min() < CONFORMERS_ANGSTROM)
    heavy = np.logical_and.outer(table.elements[one] != 1, table.elements[other] != 1)
    return bool(np.min(apart, initial=np.inf, where=heavy) < SAME_RESIDUE_ANGSTROM)


def _in_question(table: AtomTable, sites: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """The atoms of every site with letters, or with a heavy atom's name in one residue more than once."""
    heavy = table.elements != 1
    _, name = np.unique(table.names, return_inverse=True)
    _, residue = np.unique(table.residue_names, return_inverse=True)
    code = (sites * (int(residue.max()) + 1) + residue) * (int(name.max()) + 1) + name
    _, where, counts = np.unique(code[heavy], return_inverse=True, return_counts=True)
    odd = table.alternates != ""
    odd[heavy] |= counts[where] > 1
    order, wanted = np.argsort(sites, kind="stable"), set(sites[odd].tolist())
    groups = np.split(order, np.flatnonzero(np.diff(sites[order])) + 1)
    return [places for places in groups if int(sites[places[0]]) in wanted]


def _labels(table: AtomTable, places: NDArray[np.int64]) -> tuple[NDArray[np.str_] | None, bool]:
    """(label of each atom, whether some are guessed); None if the residue has no alternates."""
    labels = table.alternates[places].copy()
    repeated = _repetitions(table, places)
    twice = repeated.max(initial=0) > 0
    if (labels != "").any():
        # Beside the same atom with a letter, an atom without one is a conformer too.
        partners = {(table.residue_names[i], table.names[i]) for i, label in zip(places, labels, strict=True) if label}
        unlettered = np.array(
            [
                not label and (table.residue_names[i], table.names[i]) in partners
                for i, label in zip(places, labels, strict=True)
            ]
        )
        labels[unlettered] = " "
        return labels, bool(unlettered.any())
    if not twice or not _are_conformers(table, places, repeated):
        return None, False
    names = [(table.residue_names[i], table.names[i]) for i in places]
    several = {name for name, count in zip(names, repeated, strict=True) if count > 0}
    return np.array(
        [str(count + 1) if name in several else "" for name, count in zip(names, repeated, strict=True)]
    ), True


def _repetitions(table: AtomTable, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often the same name in the same residue came before each atom, among equal letters; hydrogens do not count."""
    seen: dict[tuple[str, str, str], int] = defaultdict(int)
    result = np.zeros(len(places), np.int64)
    for k, i in enumerate(places):
        if table.elements[i] != 1:
            key = (str(table.residue_names[i]), str(table.names[i]), str(table.alternates[i]))
            result[k] = seen[key]
            seen[key] += 1
    return result


def _are_conformers(table: AtomTable, places: NDArray[np.int64], repeated: NDArray[np.int64]) -> bool:
    """Whether repeated names mean two conformers: not in a residue whose names are no names, nor in two that share a number."""
    again = places[repeated > 0]
    same = [
        np.linalg.norm(
            table.positions[places[(table.names[places] == table.names[i]) & (places < i)]] - table.positions[i], axis=1
        ).min()
        for i in again
    ]
    if not is_standard(str(table.residue_names[places[0]])):
        # All carbons of a residue may be called C: such names tell no atoms apart.
        named = all(any(letter.isdigit() for letter in str(table.names[i])) for i in again)
        return bool(min(same) < (APART_ANGSTROM if named else OVERLAP_ANGSTROM))
    anchors = [distance for distance, i in zip(same, again, strict=True) if table.names[i] in _ANCHORS]
    return not anchors or bool(min(anchors) < ANCHORS_ANGSTROM)


def _chosen(
    table: AtomTable, places: NDArray[np.int64], labels: NDArray[np.str_], rules: StructureRules
) -> tuple[NDArray[np.bool_], str]:
    """(which atoms stay, why this label)."""
    occupancies: dict[str, list[float]] = defaultdict(list)
    for i, label in zip(places, labels, strict=True):
        if label:
            occupancies[str(label)].append(float(table.occupancies[i]))
    means = {label: round(sum(values) / len(values), 3) for label, values in occupancies.items()}
    best = min(means) if rules.alternates == "first" else min(means, key=lambda label: (-means[label], label))
    kept = (labels == "") | (labels == best)
    # An atom that lacks the chosen alternate comes from its own most occupied one, unless its residue was not chosen.
    present = {(table.residue_names[i], table.names[i]) for i in places[kept]}
    chosen_residues = {name for name, _ in present}
    left: dict[tuple[str, str], list[int]] = defaultdict(list)
    for k in np.flatnonzero(~kept).tolist():
        key = (table.residue_names[places[k]], table.names[places[k]])
        if key not in present and key[0] in chosen_residues:
            left[key].append(k)
    for rest in left.values():
        k = min(rest, key=lambda k: (-float(table.occupancies[places[k]]), str(labels[k])))
        if not _overlaps(table, int(places[k]), places[kept]):
            kept[k] = True
    why = "the first" if rules.alternates == "first" or len(set(means.values())) == 1 else f"occupancy {means[best]:g}"
    return kept, why


def _overlaps(table: AtomTable, place: int, others: NDArray[np.int64]) -> bool:
    distances = np.linalg.norm(table.positions[others] - table.positions[place], axis=1)
    return bool(len(distances) and distances.min() < OVERLAP_ANGSTROM and table.elements[place] != 1)
