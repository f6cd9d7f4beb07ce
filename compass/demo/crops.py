"""Complexes cut out of the embedded structure: a few residues of a chain as the ligand, the residues around them as the protein.

The geometry is real, and so is the spread of sizes; the label is synthetic. Nothing is drawn at random.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from compass.data.graphs.bench import EMBEDDED_LIGAND, EMBEDDED_PROTEIN

Floats = NDArray[np.float64]

CHAIN = "A"
"""The chain that ligands are cut out of. The other one is its copy, and would put near duplicates into training and test."""
STRIDE = 3
"""Residues from the start of one ligand to the next: no residue is in two ligands."""
LENGTHS = (2, 3)
"""Residues of a ligand, by turns."""
RADII_ANGSTROM = tuple(np.arange(5.0, 10.5, 0.5))
"""Whole residues that come nearer than this to the ligand are the protein, by turns: sizes differ by a factor of five."""
SITE_ANGSTROM = 12.0
"""The same for the complex with the entry's own ligand."""
PEPTIDE_BOND_ANGSTROM = 2.0
"""A longer way from C to the next N is a gap in the chain."""
REACH_ANGSTROM = 4.5
"""Contacts that the label counts."""
STRENGTH = {("N", "O"): 1.0, ("C", "C"): 0.35, ("N", "N"): 0.2, ("O", "O"): -0.6, ("C", "N"): 0.1, ("C", "O"): 0.0}
"""Of a contact, by the elements: polar pairs and carbons attract, oxygens repel."""
MEAN_PK, SPREAD_PK = 6.4, 1.5
"""Mean and standard deviation of the labels, about those of PDBbind."""


@dataclass(frozen=True)
class CutComplex:
    """One complex, as the text of its two files."""

    name: str
    protein: str
    """Text of a PDB file: the residues around the ligand."""
    ligand: str
    """Text of an SDF file: the residues that stand for the ligand."""
    residues: str
    """What the ligand is, such as `ALA-LYS`."""
    pk: float
    """The synthetic label."""


@dataclass(frozen=True)
class _Residue:
    """The heavy atoms of a residue, line by line."""

    name: str
    chain: str
    number: int
    is_polymer: bool
    lines: tuple[str, ...]
    elements: NDArray[np.str_]
    positions: Floats
    """(n, 3) Å."""

    def atom(self, name: str) -> Floats:
        """(k, 3) Å of the atoms with this name; k is 0 or 1."""
        return self.positions[[line[12:16].strip() == name for line in self.lines]]


def cut_crops() -> tuple[CutComplex, ...]:
    """The entry's own complex first, then one crop for every third residue of the chain, in the order of the chain."""
    residues = list(_residues(gzip.decompress(EMBEDDED_PROTEIN.read_bytes()).decode()))
    sdf = EMBEDDED_LIGAND.read_text(encoding="utf-8")
    own = _own_atoms(sdf)
    site = _near(residues, own[1], SITE_ANGSTROM)
    cut = [("1ia1", "TQ3", sdf, site, contact_energy(own, _atoms(site)))]
    chain = [residue for residue in residues if residue.is_polymer and residue.chain == CHAIN]
    for turn, start in enumerate(range(0, len(chain) - STRIDE + 1, STRIDE)):
        ligand = _unbroken(chain[start : start + LENGTHS[turn % len(LENGTHS)]])
        rest = [residue for residue in residues if residue not in ligand]
        protein = _near(rest, _atoms(ligand)[1], float(RADII_ANGSTROM[turn % len(RADII_ANGSTROM)]))
        names = "-".join(residue.name for residue in ligand)
        energy = contact_energy(_atoms(ligand), _atoms(protein))
        cut.append((f"1ia1-a{ligand[0].number:03d}", names, _sdf(ligand, names), protein, energy))
    energies = np.array([energy for *_, energy in cut])
    labels = MEAN_PK + SPREAD_PK * (energies - energies.mean()) / energies.std()
    return tuple(
        CutComplex(name, _pdb(protein), ligand, names, round(float(label), 2))
        for (name, names, ligand, protein, _), label in zip(cut, labels, strict=True)
    )


def contact_energy(ligand: tuple[NDArray[np.str_], Floats], protein: tuple[NDArray[np.str_], Floats]) -> float:
    """Contacts per ligand atom, weighted by elements and distance: a label that the geometry decides.

    Args:
        ligand: (elements (n,), positions (n, 3) Å).
        protein: the same of the m atoms around it.
    """
    energy = 0.0
    for element, position in zip(*ligand, strict=True):
        away = np.linalg.norm(protein[1] - position, axis=1)
        strength = np.array([STRENGTH.get(_pair(element, other), 0.0) for other in protein[0]])
        energy += float((strength * np.exp(-np.square(np.maximum(away - 2.8, 0.0))) * (away <= REACH_ANGSTROM)).sum())
    return energy / len(ligand[0])


def _pair(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one <= other else (other, one)


def _residues(text: str) -> Iterator[_Residue]:
    atoms = [line for line in text.splitlines() if line.startswith(("ATOM", "HETATM"))]
    heavy = (line for line in atoms if line[76:78].strip() != "H")
    for _, same in groupby(heavy, key=lambda line: line[17:27]):
        lines = tuple(same)
        yield _Residue(
            name=lines[0][17:20].strip(),
            chain=lines[0][21],
            number=int(lines[0][22:26]),
            is_polymer=lines[0].startswith("ATOM"),
            lines=lines,
            elements=np.array([line[76:78].strip() for line in lines]),
            positions=np.array([[float(line[at : at + 8]) for at in (30, 38, 46)] for line in lines]),
        )


def _unbroken(residues: list[_Residue]) -> list[_Residue]:
    """`residues` up to the first gap in the chain."""
    for place, (one, following) in enumerate(pairwise(residues), start=1):
        if np.linalg.norm(one.atom("C") - following.atom("N")) > PEPTIDE_BOND_ANGSTROM:
            return residues[:place]
    return residues


def _atoms(residues: list[_Residue]) -> tuple[NDArray[np.str_], Floats]:
    return (
        np.concatenate([residue.elements for residue in residues]),
        np.concatenate([residue.positions for residue in residues]),
    )


def _near(residues: list[_Residue], positions: Floats, radius: float) -> list[_Residue]:
    """The residues with an atom within `radius` Å of one of `positions` (n, 3)."""
    return [
        residue
        for residue in residues
        if np.linalg.norm(residue.positions[:, None] - positions, axis=2).min() <= radius
    ]


def _pdb(residues: list[_Residue]) -> str:
    return "\n".join([*(line for residue in residues for line in residue.lines), "END", ""])


def _sdf(residues: list[_Residue], title: str) -> str:
    """The residues as a molecule with bonds, cut at its ends: the first N has lost a bond, and so has the last C."""
    from rdkit import Chem, rdBase

    with rdBase.BlockLogs():
        molecule = Chem.MolFromPDBBlock(_pdb(residues))
        molecule.SetProp("_Name", title)
        return str(Chem.MolToMolBlock(molecule)) + "$$$$\n"


def _own_atoms(sdf: str) -> tuple[NDArray[np.str_], Floats]:
    from rdkit import Chem

    molecule = Chem.MolFromMolBlock(sdf)
    elements = np.array([atom.GetSymbol() for atom in molecule.GetAtoms()])
    return elements, np.asarray(molecule.GetConformer().GetPositions(), dtype=np.float64)
