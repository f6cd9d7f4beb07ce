"""A protein–ligand complex as elements and positions, the input of a geometric network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from scipy.spatial import cKDTree

from compass.data.structures.complexes import Complex
from compass.data.structures.elements import MOST_CONTRADICTIONS, TOO_CLOSE_ANGSTROM, may_contradict, too_close
from compass.data.structures.ligand import read_ligand
from compass.data.structures.overlaps import SAME_PLACE_ANGSTROM, apart, overlapping, require_apart, without_the_ligand
from compass.data.structures.protein import read_protein
from compass.data.structures.structure_file import Atoms, Reason, StructureError
from compass.units import format_count

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from compass.data.structures.atom_table import AtomTable
    from compass.optimizer_config import StructureRules


def read_complex(
    name: str, protein: Path, ligand: Path, *, pocket_radius: float | None, max_atoms: int, rules: StructureRules
) -> Complex:
    """Read a complex, clean it by `rules` and cut the pocket out.

    The pocket is cut atom by atom, not by whole residues: a graph needs no whole residues, and so its size grows
    smoothly with the radius. Atoms outside the pocket decide nothing: an unknown element there is no fault.

    Args:
        name: id of the complex.
        protein: PDB or mmCIF file, plain or gzipped.
        ligand: SDF or MOL2 file, plain or gzipped; the first record counts.
        pocket_radius: Å around any heavy ligand atom within which protein atoms are kept; None keeps all.
        max_atoms: a complex with more atoms, after cutting, is refused.
        rules: what becomes of waters, metals, hydrogens and the like.

    Raises:
        StructureError: one of the files or the complex cannot be used; `reason` says why.
    """
    ligand_atoms = _known(ligand, read_ligand(ligand), rules)
    heavy = ligand_atoms.positions[ligand_atoms.elements > 1]
    if not len(heavy):
        raise StructureError(
            Reason.NO_LIGAND,
            ligand,
            got="no heavy atom",
            expected="a ligand with at least one",
            fix="Export the ligand again.",
        )
    near = None if pocket_radius is None else (heavy, pocket_radius)
    table = _around(protein, ligand_atoms, near, rules)
    n_atoms = len(table) + len(ligand_atoms)
    if n_atoms > max_atoms:
        raise StructureError(
            Reason.TOO_MANY_ATOMS,
            protein,
            got=f"{format_count(n_atoms)} atoms",
            expected=f"at most max_atoms = {format_count(max_atoms)}",
            fix="Raise max_atoms, or set a smaller pocket_radius.",
        )
    require_apart(ligand, ligand_atoms)
    on_elements = _contradictions(ligand, ligand_atoms.elements, ligand_atoms.positions)
    return Complex(
        name=name,
        elements=np.concatenate([table.elements, ligand_atoms.elements]),
        positions=np.concatenate([table.positions, ligand_atoms.positions]).astype(np.float32),
        is_ligand=np.arange(n_atoms) >= len(table),
        repairs=table.repairs,
        notes=(*table.notes, *ligand_atoms.notes, *(f"{ligand.name}: {note}" for note in on_elements)),
    )


def _around(
    path: Path, ligand: Atoms, near: tuple[NDArray[np.float64], float] | None, rules: StructureRules
) -> AtomTable:
    """The protein's atoms without the ligand, cleaned, cut to `near` (positions, radius) and checked."""
    table = without_the_ligand(path, read_protein(path, rules, near=near), ligand)
    if rules.hydrogens == "drop":
        table = table.where(table.elements != 1)
    if near is not None:
        table = _pocket(path, table, near, rules)
    table = _known_in_table(path, table, rules)
    if not len(table):
        raise _no_atoms(path)
    return _checked(path, table, rules)


def _known(path: Path, atoms: Atoms, rules: StructureRules) -> Atoms:
    """The ligand without hydrogens (deuterium is one) and unknown elements, as the rules say."""
    unknown = atoms.elements == 0
    if unknown.any():
        elements = _decided(path, atoms.elements, atoms.positions, rules)
        atoms = Atoms(elements, atoms.positions, atoms.residues, atoms.notes).where(elements != 0)
    return atoms.where(atoms.elements != 1) if rules.hydrogens == "drop" else atoms


