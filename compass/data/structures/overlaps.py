"""One atom at one place: the ligand's copy in the protein file, and atoms that lie on each other."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from compass.data.structures.conformers import OVERLAP_ANGSTROM
from compass.data.structures.elements import is_polymeric
from compass.data.structures.structure_file import Atoms, Reason, StructureError
from compass.units import format_count

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from compass.data.structures.atom_table import AtomTable

SAME_ATOM_ANGSTROM = 0.2
"""No two atoms come this near (the shortest bond, in H₂, is 0.74 Å): nearer means one atom, written in both files."""
SAME_PLACE_ANGSTROM = 0.01
"""Ten times the last digit of a PDB coordinate. A direction between atoms at one place is 0/0 to a network."""
CONTACT_ANGSTROM = 2.0
"""Heavy atoms this near are bonded; a molecule with many such contacts to the ligand lies on it."""
CRYSTAL_LIGAND_DROPPED = "crystal_ligand_dropped"
"""The repair of a protein file in which another molecule lies on the ligand, such as its crystal pose under a docked one."""
OVERLAPPING_DROPPED = "overlapping_residue_dropped"
"""The repair of two residues that lie on each other: the less occupied one is dropped."""

COPY_ANGSTROM = 6.0
"""A molecule of the ligand's formula this near to it may be its crystal pose."""

_LEAST_CONTACTS = 3
"""One bond joins a covalent ligand to its partner: atoms next to it are 2.3 Å or more away."""


def without_the_ligand(path: Path, protein: AtomTable, ligand: Atoms) -> AtomTable:
    """`protein` without the ligand's atoms, and without any other molecule that lies on the ligand.

    A protein-file atom within 0.2 Å of a ligand atom is that atom and is dropped; where these are at least half of a
    bonded part of a residue, all of that part is (the rest are the ligand's hydrogens or alternates).

    Raises:
        StructureError: overlapping, if an atom of a chain lies on the ligand.
    """
    if not len(protein):
        return protein
    heavy = cKDTree(ligand.positions[ligand.elements > 1])
    distances, _ = cKDTree(ligand.positions).query(protein.positions, distance_upper_bound=CONTACT_ANGSTROM)
    if not np.isfinite(distances).any():
        return _noting_copies(protein, ligand)
    parts = _parts(protein)
    same = distances < SAME_ATOM_ANGSTROM
    share = np.bincount(parts, weights=same) / np.bincount(parts)
    keep = ~same & (share[parts] < 0.5)
    to_heavy, _ = heavy.query(protein.positions, distance_upper_bound=CONTACT_ANGSTROM)
    to_heavy = np.where(keep & (protein.elements != 1), to_heavy, np.inf)
    lying = _lying_on(protein, parts, to_heavy)
    on_ligand = keep & (to_heavy < OVERLAP_ANGSTROM) & ~lying[parts]
    if on_ligand.any():
        i = int(np.flatnonzero(on_ligand)[0])
        raise StructureError(
            Reason.OVERLAPPING,
            path,
            got=f"atom {protein.names[i]} of {protein.residue_label(i)} {to_heavy[i]:.2f} Å from a ligand atom",
            expected=f"{OVERLAP_ANGSTROM:g} Å or more between protein and ligand",
            fix="Check that the ligand's pose belongs to this protein file.",
        )
    rest = protein.where(keep & ~lying[parts])
    dropped = _named(protein, keep & lying[parts])
    if dropped:
        rest = rest.noting(f"dropped, because it lies on the ligand: {dropped}", repairs=(CRYSTAL_LIGAND_DROPPED,))
    return _noting_copies(rest, ligand)


def apart(path: Path, protein: AtomTable) -> AtomTable:
    """`protein` without atoms that lie on each other, if it is clear which of them count.

    Raises:
        StructureError: overlapping, if it is not.
    """
    pairs = _overlapping(protein)
    if not len(pairs):
        return protein
    runs = protein.runs()
    mean = np.bincount(runs, weights=protein.occupancies) / np.bincount(runs)
    dropped: set[int] = set()
    for i, j in pairs:
        one, other = int(runs[i]), int(runs[j])
        if dropped & {one, other}:
            continue
        loser = _loser(protein, (i, j), (one, other), mean)
        if loser is None:
            raise overlapping(path, protein.positions, pairs)
        dropped.add(loser)
    gone = np.isin(runs, list(dropped))
    if not np.any(~gone):
        raise overlapping(path, protein.positions, pairs)
    note = f"dropped, because they lie on other residues and are less occupied or come later: {_named(protein, gone)}"
    return protein.where(~gone).noting(note, repairs=(OVERLAPPING_DROPPED,))


def require_apart(path: Path, atoms: Atoms) -> None:
    """Refuse a ligand with two heavy atoms at one place.

    Raises:
        StructureError: overlapping.
    """
    for elements, limit in ((atoms.elements > 0, SAME_PLACE_ANGSTROM), (atoms.elements != 1, OVERLAP_ANGSTROM)):
        positions = atoms.positions[elements]
        pairs = cKDTree(positions).query_pairs(limit, output_type="ndarray")
        if len(pairs):
            raise overlapping(path, positions, pairs)


