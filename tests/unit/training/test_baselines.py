"""The baselines: the labels they learn from, and the ridge's accuracy where the ligand decides."""

from __future__ import annotations

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import AllChem

from compass.data.scan.catalogue import About, Catalogue
from compass.data.scan.rows import Label, Row
from compass.data.splits.splits import Split
from compass.data.structures.molecules import read_chemistry
from compass.training.baselines import baselines

CHAINS = {f"c{n}{end}": "C" * n + end for n in range(1, 11) for end in ("O", "N", "F", "Cl")}


def block(smiles):
    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=0)
    return Chem.MolToMolBlock(molecule) + "$$$$\n"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ligands")
    for name, smiles in CHAINS.items():
        (folder / f"{name}.sdf").write_text(block(smiles))
    return folder


def catalogue(root, label_of):
    rows = tuple(Row(id=name, status="ok", ligand=f"{name}.sdf", label=label_of(name)) for name in sorted(CHAINS))
    return Catalogue(root / "c.sqlite", About(source=str(root), rules="r", n_read=1, n_known=0, took_s=0.1), rows)


def parts():
    test = sorted(CHAINS)[::5]
    return Split(train=tuple(name for name in sorted(CHAINS) if name not in test), val=(), test=tuple(test), why="")


def length(name):
    return Label(pk=2.0 + 0.5 * CHAINS[name].count("C") + 1.5 * name.endswith("N"))


def test_the_mean_is_that_of_the_training_labels_that_are_values(root):
    bound = {name: Label(pk=9.9, relation=">") for name in sorted(CHAINS)[::3]}
    data, split = catalogue(root, lambda name: bound.get(name, length(name))), parts()
    found = baselines(data, split)
    expected = np.mean([length(name).pk for name in split.train if name not in bound])
    assert set(found) == {"mean", "ligand"}
    assert len(set(found["mean"].values())) == 1
    assert found["mean"]["c1O"] == pytest.approx(expected)
    assert set(found["mean"]) == set(found["ligand"]) == set(CHAINS)


def test_the_ridge_predicts_labels_that_the_ligand_decides(root):
    data, split = catalogue(root, length), parts()
    found = baselines(data, split, split.test)
    assert set(found["ligand"]) == set(split.test)
    truth = np.array([length(name).pk for name in split.test])
    errors = {kind: np.std([found[kind][name] for name in split.test] - truth) for kind in found}
    assert errors["ligand"] < 0.3 * errors["mean"]


def test_bounds_are_used_if_no_label_is_a_value(root):
    data = catalogue(root, lambda name: Label(pk=length(name).pk, relation=">"))
    found = baselines(data, parts())
    assert found["mean"]["c1O"] == pytest.approx(np.mean([length(name).pk for name in parts().train]))


@pytest.mark.parametrize("lost", [("c3O",), tuple(CHAINS)])
def test_a_ligand_that_cannot_be_read_gets_the_mean(root, monkeypatch, lost):
    def read(path):
        return None if path.stem in lost else read_chemistry(path)

    monkeypatch.setattr("compass.training.ligand_features.read_chemistry", read)
    found = baselines(catalogue(root, length), parts())
    assert all(found["ligand"][name] == found["mean"][name] for name in lost)
