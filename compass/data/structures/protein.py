"""The protein side of a complex: PDB and mmCIF, cleaned as `StructureRules` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from compass.data.structures.conformers import MOST_PARTS, TooManyPartsError, one_conformer
from compass.data.structures.elements import ATOMIC_NUMBERS, WATERS, is_polymeric, is_standard, with_elements
from compass.data.structures.mmcif_file import parse_mmcif
from compass.data.structures.pdb_file import parse_pdb
from compass.data.structures.structure_file import (
    Reason,
    StructureError,
    read_text,
    require_finite,
    require_room,
    unreadable,
)
from compass.units import format_count

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from compass.data.structures.atom_table import AtomTable
    from compass.optimizer_config import StructureRules

PROTEIN_FORMATS = {".pdb": "pdb", ".ent": "pdb", ".cif": "mmcif", ".mmcif": "mmcif"}
"""Extensions that are read, each also with `.gz`."""
PROTEIN_FILE = "a PDB or mmCIF file"

ANOTHER_PLACE_ANGSTROM = 5.0
"""Models of one molecule lie over each other; a second model further away is another molecule."""
_SEAM_ANGSTROM = 3.0
"""Residues so far beyond the pocket are read too: bonds and conformers reach across its border."""
_PEPTIDE_BOND_ANGSTROM = 2.0
_SAME_COORDINATE = 0.01
_BOND_ANGSTROM = 1.9
"""Longer than any bond of oxygen to carbon, nitrogen, phosphorus or sulphur, and shorter than any hydrogen bond."""
_STRAY_ANGSTROM = 2.4
"""Every heavy atom of an amino acid or nucleotide has a neighbour in its residue within this."""
_DUMMY = "DUM"
"""The residue of atoms that mark the planes of a membrane, as OPM writes them."""
_METALS = """LI BE NA MG AL K CA SC TI V CR MN FE CO NI CU ZN GA RB SR Y ZR NB MO TC RU RH PD AG CD IN SN CS BA LA CE PR ND PM SM
EU GD TB DY HO ER TM YB LU HF TA W RE OS IR PT AU HG TL PB BI PO FR RA AC TH PA U NP PU AM CM BK CF ES FM MD NO LR"""
_IS_METAL = np.zeros(128, np.bool_)
_IS_METAL[[ATOMIC_NUMBERS[symbol] for symbol in _METALS.split()]] = True


def read_protein(
    path: Path, rules: StructureRules, *, near: tuple[NDArray[np.float64], float] | None = None
) -> AtomTable:
    """The atoms of a protein file that `rules` keep; hydrogens and unknown elements are left to the caller.

    Polymer residues, modified ones included, always stay. Of the rest, a residue with a single heavy atom is a water
    if that is an oxygen (under any name that a simulation package gave it) and a metal if it is one; everything else
    (NADPH, sugars, chloride …) counts as a cofactor. Zero occupancy is no reason to leave an atom out. The same atom
    written twice at the same place, as alternates and models often do, counts once.

    Args:
        path: the file.
        rules: what becomes of waters, metals, alternates and models.
        near: (positions (m, 3), radius) in Å: only residues that reach so near, and a little more, are read in full.

    Raises:
        StructureError: the file's own faults, or no_atoms if nothing was read or nothing is left.
    """
    kind, text = read_text(path, PROTEIN_FORMATS, what=PROTEIN_FILE)
    table = parse_pdb(path, text) if kind == "pdb" else parse_mmcif(path, text)
    if not len(table):
        raise StructureError(
            Reason.NO_ATOMS,
            path,
            got="no atoms",
            expected="atom records with coordinates",
            fix=f"Check that the file is {'in PDB' if kind == 'pdb' else 'in mmCIF'} format, as its name says.",
        )
    require_finite(path, table.positions)
    table = _chosen_models(table, rules)
    whole = table
    if near is not None:
        table = _residues_near(table, *near)
    kept = _kept_of(path, table, rules)
    if not len(kept) and near is not None:
        kept = _kept_of(path, whole, rules)
    if not len(kept):
        raise StructureError(
            Reason.NO_ATOMS,
            path,
            got="no atoms after waters, metals and cofactors were dropped",
            expected="at least one protein atom",
            fix="Check that the file holds the protein, or keep more in structures.waters, .metals or .cofactors.",
        )
    return kept


def _kept_of(path: Path, table: AtomTable, rules: StructureRules) -> AtomTable:
    """The atoms that `rules` keep.

    Raises:
        StructureError: overlapping, or unreadable: to look at them would take minutes.
    """
    require_room(path, table.positions)
    try:
        return _kept(table, rules)
    except TooManyPartsError as error:
        raise unreadable(path, why=error, expected=f"at most {MOST_PARTS:,}") from None


def _kept(table: AtomTable, rules: StructureRules) -> AtomTable:
    if not len(table):
        return table
    dummies = table.residue_names == _DUMMY
    if dummies.any():
        table = table.where(~dummies).noting(f"{format_count(int(dummies.sum()))} dummy atoms (DUM) are left out")
    table = with_elements(table)
    table = table.where(_allowed(table, rules))
    return _each_once(one_conformer(table, rules))


def _chosen_models(table: AtomTable, rules: StructureRules) -> AtomTable:
    """The first model, or all as the rules say. A further model that is another molecule gives a note."""
    first = table.models == table.models[0]
    if rules.models == "all" or first.all():
        return table
    one, other = table.where(first), table.where(table.models == table.models[~first][0])
    if _lie_over_each_other(one, other):
        return one
    n_left = format_count(int(np.count_nonzero(~first)))
    return one.noting(
        f"{n_left} atoms of further models lie elsewhere, as in a biological assembly or a floppy ensemble, and are left out; "
        "structures.models=all reads them"
    )


def _lie_over_each_other(one: AtomTable, other: AtomTable) -> bool:
    """Whether `other` is another model of the molecules in `one`."""
    same = len(one) == len(other) and np.array_equal(one.names, other.names)
    if same and np.array_equal(one.chains, other.chains):
        shift = np.linalg.norm(one.positions - other.positions, axis=1)
        return bool(np.median(shift) < ANOTHER_PLACE_ANGSTROM)
    distances, _ = cKDTree(one.positions).query(other.positions, distance_upper_bound=ANOTHER_PLACE_ANGSTROM)
    return bool(np.mean(np.isfinite(distances)) > 0.5 and (same or _share_of_atoms(one, other) > 0.9))


def _share_of_atoms(one: AtomTable, other: AtomTable) -> float:
    """The share of `other`'s atoms that `one` has too, by chain, number and name."""
    known, found = (
        set(zip(table.chains.tolist(), table.numbers.tolist(), table.names.tolist(), strict=True))
        for table in (one, other)
    )
    return len(found & known) / len(found)