def _known_in_table(path: Path, table: AtomTable, rules: StructureRules) -> AtomTable:
    if (table.elements != 0).all():
        return table
    elements = _decided(path, table.elements, table.positions, rules)
    return replace(table, elements=elements).where(elements != 0)


def _decided(
    path: Path, elements: NDArray[np.int64], positions: NDArray[np.float64], rules: StructureRules
) -> NDArray[np.int64]:
    """The elements with the unknown ones (0) left or made carbon, as the rules say.

    Raises:
        StructureError: unknown_element, if the rules refuse them.
    """
    unknown = elements == 0
    if rules.unknown_elements == "refuse":
        x, y, z = positions[int(np.flatnonzero(unknown)[0])]
        raise StructureError(
            Reason.UNKNOWN_ELEMENT,
            path,
            got=f"an unknown element at ({x:.3f}, {y:.3f}, {z:.3f})",
            expected="a chemical element for every atom",
            fix="Correct the file, or set structures.unknown_elements to drop or as_carbon.",
        )
    return elements if rules.unknown_elements == "drop" else np.where(unknown, 6, elements)


def _pocket(path: Path, table: AtomTable, near: tuple[NDArray[np.float64], float], rules: StructureRules) -> AtomTable:
    points, radius = near
    if not len(table):
        table = read_protein(path, rules)  # the protein may lie further away, or not be there
        if rules.hydrogens == "drop":
            table = table.where(table.elements != 1)
        inside, _ = cKDTree(table.positions).query(points)
        if len(table) <= len(points) and np.all(inside < SAME_PLACE_ANGSTROM * 20):
            raise _no_atoms(path)
    if not len(table):
        raise _no_atoms(path)
    distances, _ = cKDTree(points).query(table.positions)
    within = distances <= radius
    if not within.any():
        raise StructureError(
            Reason.EMPTY_POCKET,
            path,
            got=f"no atom within {radius:g} Å of the ligand (the nearest is {distances.min():.1f} Å away)",
            expected="a protein around its ligand",
            fix="Check that both files are in one coordinate frame, or raise pocket_radius.",
        )
    return table.where(within)


def _no_atoms(path: Path) -> StructureError:
    return StructureError(
        Reason.NO_ATOMS,
        path,
        got="no atoms beside the ligand's and hydrogens",
        expected="at least one protein atom",
        fix="Check that the file holds the protein.",
    )


def _checked(path: Path, table: AtomTable, rules: StructureRules) -> AtomTable:
    """`table` with one atom at one place and with elements that agree with their neighbours.

    Raises:
        StructureError: overlapping, or unknown_element if several elements contradict chemistry.
    """
    if rules.alternates == "all" or rules.models == "all":
        pairs = cKDTree(table.positions).query_pairs(SAME_PLACE_ANGSTROM, output_type="ndarray")
        if len(pairs):
            raise overlapping(path, table.positions, pairs)
    else:
        table = apart(path, table)
    return table.noting(*_contradictions(path, table.elements, table.positions))


def _contradictions(path: Path, elements: NDArray[np.int64], positions: NDArray[np.float64]) -> tuple[str, ...]:
    """A note on atoms whose elements contradict their neighbours.

    Raises:
        StructureError: unknown_element, if there are more of them than in real structures.
    """
    if not may_contradict(elements):
        return ()
    n_odd = too_close(elements, cKDTree(positions).query_pairs(TOO_CLOSE_ANGSTROM, output_type="ndarray"))
    if n_odd > MOST_CONTRADICTIONS:
        raise StructureError(
            Reason.UNKNOWN_ELEMENT,
            path,
            got=f"{format_count(n_odd)} atoms of metals or noble gases bonded like carbon",
            expected="elements that can be right",
            fix="Correct the elements (in a PDB file they stand in columns 77 and 78), or convert the file again.",
        )
    return (f"{n_odd} atoms lie closer to their neighbours than their elements allow",) if n_odd else ()
