"""Any number of complexes of every size with real geometry: residues of real proteins in their surroundings.

The four available wwPDB complexes (the embedded 1ia1, and 1s3v, 1uou and 1of6 if the `posebusters` wheel is installed) have
some thousands of residues. Each residue, taken out, is a ligand of 4 to 14 heavy atoms; the atoms around it, cut at a
radius, are its pocket. They are written as a dataset of structure files and a manifest, which is scanned like any other.

The label is synthetic: contacts between elements, weighted by distance, on the scale of a pK, plus noise. It can be learnt
from the geometry, in part from the ligand alone (its elements limit its contacts), and never better than the noise.
"""

from __future__ import annotations

import csv
import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem, rdBase

from benchmarks.batching_real import files
from compass.demo.crops import MEAN_PK, SPREAD_PK, contact_energy

Floats = NDArray[np.float64]

FEWEST_ATOMS, MOST_ATOMS = 4, 14
"""Of a residue that is taken as a ligand."""
NOISE_PK = 0.5
"""What two laboratories differ by."""


@dataclass(frozen=True)
class _Protein:
    """The heavy atoms of one file, line by line."""

    name: str
    lines: list[str]
    elements: NDArray[np.str_]
    positions: Floats
    residues: NDArray[np.int64]


def write_crops(folder: Path, radii: Floats, seed: int = 0) -> Path:
    """Write a complex for each of `radii` (n,) Å into `folder`, each with a random residue. Returns the manifest.

    Raises:
        ValueError: there are fewer residues than radii.
    """
    rng = np.random.default_rng(seed)
    proteins = [_read(name, path) for name, path, _ in files()]
    found = [(protein, residue) for protein in proteins for residue in _ligands(protein)]
    if len(found) < len(radii):
        raise ValueError(f"{len(found)} residues for {len(radii)} complexes")
    chosen = rng.permutation(len(found))[: len(radii)]
    entries, energies = [], []
    for place, radius in zip(chosen, radii, strict=True):
        protein, residue = found[place]
        name = f"{protein.name}-{residue}"
        energies.append(_write(folder, name, protein, residue, float(radius)))
        entries.append({"id": name, "protein": f"{name}.pdb", "ligand": f"{name}.sdf"})
    scaled = (np.array(energies) - np.mean(energies)) / np.std(energies)
    labels = MEAN_PK + SPREAD_PK * scaled + NOISE_PK * rng.normal(size=len(scaled))
    manifest = folder / "crops.csv"
    with manifest.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["id", "protein", "ligand", "label"])
        writer.writeheader()
        writer.writerows({**entry, "label": f"{label:.3f}"} for entry, label in zip(entries, labels, strict=True))
    return manifest


def _read(name: str, path: Path) -> _Protein:
    content = path.read_bytes()
    text = (gzip.decompress(content) if path.suffix == ".gz" else content).decode()
    lines = [
        line
        for line in text.splitlines()
        if line.startswith("ATOM") and line[76:78].strip() != "H" and line[16] in " A"
    ]
    tags = [line[21:27] for line in lines]
    _, residues = np.unique(tags, return_inverse=True)
    return _Protein(
        name, lines, np.array([line[76:78].strip() for line in lines]),
        np.array([[float(line[at : at + 8]) for at in (30, 38, 46)] for line in lines]), residues,
    )  # fmt: skip


def _ligands(protein: _Protein) -> NDArray[np.int64]:
    sizes = np.bincount(protein.residues)
    return np.flatnonzero((sizes >= FEWEST_ATOMS) & (sizes <= MOST_ATOMS))


def _write(folder: Path, name: str, protein: _Protein, residue: int, radius: float) -> float:
    """The two files of a complex; returns the energy of its contacts for each ligand atom."""
    own = protein.residues == residue
    ligand = [line for line, is_own in zip(protein.lines, own, strict=True) if is_own]
    distances = np.linalg.norm(protein.positions[:, None] - protein.positions[own], axis=2)
    near = ~own & (distances.min(axis=1) <= radius)
    pocket = [line for line, is_near in zip(protein.lines, near, strict=True) if is_near]
    (folder / f"{name}.pdb").write_text("\n".join([*pocket, "END", ""]))
    with rdBase.BlockLogs():
        molecule = Chem.MolFromPDBBlock("\n".join([*ligand, "END", ""]), sanitize=False)
        (folder / f"{name}.sdf").write_text(Chem.MolToMolBlock(molecule, kekulize=False) + "$$$$\n")
    return contact_energy(
        (protein.elements[own], protein.positions[own]), (protein.elements[near], protein.positions[near])
    )