def _residues_near(table: AtomTable, points: NDArray[np.float64], radius: float) -> AtomTable:
    """Whole residues with an atom within `radius` of `points`, and their neighbours across the border."""
    reach = radius + _SEAM_ANGSTROM
    low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
    boxed = np.flatnonzero(((table.positions >= low) & (table.positions <= high)).all(axis=1))
    distances, _ = cKDTree(points).query(table.positions[boxed], distance_upper_bound=reach)
    sites = table.runs(by_name=False)
    keep = np.zeros(int(sites.max()) + 1, np.bool_)
    keep[sites[boxed[np.isfinite(distances)]]] = True
    return table.where(keep[sites])


def _allowed(table: AtomTable, rules: StructureRules) -> NDArray[np.bool_]:
    """(n,) whether the rules keep each atom's residue."""
    runs = table.runs()
    first = np.unique(runs, return_index=True)[1]
    heavy = table.elements > 1
    n_other = np.bincount(runs, weights=heavy & (table.elements != 8))
    n_not_metal = np.bincount(runs, weights=heavy & ~_IS_METAL[table.elements])
    single = _one_name(table, runs, heavy, len(first))
    named_water = np.array([name in WATERS for name in table.residue_names[first].tolist()], np.bool_)
    is_water = named_water & (n_other == 0)
    unnamed = single & (n_other == 0) & ~named_water
    is_oxygen = unnamed & ~_bonded(table, runs, unnamed)
    is_metal = single & (n_not_metal == 0)
    polymer = (
        _in_polymers(table, runs, first)
        if rules.cofactors == "drop" or rules.metals == "drop"
        else (np.array([is_polymeric(str(table.residue_names[i])) and not table.hetero[i] for i in first], np.bool_))
    )
    allowed = np.full(len(first), rules.cofactors == "keep")
    allowed[is_metal] = rules.metals == "keep"
    allowed[is_oxygen] = rules.waters == "keep"
    allowed[polymer] = True
    allowed[is_water] = rules.waters == "keep"
    return np.asarray(allowed[runs], np.bool_)


