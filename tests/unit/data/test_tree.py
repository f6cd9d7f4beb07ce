"""Folders as PDBbind lays them out, and as people do."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.data.scan import tree
from compass.data.scan.names import LIGAND_EXTENSIONS, PROTEIN_EXTENSIONS
from compass.data.scan.rows import Label
from compass.data.structures import ligand, protein
from compass.errors import InputError
from compass.optimizer_config import DatasetRules


@pytest.fixture
def grow(tmp_path):
    """Makes a tree of files; those without content are empty."""

    def grower(*names, **content):
        for name in names:
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("/"):
                path.mkdir(exist_ok=True)
            else:
                path.write_text(content.get(path.name.replace(".", "_"), ""))
        return tmp_path

    return grower


def list_tree(root, index="", **rules):
    return tree.list_tree(root, DatasetRules(index=index, **rules))


def both(place, code):
    return f"{place}{code}/{code}_protein.pdb", f"{place}{code}/{code}_ligand.sdf"


def rows(listing):
    return {candidate.row.id: candidate.row for candidate in listing.complexes}


def test_the_extensions_are_those_that_are_read():
    assert set(PROTEIN_EXTENSIONS) == set(protein.PROTEIN_FORMATS)
    assert set(LIGAND_EXTENSIONS) == set(ligand.LIGAND_FORMATS)


def test_complexes_at_every_depth(grow):
    root = grow(
        *both("", "1abc"),
        *both("refined-set/", "2abc"),
        *both("v2020/other/", "3abc"),
        "v2020/a/b/4abc/4abc_ligand.sdf",
    )
    listing = list_tree(root)
    assert [(c.row.id, c.proteins, c.ligands) for c in listing.complexes] == [
        ("1abc", ("1abc/1abc_protein.pdb",), ("1abc/1abc_ligand.sdf",)),
        ("2abc", ("refined-set/2abc/2abc_protein.pdb",), ("refined-set/2abc/2abc_ligand.sdf",)),
        ("3abc", ("v2020/other/3abc/3abc_protein.pdb",), ("v2020/other/3abc/3abc_ligand.sdf",)),
    ]


def test_files_are_tried_in_order(grow):
    names = (
        "1abc_protein.cif.gz", "1abc_ligand.mol2", "1abc_pocket.pdb", "1abc.cif", "1abc_protein.pdb.gz", "1abc_ligand.sdf.gz",
        "1abc_protein.pdb", "1abc_ligand.MOL2.GZ", "1abc_ligand.sdf", "1abc_ligand.pdbqt", "._1abc_ligand.sdf", "2abc.pdb",
    )  # fmt: skip
    (candidate,) = list_tree(grow(*(f"1abc/{name}" for name in names))).complexes
    assert [name.removeprefix("1abc/1abc") for name in candidate.proteins] == [
        "_protein.pdb", "_protein.pdb.gz", "_protein.cif.gz", ".cif", "_pocket.pdb",
    ]  # fmt: skip
    assert [name.removeprefix("1abc/1abc_ligand") for name in candidate.ligands] == [
        ".sdf", ".sdf.gz", ".mol2", ".MOL2.GZ",
    ]  # fmt: skip
    assert candidate.row.repairs == ()


def test_a_pocket_alone_is_a_repair(grow):
    (candidate,) = list_tree(grow("1abc/1abc_pocket.pdb", "1abc/1abc_ligand.sdf")).complexes
    assert (candidate.row.status, candidate.row.repairs) == ("ok", ("pocket_for_protein",))


def test_files_without_a_code_and_codes_that_share_a_folder(grow):
    root = grow(
        "my complex/protein.pdb", "my complex/ligand.sdf",
        "flat/x_protein.pdb", "flat/x_ligand.sdf", "flat/y_1_protein.pdb", "flat/y_1_ligand.mol2",
    )  # fmt: skip
    assert [(c.row.id, c.row.status) for c in list_tree(root).complexes] == [
        ("my complex", "ok"), ("x", "ok"), ("y_1", "ok"),
    ]  # fmt: skip


def test_a_single_complex_is_a_dataset(grow):
    grow(*both("", "1abc"))
    (candidate,) = list_tree(grow() / "1abc").complexes
    assert (candidate.row.id, candidate.proteins) == ("1abc", ("1abc_protein.pdb",))


def test_links_are_followed(grow, tmp_path):
    grow(*both("store/", "1abc"))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1abc").symlink_to(tmp_path / "store" / "1abc")
    assert [c.row.id for c in list_tree(tmp_path / "set").complexes] == ["1abc"]


def test_a_link_that_leads_nowhere_costs_nothing_else(grow, tmp_path):
    grow(*both("set/", "1abc"))
    (tmp_path / "set" / "round").symlink_to("round")
    found = rows(list_tree(tmp_path))
    assert (found["1abc"].status, found["round"].reason, len(found)) == ("ok", "unreadable", 2)


def test_case_does_not_tell_files_apart(grow):
    """RCSB's names are in capitals."""
    found = list_tree(grow("1abc/1ABC.cif", "1abc/1abc_ligand.sdf", "2ABC_protein.pdb", "2abc_ligand.sdf")).complexes
    assert [(c.row.id, c.proteins, c.ligands) for c in found] == [
        ("1abc", ("1abc/1ABC.cif",), ("1abc/1abc_ligand.sdf",)),
        ("2ABC", ("2ABC_protein.pdb",), ("2abc_ligand.sdf",)),
    ]


