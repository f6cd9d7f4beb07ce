"""Splits: nothing lost, nothing twice, groups whole, shares near what was asked; and what cannot be done, to the letter."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.data.scan.catalogue import About, Catalogue
from compass.data.scan.rows import Label, Row
from compass.data.splits.split_files import read_clusters, resolver
from compass.data.splits.splits import split_dataset
from compass.data.structures.structure_file import StructureError
from compass.errors import InputError
from compass.optimizer_config import SplitRules

LABEL = Label(pk=6.0)


def catalogue(*rows, root=Path("/nowhere/at/all")):
    return Catalogue(
        root / "c.sqlite", About(source=str(root / "m.csv"), rules="r", n_read=1, n_known=0, took_s=0.1), rows
    )


def row(name, **changes):
    return Row(**{"id": name, "status": "ok", "label": LABEL, **changes})


def many(n, **changes):
    return [row(f"c{i:03d}", **{key: values[i] for key, values in changes.items()}) for i in range(n)]


def parts(found):
    return found.train, found.val, found.test


def check_laws(found, ids, sizes, rules):
    """`sizes`: of the groups."""
    assert Counter(name for part in parts(found) for name in part) == Counter(ids)
    assert all(list(part) == sorted(part) for part in parts(found))
    for part, share in ((found.val, rules.val_share), (found.test, rules.test_share)):
        assert bool(part) == bool(share)
        if len(sizes) > 20:
            assert abs(len(part) - share * len(ids)) <= max(sizes) + 1


RULES = st.builds(SplitRules, val_share=st.sampled_from([0.0, 0.1, 0.25]), test_share=st.sampled_from([0.0, 0.1, 0.3]))


@given(st.integers(3, 200), RULES, st.integers(0, 9), st.randoms())
def test_random(n, rules, seed, random):
    rows = many(n)
    found = split_dataset(catalogue(*rows), rules, seed)
    check_laws(found, [row.id for row in rows], [1] * n, rules)
    random.shuffle(rows)
    assert split_dataset(catalogue(*rows), rules, seed) == found


def test_another_seed_is_another_split():
    rows = many(50)
    assert (
        split_dataset(catalogue(*rows), SplitRules(), 0).test != split_dataset(catalogue(*rows), SplitRules(), 1).test
    )


def test_what_is_added_moves_few():
    before, after = (split_dataset(catalogue(*many(n)), SplitRules(), 0) for n in (200, 210))
    assert len(set(before.test) - set(after.test)) <= 3


def test_what_has_no_label_or_is_not_asked_for_is_left_out():
    rows = [*many(30), row("bare", label=None), row("no", status="rejected")]
    found = split_dataset(catalogue(*rows), SplitRules(), 0, among={f"c{i:03d}" for i in range(20)})
    assert sum(map(len, parts(found))) == 20
    assert found.why == "at random: 16 train, 2 val, 2 test"


@given(st.lists(st.one_of(st.none(), st.integers(1990, 2020)), min_size=4, max_size=150), RULES, st.randoms())
def test_years(years, rules, random):
    known = Counter(year for year in years if year is not None)
    if len(known) < 3:
        return
    rows = many(len(years), year=years)
    found = split_dataset(catalogue(*rows), rules.model_copy(update={"by": "year"}), 0)
    check_laws(found, [row.id for row in rows], known.values(), rules)
    of = {row.id: row.year for row in rows}
    train, val, test = ([of[name] for name in part] for part in parts(found))
    assert None not in val + test
    train = [year for year in train if year is not None]
    for older, newer in ((train, val), (val, test), (train, test)):
        assert not older or not newer or max(older) < min(newer)
    random.shuffle(rows)
    assert split_dataset(catalogue(*rows), rules.model_copy(update={"by": "year"}), 1) == found


def test_unknown_years_are_trained_on():
    rows = many(8, year=[2001, 2002, 2003, None, None, None, None, 2000])
    found = split_dataset(catalogue(*rows), SplitRules(by="year"), 0)
    assert parts(found) == (("c000", "c003", "c004", "c005", "c006", "c007"), ("c001",), ("c002",))
    assert found.why == "by year, the newest tested (4 that could not be placed are trained on): 6 train, 1 val, 1 test"


@given(st.lists(st.integers(0, 40), min_size=60, max_size=150), RULES, st.integers(0, 5), st.randoms())
def test_clusters(tmp_path_factory, groups, rules, seed, random):
    members = {}
    rows = many(len(groups))
    for one, group in zip(rows, groups, strict=True):
        members.setdefault(group, []).append(one.id)
    path = tmp_path_factory.mktemp("clusters") / "clusters.txt"
    path.write_text("\n".join(" ".join(f"{name.upper()}_1" for name in names) for names in members.values()))
    rules = rules.model_copy(update={"by": "clusters", "clusters": str(path)})
    found = split_dataset(catalogue(*rows), rules, seed)
    check_laws(found, [row.id for row in rows], [len(names) for names in members.values()], rules)
    for names in members.values():
        assert sum(bool(set(names) & set(part)) for part in parts(found)) == 1
    random.shuffle(rows)
    assert split_dataset(catalogue(*rows), rules, seed) == found


def test_the_largest_cluster_is_trained_on_and_the_test_set_has_more_than_loners(tmp_path):
    names = [f"c{i:03d}" for i in range(200)]
    lines = [names[:60], *([*names[60:][2 * i : 2 * i + 2]] for i in range(40))]
    (tmp_path / "c").write_text("# from MMseqs2\n" + "\n".join(map(" ".join, lines)))
    found = split_dataset(catalogue(*many(200)), SplitRules(by="clusters", clusters=str(tmp_path / "c")), 0)
    assert set(names[:60]) <= set(found.train)
    assert (len(found.val), len(found.test)) == (20, 20)
    assert any(set(pair) <= set(found.test) for pair in lines[1:])
    assert found.why.startswith("by protein cluster (60 that could not be placed are trained on): 160 train")


def test_clusters_that_share_a_complex_are_one(tmp_path):
    (tmp_path / "c").write_text("c000_A c001_A other_A\nc001_B c002_A\nc003 c004\nc005\nc006")
    rules = SplitRules(by="clusters", clusters=str(tmp_path / "c"))
    for seed in range(5):
        found = split_dataset(catalogue(*many(7)), rules, seed)
        assert {"c000", "c001", "c002"} <= set(found.train)


PAIRS = ("9xyz_A 1abc_A", "9xyz_A 2DEF_A", "9xyz_A 3ghi_B", "8uvw_B 4jkl_A", "9xyz_B 4jkl_A", "5mno_A 5mno_A")


@given(st.permutations(PAIRS))
def test_a_representative_that_is_not_in_the_dataset_joins_its_members(tmp_path_factory, pairs):
    """As MMseqs2 writes them, in any order; another of its chains is another protein."""
    path = tmp_path_factory.mktemp("clusters") / "x_cluster.tsv"
    path.write_text("\n".join(pair.replace(" ", "\t") for pair in pairs))
    known = resolver(["5mno", "4jkl", "3ghi", "2def", "1abc"])
    assert read_clusters(str(path), known) == {"1abc": 0, "2def": 0, "3ghi": 0, "4jkl": 1, "5mno": 2}


def mol_block(smiles):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    molecule = Chem.AddHs(Chem.MolFromSmiles(smiles))
    AllChem.EmbedMolecule(molecule, randomSeed=0)
    return Chem.MolToMolBlock(molecule) + "$$$$\n"


@pytest.mark.slow
def test_scaffolds_stay_together(tmp_path):
    smiles = {
        "benzenes": ["c1ccccc1", "Cc1ccccc1", "OCc1ccccc1Cl"],
        "acyclic": ["CCO", "CCCN"],
        "pyridines": ["n1ccccc1C", "n1ccccc1CC"],
        "spiro": ["C1CCC12CC2"],
    }
    rows = []
    for group, members in smiles.items():
        for i, one in enumerate(members):
            (tmp_path / f"{group}{i}.sdf").write_text(mol_block(one))
            rows.append(row(f"{group}{i}", ligand=f"{group}{i}.sdf"))
    rows.append(row("odd", ligand="odd.sdf"))
    (tmp_path / "odd.sdf").write_text(mol_block("CO").replace("0999", "    "))
    found = split_dataset(catalogue(*rows, root=tmp_path), SplitRules(by="scaffold"), 0)
    assert Counter(name for part in parts(found) for name in part) == Counter(row.id for row in rows)
    for group in smiles:
        assert sum(any(name.startswith(group) for name in part) for part in parts(found)) == 1
    assert "benzenes0" in found.train


def test_a_ligand_that_is_gone_is_said_across_processes(tmp_path):
    with pytest.raises(StructureError) as raised:
        split_dataset(catalogue(*many(3, ligand=["a.sdf"] * 3), root=tmp_path), SplitRules(by="scaffold"), 0)
    assert str(raised.value) == (
        f"{tmp_path / 'a.sdf'}: got no such file; expected an SDF or MOL2 file. Check the path."
    )


def listed(tmp_path, **lists):
    paths = {}
    for name, ids in lists.items():
        path = tmp_path / name
        path.write_text("# ids\n" + "\n".join(ids) + "\n\n")
        paths[f"{name}_list"] = str(path)
    return SplitRules(by="lists", **paths)


def test_lists(tmp_path):
    found = split_dataset(catalogue(*many(6)), listed(tmp_path, val=["C001"], test=["c002", "c003"]), 0)
    assert parts(found) == (("c000", "c004", "c005"), ("c001",), ("c002", "c003"))
    assert found.why == "as listed: 3 train, 1 val, 2 test"


def test_with_a_list_for_training_the_rest_is_left_out(tmp_path):
    rows = [*many(6), row("bare", label=None)]
    found = split_dataset(catalogue(*rows), listed(tmp_path, train=["c000", "bare"], test=["c002", "c003"]), 0)
    assert parts(found) == (("c000",), (), ("c002", "c003"))
    assert found.why == "as listed (3 in none, left out): 1 train, 0 val, 2 test"


def test_a_manifests_column():
    rows = many(5, split=["train", "val", "test", None, "train"])
    assert parts(split_dataset(catalogue(*rows), SplitRules(by="given"), 0)) == (("c000", "c004"), ("c001",), ("c002",))


def test_a_column_without_training_leaves_it_the_rest():
    rows = many(4, split=[None, "val", "test", None])
    assert parts(split_dataset(catalogue(*rows), SplitRules(by="given"), 0)) == (("c000", "c003"), ("c001",), ("c002",))


def test_the_digest_follows_the_parts():
    digests = {split_dataset(catalogue(*many(50)), SplitRules(), seed).digest for seed in (0, 0, 1)}
    assert len(digests) == 2


# ---------------------------------------------------------------------------------------------------------- messages


def message(rows, rules):
    with pytest.raises(InputError) as raised:
        split_dataset(catalogue(*rows), rules, 0)
    return str(raised.value)


def test_no_labels():
    assert message([row("a", label=None)], SplitRules()) == (
        "training.split: got no complex with a label; expected complexes to train on. "
        "Check the index, or the manifest's labels."
    )


def test_too_few():
    assert message(many(2), SplitRules()) == (
        "training.split: got 2 complexes; expected at least 3, one per part. "
        "Give more data, a share of 0, or another training.split.by."
    )
    assert message(many(9, year=[2000] * 5 + [2001] * 4), SplitRules(by="year")) == (
        "training.split: got 2 groups by year, the newest tested; expected at least 3, one per part. "
        "Give more data, a share of 0, or another training.split.by."
    )


def test_no_years():
    assert message(many(9), SplitRules(by="year")).startswith(
        "training.split: got 0 groups by year, the newest tested; expected at least 2, one per part."
    )


def test_shares_that_leave_nothing():
    assert message(many(9), SplitRules(val_share=0.5, test_share=0.5)) == (
        "training.split: got shares of 0.5 and 0.5; expected something left to train on. "
        "Lower training.split.val_share or test_share."
    )


def test_a_list_that_names_what_is_not_there(tmp_path):
    assert message(many(9), listed(tmp_path, test=[f"x{i}" for i in range(7)])) == (
        f"training.split.test_list {tmp_path / 'test'}: got x0, x1, x2, x3, x4 and 2 more, not in the dataset; "
        "expected ids of the dataset. Remove them, or scan the data they are from."
    )


def test_an_id_in_two_lists(tmp_path):
    assert message(many(9), listed(tmp_path, val=["c001", "c002"], test=["c003", "c002"])) == (
        f"training.split.test_list {tmp_path / 'test'}: got c002, in val_list too; expected each id in one list. "
        "Remove it from one of them."
    )


def test_a_list_that_cannot_be_read(tmp_path):
    assert message(many(9), SplitRules(by="lists", val_list=str(tmp_path / "v"))) == (
        f"training.split.val_list {tmp_path / 'v'}: got No such file or directory; expected a text file. Check the path."
    )


def test_a_list_of_what_has_no_label(tmp_path):
    rows = [*many(4), row("bare", label=None)]
    assert message(rows, listed(tmp_path, val=["c000"], test=["bare"])) == (
        "training.split: got nothing in test, as listed; expected a labelled complex in each requested part. "
        "Correct the lists, or choose another training.split.by."
    )


@pytest.mark.parametrize(("by", "how"), [("lists", "as listed"), ("given", "as the manifest says")])
def test_nobody_says(by, how):
    assert message(many(4), SplitRules(by=by)) == (
        f"training.split: got no complex in validation or test, {how}; expected at least one of them. "
        "Name them, or choose another training.split.by."
    )


def test_no_clusters(tmp_path):
    assert message(many(4), SplitRules(by="clusters")) == (
        "training.split.clusters: got nothing; expected a file. Set training.split.clusters."
    )
    (tmp_path / "c").write_text("1xyz_A\n")
    assert message(many(4), SplitRules(by="clusters", clusters=str(tmp_path / "c"))) == (
        f"training.split.clusters {tmp_path / 'c'}: got no id of the dataset; expected one cluster per line, ids "
        "separated by blanks. Check the file, or choose another training.split.by."
    )