def _one_name(table: AtomTable, runs: NDArray[np.int64], heavy: NDArray[np.bool_], n_runs: int) -> NDArray[np.bool_]:
    """(residues,) whether all heavy atoms have one name: a single atom, in one conformer or several."""
    starts = np.flatnonzero(heavy)
    first_name = np.full(n_runs, "", table.names.dtype)
    first_name[runs[starts[::-1]]] = table.names[starts[::-1]]
    n_odd = np.bincount(runs, weights=heavy & (table.names != first_name[runs]), minlength=n_runs)
    return np.asarray((first_name != "") & (n_odd == 0))


def _bonded(table: AtomTable, runs: NDArray[np.int64], single: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(residues,) whether one of the `single` residues is bonded to another residue: no water, whatever its name."""
    bonded = np.zeros(len(single), np.bool_)
    if single.any():
        unnamed = single[runs] & (table.elements > 1)
        others = np.flatnonzero(np.isin(table.elements, (6, 7, 15, 16)))
        if len(others):
            distances, _ = cKDTree(table.positions[others]).query(table.positions[unnamed])
            bonded[runs[unnamed][distances < _BOND_ANGSTROM]] = True
    return bonded


def _in_polymers(table: AtomTable, runs: NDArray[np.int64], first: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each residue belongs to a chain: a common one in ATOM records, or one that a chain's bonds lead to."""
    polymer = np.array([is_polymeric(str(table.residue_names[i])) and not table.hetero[i] for i in first], np.bool_)
    ends = {}
    for name in ("N", "C", "P", "O3'"):
        places = np.flatnonzero(table.names == name)
        ends[name] = {int(run): table.positions[i] for run, i in zip(runs[places], places, strict=True)}
    for run in range(1, len(first)):
        for leaving, arriving in (("C", "N"), ("O3'", "P")):
            pair = ends[leaving].get(run - 1), ends[arriving].get(run)
            if (
                pair[0] is not None
                and pair[1] is not None
                and np.linalg.norm(pair[0] - pair[1]) < _PEPTIDE_BOND_ANGSTROM
            ):
                polymer[run - 1] = polymer[run] = True
    return polymer


def _each_once(table: AtomTable) -> AtomTable:
    """`table` with the same atom of a residue at one place once, and a note on atoms that their residue does not reach."""
    if not len(table):
        return table
    pairs = cKDTree(table.positions).query_pairs(_STRAY_ANGSTROM, output_type="ndarray")
    first, second = pairs.T
    apart = np.abs(table.positions[first] - table.positions[second]).max(axis=1, initial=0.0)
    columns = (table.chains, table.numbers, table.residue_names, table.names)
    keep = np.ones(len(table), np.bool_)
    for one, other in pairs[apart < _SAME_COORDINATE].tolist():
        if all(column[one] == column[other] for column in columns):
            keep[max(one, other)] = False
    strays = _strays(table, pairs)
    named = ", ".join(f"{table.names[i]} of {table.residue_label(i)}" for i in strays[:3])
    n_strays = format_count(len(strays))
    notes = (f"atoms apart from the rest of their residue: {n_strays} ({named}{' …' if len(strays) > 3 else ''})",)
    return table.where(keep).noting(*(notes if strays else ()))


def _strays(table: AtomTable, pairs: NDArray[np.int64]) -> list[int]:
    """The heavy atoms of common residues without a neighbour in theirs among `pairs`; a residue of one atom has none."""
    runs = table.runs()
    heavy = table.elements > 1
    both = (runs[pairs[:, 0]] == runs[pairs[:, 1]]) & heavy[pairs[:, 0]] & heavy[pairs[:, 1]]
    reached = np.zeros(len(table), np.bool_)
    reached[pairs[both].ravel()] = True
    n_heavy = np.bincount(runs, weights=heavy)
    alone = np.flatnonzero(heavy & ~reached & (n_heavy[runs] > 1))
    return [i for i in alone.tolist() if is_standard(str(table.residue_names[i]))]