def overlapping(path: Path, positions: NDArray[np.float64], pairs: NDArray[np.int64]) -> StructureError:
    """The error for atoms at one place."""
    x, y, z = positions[pairs[:, 0].min()]
    return StructureError(
        Reason.OVERLAPPING,
        path,
        got=f"atoms at one place (pairs: {format_count(len(pairs))}), the first at ({x:.3f}, {y:.3f}, {z:.3f})",
        expected="atoms apart from each other",
        fix="Remove the copies from the file.",
    )


def _overlapping(protein: AtomTable) -> NDArray[np.int64]:
    """(m, 2) indices of atoms at one place: heavy ones within 0.8 Å, any within 0.01 Å."""
    pairs = cKDTree(protein.positions).query_pairs(OVERLAP_ANGSTROM, output_type="ndarray")
    if not len(pairs):
        return np.asarray(pairs)
    both_heavy = (protein.elements[pairs] != 1).all(axis=1)
    apart_by = np.linalg.norm(protein.positions[pairs[:, 0]] - protein.positions[pairs[:, 1]], axis=1)
    return np.asarray(pairs[both_heavy | (apart_by <= SAME_PLACE_ANGSTROM)])


def _loser(
    protein: AtomTable, atoms: tuple[int, int], residues: tuple[int, int], mean: NDArray[np.float64]
) -> int | None:
    """Which of two overlapping residues is dropped; None if that is not clear."""
    one, other = sorted(residues)
    i, j = atoms
    if one == other:
        return None
    under_one_number = protein.numbers[i] == protein.numbers[j] and protein.chains[i] == protein.chains[j]
    partial = min(mean[one], mean[other]) < 1.0 and abs(mean[one] - mean[other]) > 1e-3
    if not under_one_number and not partial:
        return None
    return one if mean[one] < mean[other] - 1e-3 else other


def _parts(protein: AtomTable) -> NDArray[np.int64]:
    """(n,) number of each atom's part: a chain's residue, or the atoms of another residue that bonds connect."""
    runs = protein.runs()
    pairs = cKDTree(protein.positions).query_pairs(CONTACT_ANGSTROM, output_type="ndarray")
    pairs = pairs[runs[pairs[:, 0]] == runs[pairs[:, 1]]]
    n = len(protein)
    first = np.unique(runs, return_index=True)[1][runs]
    in_chain = np.flatnonzero(np.array([is_polymeric(str(name)) for name in protein.residue_names]))
    pairs = np.concatenate([pairs, np.stack([in_chain, first[in_chain]], axis=1)])
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    _, parts = connected_components(graph, directed=False)
    return np.asarray(parts, np.int64)


def _lying_on(protein: AtomTable, parts: NDArray[np.int64], to_ligand: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(parts,) whether each part is a molecule that lies on the ligand: no chain, and too near or in touch too often."""
    n_parts = int(parts.max()) + 1
    first = np.unique(parts, return_index=True)[1]
    n_touching = np.bincount(parts[np.isfinite(to_ligand)], minlength=n_parts)
    n_on = np.bincount(parts[to_ligand < OVERLAP_ANGSTROM], minlength=n_parts)
    n_heavy = np.bincount(parts[protein.elements != 1], minlength=n_parts)  # of a chain's residue, half must lie on it
    polymeric = np.array(
        [n_touching[k] > 0 and is_polymeric(str(protein.residue_names[i])) for k, i in enumerate(first)], np.bool_
    )
    return np.where(polymeric, 2 * n_on >= np.maximum(n_heavy, 1), (n_on > 0) | (n_touching >= _LEAST_CONTACTS))


def _noting_copies(protein: AtomTable, ligand: Atoms) -> AtomTable:
    """A note if another molecule near the ligand has its formula: it may be the crystal pose of a docked ligand."""
    formula = Counter(ligand.elements[ligand.elements > 1].tolist())
    if formula.total() < 6 or not len(protein):
        return protein
    runs = protein.runs()
    first, counts = np.unique(runs, return_index=True, return_counts=True)[1:]
    for run, (start, count) in enumerate(zip(first, counts, strict=True)):
        if count < formula.total():
            continue
        inside = runs == run
        elements = protein.elements[inside]
        if Counter(elements[elements > 1].tolist()) != formula:
            continue
        distances, _ = cKDTree(ligand.positions).query(protein.positions[inside])
        if distances.min() < COPY_ANGSTROM:
            return protein.noting(f"{protein.residue_label(start)} has the ligand's formula and stays in the protein")
    return protein


def _named(protein: AtomTable, marked: NDArray[np.bool_]) -> str:
    """The residues of the marked atoms with their counts, a few of them by name."""
    counts = Counter(protein.residue_label(i) for i in np.flatnonzero(marked).tolist())
    shown = ", ".join(f"{name} ({n} atoms)" for name, n in counts.most_common(3))
    return shown + (f" and {len(counts) - 3} more" if len(counts) > 3 else "")
