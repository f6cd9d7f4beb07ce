"""A ligand as a chemist sees it: what splits go by, and what a model that never sees the protein may know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rdkit import Chem, rdBase

from compass.data.structures.ligand import read_molecule

if TYPE_CHECKING:
    from pathlib import Path

STRICT = Chem.SanitizeFlags.SANITIZE_ALL
LENIENT = STRICT ^ Chem.SanitizeFlags.SANITIZE_PROPERTIES ^ Chem.SanitizeFlags.SANITIZE_KEKULIZE


def read_chemistry(path: Path) -> Any | None:
    """The ligand in `path` as an RDKit molecule with its rings and aromaticity, without hydrogens.

    Where an export has misplaced a charge or a bond, valences are not insisted on. None if RDKit makes no sense of it even so.

    Raises:
        StructureError: the file is gone or has changed since the scan, which could read it.
    """
    molecule = read_molecule(path)
    with rdBase.BlockLogs():
        for steps in (STRICT, LENIENT):
            attempt = Chem.Mol(molecule)
            if Chem.SanitizeMol(attempt, steps, catchErrors=True) == Chem.SanitizeFlags.SANITIZE_NONE:
                bare = Chem.RemoveHs(attempt, sanitize=False)
                bare.UpdatePropertyCache(strict=False)
                Chem.GetSymmSSSR(bare)  # removing atoms forgets the rings
                return bare
    return None


def murcko_scaffold(molecule: Any) -> str:
    """The ring systems of `molecule` and what joins them (Bemis and Murcko, J. Med. Chem. 1996) as canonical SMILES.

    Stereochemistry does not count. Empty where there is no ring: molecules without are one group.
    """
    with rdBase.BlockLogs():
        # Not GetScaffoldForMol, which refuses what `read_chemistry` lets pass.
        scaffold = Chem.MurckoDecompose(molecule)
        scaffold.ClearComputedProps()
        scaffold.UpdatePropertyCache(strict=False)
        Chem.GetSymmSSSR(scaffold)
        Chem.SanitizeMol(scaffold, catchErrors=True)  # without what hung on it, an odd valence may be one no more
        return str(Chem.MolToSmiles(scaffold, isomericSmiles=False))