def test_what_is_missing_is_said(grow):
    root = grow(
        "1abc/1abc_protein.pdb", "1abc/1abc_ligand.pdbqt", "2abc/2abc_ligand.sdf", "set/3abc/readme", "set/4abc/",
        *both("", "9abc"),
    )  # fmt: skip
    found = rows(list_tree(root))
    assert {id_: (row.status, row.reason, row.detail) for id_, row in found.items() if id_ != "9abc"} == {
        "1abc": ("rejected", "missing",
                 "1abc: got no ligand file beside 1abc_ligand.pdbqt, 1abc_protein.pdb; expected 1abc_ligand with one of "
                 ".sdf, .sd, .mol, .mol2, plain or followed by .gz. Fetch the files again, or remove the folder."),
        "2abc": ("rejected", "missing",
                 "2abc: got no protein file beside 2abc_ligand.sdf; expected 2abc_protein with one of "
                 ".pdb, .ent, .cif, .mmcif, plain or followed by .gz. Fetch the files again, or remove the folder."),
        "3abc": ("rejected", "no_files",
                 "3abc: got no structure files; expected 3abc_protein with one of "
                 ".pdb, .ent, .cif, .mmcif, plain or followed by .gz. Fetch the files again, or remove the folder."),
        "4abc": ("rejected", "no_files",
                 "4abc: got no structure files; expected 4abc_protein with one of "
                 ".pdb, .ent, .cif, .mmcif, plain or followed by .gz. Fetch the files again, or remove the folder."),
    }  # fmt: skip


def test_a_code_in_two_places(grow):
    root = grow(*both("b/", "1abc"), *both("a/", "1abc"), *both("c/", "1abc"))
    found = rows(list_tree(root))
    assert found["1abc"].status == "ok"
    assert (found["1abc (b/1abc)"].reason, found["1abc (b/1abc)"].detail) == (
        "duplicate",
        "b/1abc: got 1abc, which a/1abc holds too; expected each complex once. Remove one of them.",
    )
    assert found["1abc (c/1abc)"].reason == "duplicate"


@pytest.mark.parametrize("places", [("b/", "a/"), ("", "")])
def test_codes_that_differ_in_case_are_two_complexes(grow, places):
    """Chains A and a of one entry, in two folders or in one."""
    files = [name.replace("/7tyv_A/", "/x/").replace("/7tyv_a/", "/x/") if not places[0] else name
             for place, code in zip(places, ("7tyv_A", "7tyv_a"), strict=True) for name in both(f"set/{place}", code)]  # fmt: skip
    listing = list_tree(grow(*files))
    assert [(c.row.id, c.row.status, len(c.proteins)) for c in listing.complexes] == [
        ("7tyv_A", "ok", 1), ("7tyv_a", "ok", 1),
    ]  # fmt: skip
    assert listing.warnings[-1] == "ids that differ only in case are complexes of their own: 7tyv_A, 7tyv_a"


@pytest.mark.parametrize("blank", ["\u00a0", "\u3000", "\u2009", " "])
def test_names_with_blanks_of_any_kind(grow, blank):
    root = grow(*both("", "g1"), f"flat/g{blank}2_protein.pdb", f"flat/g{blank}2_ligand.sdf")
    assert {c.row.id: c.row.status for c in list_tree(root).complexes} == {"g1": "ok", f"g{blank}2": "ok"}


@pytest.mark.parametrize("word", ["protein_processed", "protein_fixed", "receptor", "rec", "PROTEIN"])
def test_names_of_prepared_sets(grow, word):
    (found,) = list_tree(grow(f"1abc/1abc_{word}.pdb", "1abc/1abc_ligand.sdf")).complexes
    assert (found.row.id, found.proteins) == ("1abc", (f"1abc/1abc_{word}.pdb",))


