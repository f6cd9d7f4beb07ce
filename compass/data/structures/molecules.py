"""A ligand's chemistry, for scaffold splits and for ligand-only baselines."""

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

    Wrong valences, as some exports leave them, are tolerated. None if RDKit cannot sanitise it even so.

    Raises:
        StructureError: the file is missing or has changed since the scan.
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
    """The ring systems of `molecule` and their linkers (Bemis and Murcko, J. Med. Chem. 1996) as canonical SMILES.

    Stereochemistry does not count. Empty if there is no ring: all molecules without rings are one group.
    """
    with rdBase.BlockLogs():
        # Not GetScaffoldForMol, which refuses molecules that `read_chemistry` accepts.
        scaffold = Chem.MurckoDecompose(molecule)
        scaffold.ClearComputedProps()
        scaffold.UpdatePropertyCache(strict=False)
        Chem.GetSymmSSSR(scaffold)
        Chem.SanitizeMol(scaffold, catchErrors=True)  # a wrong valence may be right without the side chains
        return str(Chem.MolToSmiles(scaffold, isomericSmiles=False))
