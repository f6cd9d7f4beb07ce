"""A protein–ligand complex as elements and positions: all a geometric network sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from compass.data.structures.complexes import Complex
from compass.data.structures.ligand import read_ligand
from compass.data.structures.protein import read_protein
from compass.data.structures.structure_file import Atoms, Reason, StructureError
from compass.units import format_count

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from compass.optimizer_config import StructureRules

SAME_ATOM_ANGSTROM = 0.2
"""No two atoms come this near (the shortest bond, in H₂, is 0.74 Å): nearer means one atom, written in both files."""
OVERLAP_ANGSTROM = 0.01
"""Ten times the last digit of a PDB coordinate. A direction between atoms at one place is 0/0 to a network."""


def read_complex(
    name: str, protein: Path, ligand: Path, *, pocket_radius: float | None, max_atoms: int, rules: StructureRules
) -> Complex:
    """Reads a complex, cleans it as `rules` say and cuts the pocket out.

    The pocket is cut atom by atom, not by whole residues: a graph needs no whole residues, and so its size grows
    smoothly with the radius.

    The ligand often stands in the protein file too. A protein-file atom within 0.2 Å of a ligand atom is that atom
    and is dropped; where these are at least half of a residue, the whole residue is (what is left of it are the
    ligand's hydrogens or alternates).

    Args:
        name: what the complex is called in logs.
        protein: PDB or mmCIF file, plain or gzipped.
        ligand: SDF or MOL2 file, plain or gzipped; the first usable record counts.
        pocket_radius: Å around any heavy ligand atom within which protein atoms are kept; None keeps all.
        max_atoms: a complex with more atoms, after cutting, is refused.
        rules: what becomes of waters, metals, hydrogens and the like.

    Raises:
        StructureError: one of the files or the complex cannot be used; `reason` says why.
    """
    ligand_atoms = _clean(ligand, read_ligand(ligand), rules)
    if not np.any(ligand_atoms.elements > 1):
        raise StructureError(
            Reason.NO_LIGAND, ligand,
            got="no heavy atom", expected="a ligand with at least one", fix="Export the ligand again.",
        )  # fmt: skip
    protein_atoms = _clean(protein, read_protein(protein, rules), rules)
    protein_atoms = _without_the_ligand(protein_atoms, ligand_atoms)
    if not len(protein_atoms):
        raise StructureError(
            Reason.NO_ATOMS, protein,
            got="no atoms beside the ligand's and hydrogens", expected="at least one protein atom",
            fix="Check that the file holds the protein.",
        )  # fmt: skip
    if pocket_radius is not None:
        protein_atoms = _pocket(protein, protein_atoms, ligand_atoms, pocket_radius)
    n_atoms = len(protein_atoms) + len(ligand_atoms)
    if n_atoms > max_atoms:
        raise StructureError(
            Reason.TOO_MANY_ATOMS, protein,
            got=f"{format_count(n_atoms)} atoms", expected=f"at most max_atoms = {format_count(max_atoms)}",
            fix="Raise max_atoms, or set a smaller pocket_radius.",
        )  # fmt: skip
    _require_apart(protein, protein_atoms.positions)
    _require_apart(ligand, ligand_atoms.positions)
    return Complex(
        name=name,
        elements=np.concatenate([protein_atoms.elements, ligand_atoms.elements]),
        positions=np.concatenate([protein_atoms.positions, ligand_atoms.positions]).astype(np.float32),
        is_ligand=np.arange(n_atoms) >= len(protein_atoms),
    )


def _clean(path: Path, atoms: Atoms, rules: StructureRules) -> Atoms:
    """Without hydrogens (deuterium is one) and unknown elements, as the rules say."""
    unknown = atoms.elements == 0
    if unknown.any():
        if rules.unknown_elements == "refuse":
            first = int(np.flatnonzero(unknown)[0])
            x, y, z = atoms.positions[first]
            raise StructureError(
                Reason.UNKNOWN_ELEMENT, path,
                got=f"an unknown element at ({x:.3f}, {y:.3f}, {z:.3f})", expected="a chemical element for every atom",
                fix="Correct the file, or set structures.unknown_elements to drop or as_carbon.",
            )  # fmt: skip
        if rules.unknown_elements == "drop":
            atoms = atoms.where(~unknown)
        else:
            atoms = Atoms(np.where(unknown, 6, atoms.elements), atoms.positions, atoms.residues)
    if rules.hydrogens == "drop":
        atoms = atoms.where(atoms.elements != 1)
    return atoms


def _without_the_ligand(protein: Atoms, ligand: Atoms) -> Atoms:
    distances, _ = cKDTree(ligand.positions).query(protein.positions, distance_upper_bound=SAME_ATOM_ANGSTROM)
    same = np.isfinite(distances)
    if not same.any():
        return protein
    _, residue = np.unique(protein.residues, return_inverse=True)
    share = np.bincount(residue, weights=same) / np.bincount(residue)
    return protein.where(~same & (share[residue] < 0.5))


def _pocket(path: Path, protein: Atoms, ligand: Atoms, radius: float) -> Atoms:
    heavy = ligand.positions[ligand.elements > 1]
    distances, _ = cKDTree(heavy).query(protein.positions)
    near = distances <= radius
    if not near.any():
        raise StructureError(
            Reason.EMPTY_POCKET, path,
            got=f"no atom within {radius:g} Å of the ligand (the nearest is {distances.min():.1f} Å away)",
            expected="a protein around its ligand",
            fix="Check that both files are in one coordinate frame, or raise pocket_radius.",
        )  # fmt: skip
    return protein.where(near)


def _require_apart(path: Path, positions: NDArray[np.float64]) -> None:
    pairs = cKDTree(positions).query_pairs(OVERLAP_ANGSTROM, output_type="ndarray")
    if len(pairs):
        x, y, z = positions[pairs[:, 0].min()]
        raise StructureError(
            Reason.OVERLAPPING, path,
            got=f"atoms at one place (pairs: {format_count(len(pairs))}), the first at ({x:.3f}, {y:.3f}, {z:.3f})",
            expected="atoms apart from each other", fix="Remove the copies from the file.",
        )  # fmt: skip