def test_the_words_are_configurable_and_the_others_named(grow):
    root = grow("1abc/1abc_holo.pdb", "1abc/1abc_ligand.sdf", *both("", "2abc"), "2abc/2abc_apo_md.pdb")
    listing = list_tree(root)
    found = rows(listing)
    assert found["1abc"].detail.startswith("1abc: got no protein file beside 1abc_holo.pdb, 1abc_ligand.sdf; expected")
    assert listing.warnings[-1] == (
        "structure files with other names, passed over: 2abc/2abc_apo_md.pdb "
        "(dataset.protein_suffixes and ligand_suffixes say which names count)"
    )
    assert rows(list_tree(root, protein_suffixes=("holo", "protein")))["1abc"].status == "ok"


def test_plinder(grow):
    root = grow(
        "1abc__1__1.A__1.B/system.cif", "1abc__1__1.A__1.B/receptor.pdb", "1abc__1__1.A__1.B/sequences.fasta",
        "1abc__1__1.A__1.B/ligand_files/1.B.sdf",
        "2abc__1__1.A__1.B_1.C/system.cif", "2abc__1__1.A__1.B_1.C/ligand_files/1.B.sdf", "2abc__1__1.A__1.B_1.C/ligand_files/1.C.sdf",
    )  # fmt: skip
    assert [(c.row.id, c.proteins, c.ligands) for c in list_tree(root).complexes] == [
        ("1abc__1__1.A__1.B",
         ("1abc__1__1.A__1.B/receptor.pdb", "1abc__1__1.A__1.B/system.cif"), ("1abc__1__1.A__1.B/ligand_files/1.B.sdf",)),
        ("2abc__1__1.A__1.B_1.C__1.B",
         ("2abc__1__1.A__1.B_1.C/system.cif",), ("2abc__1__1.A__1.B_1.C/ligand_files/1.B.sdf",)),
        ("2abc__1__1.A__1.B_1.C__1.C",
         ("2abc__1__1.A__1.B_1.C/system.cif",), ("2abc__1__1.A__1.B_1.C/ligand_files/1.C.sdf",)),
    ]  # fmt: skip


def test_an_entry_without_a_ligand(grow):
    found = rows(list_tree(grow("1bju/1bju.pdb", *both("", "1abc"))))
    assert found["1bju"].detail.startswith("1bju: got no ligand file beside 1bju.pdb; expected 1bju_ligand with one of")


def test_folders_passed_over(grow):
    root = grow(*both("2020/", "1abc"), "readme/intro.pdf", "docs/old/x.txt", "INDEX.pdf")
    listing = list_tree(root)
    assert [c.row.id for c in listing.complexes] == ["1abc"]
    assert listing.warnings == (
        "no index file (INDEX…) found: no complex has a label",
        "folders without structure files, passed over: docs, docs/old, readme",
    )
    grow(*(f"more{i}/x" for i in range(9)))
    assert list_tree(root).warnings[1] == (
        "folders without structure files, passed over: docs, docs/old, more0, more1, more2 and 7 more"
    )


# -------------------------------------------------------------------------------------------------------------- index

INDEX = "1ABC 2.00 2001 Kd=1uM // x\n3abc NMR 2003 Ki=1nM // x\n"


def test_labels_come_from_the_index_in_the_tree(grow):
    root = grow(*both("set/", "1abc"), *both("set/", "2abc"), "index/INDEX_data", INDEX_data=INDEX)
    listing = list_tree(root)
    assert (listing.labels, listing.warnings) == (str(root / "index/INDEX_data"), ())
    found = rows(listing)
    assert (found["1abc"].label, found["1abc"].resolution, found["1abc"].year) == (Label(pk=6.0, kind="Kd"), 2.0, 2001)
    assert (found["2abc"].status, found["2abc"].label, found["2abc"].notes) == (
        "ok", None, ("no label: not in INDEX_data",),
    )  # fmt: skip
    assert (found["3abc"].status, found["3abc"].reason, found["3abc"].year, found["3abc"].detail) == (
        "rejected", "no_files", 2003,
        "INDEX_data: got 3abc, which has no folder; expected 3abc/3abc_protein.pdb and _ligand.sdf. "
        "Fetch its files if it should be trained on.",
    )  # fmt: skip


def test_a_named_index_counts_alone(grow, tmp_path):
    root = grow(*both("", "1abc"), "INDEX_data", "mine.txt", INDEX_data=INDEX, mine_txt="1abc 2 2001 7.5\n")
    listing = list_tree(root, str(tmp_path / "mine.txt"))
    assert (listing.labels, rows(listing)["1abc"].label) == (str(tmp_path / "mine.txt"), Label(pk=7.5))
    assert list(rows(listing)) == ["1abc"]


