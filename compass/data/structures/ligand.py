"""The ligand side of a complex: SDF and MOL2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from compass.data.structures.mol2_file import mol2_records, read_mol2_record
from compass.data.structures.molecule_file import MoleculeFault
from compass.data.structures.sdf_file import read_sdf_record, sdf_records
from compass.data.structures.structure_file import (
    Atoms,
    Reason,
    StructureError,
    read_text,
    require_finite,
    require_room,
)
from compass.units import format_count

if TYPE_CHECKING:
    from pathlib import Path

LIGAND_FORMATS = {".sdf": "sdf", ".sd": "sdf", ".mol": "sdf", ".mol2": "mol2"}
"""Extensions that are read, each also with `.gz`."""
LIGAND_FILE = "an SDF or MOL2 file"
_MOST_LOOKED_AT = 1_000
"""Records that may be empty or flat before the one that is read."""


def read_ligand(path: Path) -> Atoms:
    """The atoms of the first record.

    Records without atoms and flat drawings before it are passed over with a note. A record that cannot be read never gives
    way to the next: that is another pose, or another molecule.

    Raises:
        StructureError: the file's own faults, no_ligand if no record has atoms, no_3d if none has three-dimensional
            coordinates, truncated or unreadable if the record cannot be read.
    """
    return _first_usable(path)[0]


def read_molecule(path: Path) -> Any:
    """The same record as an RDKit molecule with its hydrogens.

    Nothing is sanitised, because a misplaced charge must not cost a measured complex. RDKit's own messages are silenced.

    Raises:
        StructureError: as `read_ligand`, and unreadable if RDKit refuses the record.
    """
    from rdkit import Chem, rdBase

    _, (kind, record) = _first_usable(path)
    with rdBase.BlockLogs():
        if kind == "sdf":
            # Not strict: an unknown symbol becomes element 0.
            molecule = Chem.MolFromMolBlock(record, sanitize=False, removeHs=False, strictParsing=False)
        else:
            block = f"@<TRIPOS>MOLECULE{record}"
            # RDKit refuses some atom types in unusual places, although elements and positions are clear.
            molecule = Chem.MolFromMol2Block(block, sanitize=False, removeHs=False) or Chem.MolFromMol2Block(
                block, sanitize=False, removeHs=False, cleanupSubstructures=False
            )
    if molecule is None:
        raise _unreadable(path, "no molecule that RDKit can read")
    return molecule


def _first_usable(path: Path) -> tuple[Atoms, tuple[str, str]]:
    """(atoms of the record with notes, (format, its text))."""
    kind, text = read_text(path, LIGAND_FORMATS, what=LIGAND_FILE)
    records = sdf_records(text) if kind == "sdf" else mol2_records(text)
    if not records:
        raise _unreadable(path, "no molecule")
    n_with_atoms = 0
    for number, record in enumerate(records[:_MOST_LOOKED_AT]):
        try:
            molecule = read_sdf_record(record) if kind == "sdf" else read_mol2_record(record)
        except MoleculeFault as fault:
            if fault.truncated:
                raise StructureError(
                    Reason.TRUNCATED, path, got=str(fault), expected="a complete file", fix="Fetch the file again."
                ) from None
            raise _unreadable(path, str(fault)) from None
        n_with_atoms += len(molecule.elements) > 0
        if len(molecule.elements) and _has_3d(molecule.positions):
            require_finite(path, molecule.positions)
            require_room(path, molecule.positions)
            residues = np.zeros(len(molecule.elements), np.int64)
            notes = (*molecule.notes, *_on_records(path, number, len(records)))
            return Atoms(molecule.elements, molecule.positions, residues, notes), (kind, record)
    raise _nothing_usable(path, n_with_atoms=n_with_atoms)


def _on_records(path: Path, number: int, n_records: int) -> tuple[str, ...]:
    """Notes on records that were not read."""
    if n_records == 1:
        return ()
    before = f", after {format_count(number)} without atoms or three-dimensional coordinates" if number else ""
    return (f"{path.name}: record {number + 1} of {format_count(n_records)} is read{before}",)


def _has_3d(positions: np.ndarray) -> bool:
    """Whether the atoms do not all lie in the drawing plane; a single atom always passes."""
    heights = positions[:, 2]
    return len(heights) == 1 or bool(np.any(heights != 0.0))


def _nothing_usable(path: Path, *, n_with_atoms: int) -> StructureError:
    if n_with_atoms:
        return StructureError(
            Reason.NO_3D,
            path,
            got="a ligand without three-dimensional coordinates (every z is 0)",
            expected="the pose bound to the protein",
            fix="Give the docked or crystal pose, not a drawing.",
        )
    return StructureError(
        Reason.NO_LIGAND, path, got="a molecule without atoms", expected="a ligand", fix="Export the ligand again."
    )


def _unreadable(path: Path, got: str) -> StructureError:
    return StructureError(Reason.UNREADABLE, path, got=got, expected=LIGAND_FILE, fix="Fetch or export the file again.")
