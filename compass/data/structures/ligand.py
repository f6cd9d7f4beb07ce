"""The ligand side of a complex: SDF and MOL2 through RDKit."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from rdkit import Chem, rdBase

from compass.data.structures.structure_file import Atoms, Reason, StructureError, read_text, require_finite, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LIGAND_FORMATS = {".sdf": "sdf", ".sd": "sdf", ".mol": "sdf", ".mol2": "mol2"}
"""Extensions that are read, each also with `.gz`."""
LIGAND_FILE = "an SDF or MOL2 file"

_END_OF_RECORD = re.compile(r"^\$\$\$\$.*\n?", re.MULTILINE)
_START_OF_MOLECULE = "@<TRIPOS>MOLECULE"


def read_ligand(path: Path) -> Atoms:
    """The atoms of the first record that can be read and has three-dimensional coordinates.

    Raises:
        StructureError: see `read_molecule`.
    """
    molecule = read_molecule(path)
    elements = np.array([atom.GetAtomicNum() for atom in molecule.GetAtoms()], np.int64)
    positions = np.array(molecule.GetConformer().GetPositions(), np.float64)
    require_finite(path, positions)
    return Atoms(elements, positions, np.zeros(len(elements), np.int64))


def read_molecule(path: Path) -> Any:
    """The first record that can be read and has three-dimensional coordinates, as an RDKit molecule with its hydrogens.

    Nothing is sanitised, because only elements and coordinates are needed: a misplaced charge must not cost a measured
    complex. RDKit's own messages are silenced; the error holds the essentials.

    Raises:
        StructureError: the file's own faults, no_ligand if no record has atoms, no_3d if none has three-dimensional
            coordinates, truncated or unreadable if none could be read.
    """
    kind, text = read_text(path, LIGAND_FORMATS, what=LIGAND_FILE)
    n_read, n_with_atoms = 0, 0
    with rdBase.BlockLogs():
        for molecule in _molecules(kind, text):
            if molecule is None:
                continue
            n_read += 1
            if molecule.GetNumAtoms() == 0:
                continue
            n_with_atoms += 1
            if _has_3d(molecule):
                return molecule
    raise _nothing_usable(path, kind, text, n_read=n_read, n_with_atoms=n_with_atoms)


def _molecules(kind: str, text: str) -> Iterator[Any]:
    """RDKit molecules record by record, None where a record cannot be read."""
    if kind == "sdf":
        for record in _END_OF_RECORD.split(text):
            if record.strip():
                # Not strict: an unknown symbol becomes element 0, and the structure rules decide about it.
                yield Chem.MolFromMolBlock(record, sanitize=False, removeHs=False, strictParsing=False)
        return
    for record in text.split(_START_OF_MOLECULE)[1:]:
        block = _START_OF_MOLECULE + record
        molecule = Chem.MolFromMol2Block(block, sanitize=False, removeHs=False)
        # RDKit refuses some atom types in unusual places, although elements and positions are clear.
        yield molecule or Chem.MolFromMol2Block(block, sanitize=False, removeHs=False, cleanupSubstructures=False)


def _has_3d(molecule: Any) -> bool:
    """Whether there are coordinates that do not all lie in the drawing plane; a single atom always passes."""
    if molecule.GetNumConformers() == 0:
        return False
    heights = molecule.GetConformer().GetPositions()[:, 2]
    return len(heights) == 1 or bool(np.any(heights != 0.0))


def _nothing_usable(path: Path, kind: str, text: str, *, n_read: int, n_with_atoms: int) -> StructureError:
    if n_with_atoms:
        return StructureError(
            Reason.NO_3D, path,
            got="a ligand without three-dimensional coordinates (every z is 0)",
            expected="the pose bound to the protein",
            fix="Give the docked or crystal pose, not a drawing.",
        )  # fmt: skip
    if n_read:
        return StructureError(
            Reason.NO_LIGAND, path,
            got="a molecule without atoms", expected="a ligand", fix="Export the ligand again."
        )  # fmt: skip
    ending = "M  END" if kind == "sdf" else "@<TRIPOS>BOND"
    if ending not in text and (kind == "sdf" or _START_OF_MOLECULE in text):
        return StructureError(
            Reason.TRUNCATED, path,
            got=f"a molecule that ends before its {ending!r}", expected="a complete file",
            fix="Fetch the file again.",
        )  # fmt: skip
    return unreadable(path, why="no molecule that RDKit can read", expected=LIGAND_FILE)