def test_a_named_index_must_be_one(grow, tmp_path):
    root = grow(*both("", "1abc"), "mine.txt")
    with pytest.raises(InputError, match=r"^index .*/no\.txt: got No such file or directory; expected a PDBbind index"):
        list_tree(root, str(tmp_path / "no.txt"))
    with pytest.raises(InputError, match=r"^index .*/mine\.txt: got no entries; expected lines such as"):
        list_tree(root, str(tmp_path / "mine.txt"))


def test_an_empty_folder(grow):
    root = grow("readme/x")
    with pytest.raises(InputError) as caught:
        list_tree(root)
    assert str(caught.value) == (
        f"{root}: got no complexes; expected folders such as 1abc with 1abc_protein.pdb and 1abc_ligand.sdf. "
        "Check the path, or list the files in a CSV manifest."
    )


@pytest.fixture
def close(monkeypatch):
    """Takes the permission to look into folders of a name; tests may run as root, whom no mode stops."""

    def closer(name):
        real = os.scandir

        def scandir(path):
            if Path(path).name == name:
                raise PermissionError(13, "Permission denied")
            return real(path)

        monkeypatch.setattr("os.scandir", scandir)

    return closer


def test_a_complex_that_cannot_be_looked_into(grow, close):
    root = grow(*both("", "1abc"), *both("set/", "2abc"))
    close("2abc")
    found = rows(list_tree(root))
    assert (found["1abc"].status, found["2abc"].reason, found["2abc"].detail) == (
        "ok", "unreadable",
        "set/2abc: got Permission denied; expected a folder that can be read. Check its name and permissions.",
    )  # fmt: skip


def test_a_name_that_is_no_text(grow, tmp_path):
    root = grow(*both("", "1abc"), "1abc/x")
    (tmp_path / os.fsdecode(b"2ab\xff")).mkdir()
    (tmp_path / "1abc" / os.fsdecode(b"2ab\xff_ligand.sdf")).touch()
    found = rows(list_tree(root))
    assert (found.pop("1abc").status, [(row.reason, row.detail) for row in found.values()]) == (
        "ok",
        [("unreadable", "'2ab\\udcff': got a name that is not valid text; expected a folder that can be read. "
                        "Check its name and permissions.")],
    )  # fmt: skip


def test_a_folder_that_cannot_be_read(grow, close):
    root = grow(*both("", "1abc"))
    close(root.name)
    with pytest.raises(InputError) as caught:
        list_tree(root)
    assert str(caught.value) == (
        f"{root}: got Permission denied; expected a folder that can be read. Check its name and permissions."
    )


@given(st.sets(st.sampled_from([
    "protein.pdb", "protein.cif", "pocket.pdb", "ligand.sdf", "ligand.mol2", "ligand.pdbqt", "protein.pdb.gz", "notes.txt",
]), min_size=1))  # fmt: skip
def test_every_folder_called_like_an_entry_ends_as_a_row(tmp_path_factory, parts):
    root = tmp_path_factory.mktemp("tree")
    (root / "1abc").mkdir()
    for part in parts:
        (root / "1abc" / f"1abc_{part}").touch()
    (candidate,) = list_tree(root).complexes
    assert candidate.row.id == "1abc"
    assert candidate.row.usable == bool(candidate.proteins and candidate.ligands)
    assert (candidate.row.status == "rejected") == bool(candidate.row.reason and candidate.row.detail)


def test_two_ligands_whose_codes_differ_in_case_are_two_complexes(grow):
    found = rows(list_tree(grow("x/1abc_protein.pdb", "x/1abc_ligand.sdf", "x/1ABC_ligand.sdf")))
    assert {id_: row.reason for id_, row in found.items()} == {"1abc": "", "1ABC": "missing"}


def test_folders_that_are_too_deep_are_named(grow):
    root = grow("deep/a/b/c/d/2abc_protein.pdb")
    with pytest.raises(InputError, match="got no complexes; deep/a/b/c too deep to be searched"):
        list_tree(root)
    grow(*both("", "3abc"))
    assert "folders more than 3 levels down, not searched: deep/a/b/c" in list_tree(root).warnings


def test_a_system_on_the_deepest_level(grow):
    (candidate,) = list_tree(grow("systems/ab/s/receptor.cif", "systems/ab/s/ligand_files/1.C.sdf")).complexes
    assert (candidate.row.id, candidate.row.status) == ("s", "ok")
