"""The protein side of a complex: PDB and mmCIF through gemmi, cleaned as `StructureRules` says."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from compass.data.structures.structure_file import Atoms, Reason, StructureError, read_text, require_finite, unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from compass.optimizer_config import StructureRules

PROTEIN_FORMATS = {".pdb": "pdb", ".ent": "pdb", ".cif": "mmcif", ".mmcif": "mmcif"}
"""Extensions that are read, each also with `.gz`."""
PROTEIN_FILE = "a PDB or mmCIF file"
NOT_NEEDED = ("ANISOU", "SIGATM", "SIGUIJ")
"""Records that belong to an atom and hold no position."""


def read_protein(path: Path, rules: StructureRules) -> Atoms:
    """The atoms of a protein file that `rules` keep; hydrogens and unknown elements are left to the caller.

    Polymer residues, modified ones included, always stay. Of the rest, a residue with a single heavy atom is a water
    if that is an oxygen (under whatever name a simulation package gave it) and a metal if it is one; everything else
    (NADPH, sugars, chloride …) counts as a cofactor. Zero occupancy is no reason to leave an atom out. The same atom
    written twice at the same place, as alternates and models often do, counts once.

    Raises:
        StructureError: the file's own faults, or no_atoms if nothing was read or nothing is left.
    """
    kind, text = read_text(path, PROTEIN_FORMATS, what=PROTEIN_FILE)
    structure = _parse_pdb(path, text) if kind == "pdb" else _parse_mmcif(path, text)
    structure.setup_entities()
    if not any(len(chain) for model in structure for chain in model):
        raise StructureError(
            Reason.NO_ATOMS, path,
            got="no atoms", expected="atom records with coordinates",
            fix=f"Check that the file is {'in PDB' if kind == 'pdb' else 'in mmCIF'} format, as its name says.",
        )  # fmt: skip
    elements: list[int] = []
    positions: list[tuple[float, float, float]] = []
    residues: list[int] = []
    seen: set[tuple[str, str, str, str, float, float, float]] = set()
    for number, (chain, residue, atom) in _kept_atoms(structure, rules):
        x, y, z = atom.pos.tolist()
        site = (chain, str(residue.seqid), residue.name, atom.name, round(x, 2), round(y, 2), round(z, 2))
        if site in seen:
            continue
        seen.add(site)
        elements.append(atom.element.atomic_number)
        positions.append((x, y, z))
        residues.append(number)
    if not elements:
        raise StructureError(
            Reason.NO_ATOMS, path,
            got="no atoms after waters, metals and cofactors were dropped", expected="at least one protein atom",
            fix="Check that the file holds the protein, or keep more in structures.waters, .metals or .cofactors.",
        )  # fmt: skip
    atoms = Atoms(np.array(elements, np.int64), np.array(positions, np.float64), np.array(residues, np.int64))
    require_finite(path, atoms.positions)
    return atoms


def _parse_pdb(path: Path, text: str) -> gemmi.Structure:
    # gemmi reads a damaged number as zero, which would put the atom at the origin without a word.
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.startswith(("ATOM  ", "HETATM")):
            continue
        if len(line) < 54:
            raise StructureError(
                Reason.TRUNCATED, path,
                got=f"line {number} cut short at column {len(line)}", expected="coordinates in columns 31 to 54",
                fix="Fetch the file again.",
            )  # fmt: skip
        try:
            float(line[30:38]), float(line[38:46]), float(line[46:54])
        except ValueError:
            raise unreadable(
                path, why=f"{line[30:54].strip()!r} in line {number}", expected="coordinates in columns 31 to 54"
            ) from None
    # Such a record without its atom, which some tool removed, makes gemmi refuse the file.
    kept = [line for line in text.splitlines() if not line.startswith(NOT_NEEDED)]
    try:
        return gemmi.read_pdb_string("\n".join([*kept, ""]))
    except (RuntimeError, ValueError) as error:
        raise unreadable(path, why=error, expected="PDB records") from None


def _parse_mmcif(path: Path, text: str) -> gemmi.Structure:
    try:
        document = gemmi.cif.read_string(text)
        with_atoms = [block for block in document if block.find_loop("_atom_site.id")]
        return gemmi.make_structure_from_block(with_atoms[0]) if with_atoms else gemmi.Structure()
    except (RuntimeError, ValueError) as error:
        # A file cut inside its atom table shows itself by a row with too few values.
        cut = "Wrong number of values in loop" in str(error)
        if not cut:
            raise unreadable(path, why=error, expected="mmCIF categories") from None
        raise StructureError(
            Reason.TRUNCATED, path,
            got="a table that ends within a row", expected="a complete file", fix="Fetch the file again.",
        ) from None  # fmt: skip


def _kept_atoms(
    structure: gemmi.Structure, rules: StructureRules
) -> Iterator[tuple[int, tuple[str, gemmi.Residue, gemmi.Atom]]]:
    """(residue number, (chain, residue, atom)) of everything the rules keep."""
    models = list(structure)[:1] if rules.models == "first" else list(structure)
    number = 0
    for model in models:
        for chain in model:
            # Two residues under one number are alternates of each other (microheterogeneity): chosen together.
            for _, group in groupby(chain, key=lambda residue: str(residue.seqid)):
                residues = list(group)
                label = _chosen_alternate(residues, rules)
                for residue in residues:
                    number += 1
                    if _is_kept(residue, rules):
                        for atom in _one_conformer(residue, label):
                            yield number, (chain.name, residue, atom)


def _is_kept(residue: gemmi.Residue, rules: StructureRules) -> bool:
    if residue.is_water():
        return rules.waters == "keep"
    if residue.entity_type == gemmi.EntityType.Polymer:
        return True
    listed = gemmi.find_tabulated_residue(residue.name)
    if residue.het_flag == "A" and (listed.is_amino_acid() or listed.is_nucleic_acid()):
        return True  # pocket files hold scraps of a chain, too short for gemmi to call a polymer
    heavy = {atom.name: atom.element for atom in residue if not atom.is_hydrogen()}
    if len(heavy) == 1:
        (element,) = heavy.values()
        if element.atomic_number == 8:
            return rules.waters == "keep"
        if element.is_metal:
            return rules.metals == "keep"
    return rules.cofactors == "keep"


def _chosen_alternate(residues: list[gemmi.Residue], rules: StructureRules) -> str | None:
    """The alternate label to take for residues under one number; None where there is no choice to make.

    One label for the whole residue: atom by atom, a side chain could come out half of one conformer, half of another.
    """
    occupancies: dict[str, list[float]] = defaultdict(list)
    for residue in residues:
        for atom in residue:
            if atom.has_altloc():
                occupancies[atom.altloc].append(atom.occ)
    if not occupancies or rules.alternates == "all":
        return None
    if rules.alternates == "first":
        return min(occupancies)
    means = {label: sum(values) / len(values) for label, values in occupancies.items()}
    return min(means, key=lambda label: (-round(means[label], 3), label))


def _one_conformer(residue: gemmi.Residue, label: str | None) -> list[gemmi.Atom]:
    """The atoms of the alternate `label`; an atom that lacks it comes from its own most occupied alternate."""
    if label is None:
        return list(residue)
    kept = [atom for atom in residue if not atom.has_altloc() or atom.altloc == label]
    if not kept:
        return []  # the other residue under this number was chosen
    named = {atom.name for atom in kept}
    others: dict[str, list[gemmi.Atom]] = defaultdict(list)
    for atom in residue:
        if atom.name not in named:
            others[atom.name].append(atom)
    return kept + [min(atoms, key=lambda atom: (-atom.occ, atom.altloc)) for atoms in others.values()]
