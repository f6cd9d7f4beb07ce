"""The protein side of a complex: PDB and mmCIF, cleaned as `StructureRules` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from compass.data.structures.conformers import one_conformer
from compass.data.structures.elements import ATOMIC_NUMBERS, WATERS, is_polymeric, with_elements
from compass.data.structures.mmcif_file import parse_mmcif
from compass.data.structures.pdb_file import parse_pdb
from compass.data.structures.structure_file import Reason, StructureError, read_text, require_finite
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
_DUMMIES = ("DUM",)
"""Residues that mark the planes of a membrane, as OPM writes them."""
_METALS = frozenset(
    ATOMIC_NUMBERS[symbol]
    for symbol in [
        "LI",
        "BE",
        "NA",
        "MG",
        "AL",
        "K",
        "CA",
        "SC",
        "TI",
        "V",
        "CR",
        "MN",
        "FE",
        "CO",
        "NI",
        "CU",
        "ZN",
        "GA",
        "RB",
        "SR",
        "Y",
        "ZR",
        "NB",
        "MO",
        "TC",
        "RU",
        "RH",
        "PD",
        "AG",
        "CD",
        "IN",
        "SN",
        "CS",
        "BA",
        "LA",
        "CE",
        "PR",
        "ND",
        "PM",
        "SM",
        "EU",
        "GD",
        "TB",
        "DY",
        "HO",
        "ER",
        "TM",
        "YB",
        "LU",
        "HF",
        "TA",
        "W",
        "RE",
        "OS",
        "IR",
        "PT",
        "AU",
        "HG",
        "TL",
        "PB",
        "BI",
        "PO",
        "FR",
        "RA",
        "AC",
        "TH",
        "PA",
        "U",
        "NP",
        "PU",
        "AM",
        "CM",
        "BK",
        "CF",
        "ES",
        "FM",
        "MD",
        "NO",
        "LR",
    ]
)


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
    kept = _kept(table, rules)
    if not len(kept) and near is not None:
        kept = _kept(whole, rules)
    if not len(kept):
        raise StructureError(
            Reason.NO_ATOMS,
            path,
            got="no atoms after waters, metals and cofactors were dropped",
            expected="at least one protein atom",
            fix="Check that the file holds the protein, or keep more in structures.waters, .metals or .cofactors.",
        )
    return kept


def _kept(table: AtomTable, rules: StructureRules) -> AtomTable:
    if not len(table):
        return table
    dummies = np.isin(table.residue_names, _DUMMIES)
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
        f"{n_left} atoms of further models lie elsewhere, as in a biological assembly, and are left out; "
        "structures.models=all reads them"
    )


def _lie_over_each_other(one: AtomTable, other: AtomTable) -> bool:
    """Whether `other` is another model of the molecules in `one`."""
    same = len(one) == len(other) and np.array_equal(one.names, other.names)
    if same and np.array_equal(one.chains, other.chains):
        shift = np.linalg.norm(one.positions - other.positions, axis=1)
        return bool(np.median(shift) < ANOTHER_PLACE_ANGSTROM)
    distances, _ = cKDTree(one.positions).query(other.positions, distance_upper_bound=ANOTHER_PLACE_ANGSTROM)
    return bool(np.mean(np.isfinite(distances)) > 0.5 and same)


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
    n_heavy = np.bincount(runs, weights=heavy)
    single = np.bincount(runs, weights=np.where(heavy, table.elements, 0))  # of one heavy atom: its element
    is_water = np.isin(table.residue_names[first], list(WATERS)) & ((n_heavy == 0) | (single == 8))
    is_oxygen, is_metal = (n_heavy == 1) & (single == 8), (n_heavy == 1) & np.isin(single, list(_METALS))
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
    """The same atom of the same residue at the same place counts once."""
    if not len(table):
        return table
    places = np.round(table.positions, 2)
    order = np.lexsort((places[:, 2], places[:, 1], places[:, 0]))
    close = np.flatnonzero((places[order][1:] == places[order][:-1]).all(axis=1))
    keep = np.ones(len(table), np.bool_)
    columns = (table.chains, table.numbers, table.residue_names, table.names)
    for k in close:
        one, other = sorted((int(order[k]), int(order[k + 1])))
        if all(column[one] == column[other] for column in columns):
            keep[other] = False
    return table.where(keep)
