"""Features of a ligand without its protein: a Morgan fingerprint and nine descriptors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rdkit import rdBase
from rdkit.Chem import rdMolDescriptors
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator
from scipy.sparse import csr_array

from compass.data.structures.molecules import read_chemistry

RADIUS, N_BITS = 2, 1024
"""Of the Morgan fingerprint: environments within two bonds of each atom, counted and folded into 1024 columns."""
DESCRIPTORS = (
    (lambda molecule: molecule.GetNumHeavyAtoms(), 10.0),
    (lambda molecule: rdMolDescriptors.CalcCrippenDescriptors(molecule)[0], 2.0),  # log P
    (rdMolDescriptors.CalcTPSA, 50.0),
    (rdMolDescriptors.CalcNumHBD, 2.0),
    (rdMolDescriptors.CalcNumHBA, 3.0),
    (rdMolDescriptors.CalcNumRotatableBonds, 4.0),
    (rdMolDescriptors.CalcNumRings, 2.0),
    (rdMolDescriptors.CalcFractionCSP3, 0.25),
    (lambda molecule: sum(atom.GetFormalCharge() for atom in molecule.GetAtoms()), 1.0),
)
"""(descriptor, its usual spread over ligands); the descriptor is divided by the spread."""


def read_features(files: Mapping[str, Path]) -> tuple[list[str], csr_array]:
    """The names (n) of the ligands that RDKit can read, and their features (n, 1024 + 9 descriptors).

    Raises:
        StructureError: a file is missing or has changed since the scan.
    """
    generator = GetMorganGenerator(radius=RADIUS, fpSize=N_BITS)
    names, columns, values, ends = [], [], [], [0]
    for name, path in files.items():
        molecule = read_chemistry(path)
        if molecule is None:
            continue
        places, amounts = _features(molecule, generator)
        names.append(name)
        columns += places
        values += amounts
        ends.append(len(columns))
    return names, csr_array((values, columns, ends), shape=(len(names), N_BITS + len(DESCRIPTORS)), dtype=np.float64)


def _features(molecule: Any, generator: Any) -> tuple[list[int], list[float]]:
    """(columns, values) of the features of `molecule`; columns that are not named are zero."""
    with rdBase.BlockLogs():
        counts = generator.GetCountFingerprint(molecule).GetNonzeroElements()
        values = [float(describe(molecule)) / spread for describe, spread in DESCRIPTORS]
    return [*counts, *range(N_BITS, N_BITS + len(values))], [*np.log1p(list(counts.values())), *values]
