"""Ligands as chemistry, from files that are not always right about it."""

from __future__ import annotations

import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from compass.data.structures.molecules import murcko_scaffold, read_chemistry


def block(smiles):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=0)
    return Chem.MolToMolBlock(molecule) + "$$$$\n"


@pytest.fixture
def read(tmp_path):
    def reader(text):
        (tmp_path / "l.sdf").write_text(text)
        return read_chemistry(tmp_path / "l.sdf")

    return reader


@pytest.mark.parametrize(
    ("smiles", "scaffold"),
    [
        ("Cc1ccccc1", "c1ccccc1"),
        ("CCO", ""),
        ("C[C@H](Cc1ccccc1)NC1CC1", "c1ccc(CCNC2CC2)cc1"),
        ("F[C@H]1CC[C@@H](O)CC1", "C1CCCCC1"),
    ],
)
def test_scaffolds(read, smiles, scaffold):
    assert murcko_scaffold(read(block(smiles))) == scaffold


def test_hydrogens_are_not_part_of_it(read):
    assert read(block("CCO")).GetNumAtoms() == 3


def test_a_misplaced_charge_is_no_reason_to_give_up(read, capfd):
    # The nitrogen of a pyridinium whose charge got lost: four bonds' worth of valence and neutral. The other's are all in rings.
    for smiles, scaffold in (("C[n+]1ccccc1", "c1ccncc1"), ("C1CC[N+]2(C1)CCCC2", "C1CCN2(C1)CCCC2")):
        charged = block(smiles)
        neutral = "\n".join(line for line in charged.splitlines() if not line.startswith("M  CHG"))
        assert murcko_scaffold(read(neutral + "\n")) == scaffold
    assert capfd.readouterr().err == ""
