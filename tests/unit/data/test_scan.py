"""Scans of whole datasets, read in this process: what is read, what is kept, what is said."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from compass.config_files import load_config
from compass.data.scan import scan as module
from compass.data.scan.catalogue import Catalogue
from compass.data.scan.rows import Label
from compass.data.scan.scan import ScanProgress, catalogue_path, list_source, scan_source
from compass.errors import InputError
from compass.optimizer_config import DatasetRules, OptimizerConfig

RULES = OptimizerConfig()


@pytest.fixture(autouse=True)
def read(monkeypatch):
    """The ids that were really read, in this process: the processes have tests of their own."""
    ids = []

    def each(work, tasks, *, n_workers, died):
        for task in tasks:
            reading = work(task)
            if reading.outcome is not None:
                ids.append(task.row.id)
            yield [(task, reading)]

    monkeypatch.setattr(module, "each", each)
    return ids


@pytest.fixture
def data(tmp_path, pdb, methanol_at):
    """Three complexes, the last with a broken SDF and no MOL2; an index that knows another one as well."""
    root = tmp_path / "data"
    protein = str(pdb.peptide())
    for code, ligand in (("1abc", methanol_at()), ("2abc", methanol_at((3.0, 0.5, 4.0))), ("3abc", "rubbish\n")):
        folder = root / "set" / code
        folder.mkdir(parents=True)
        (folder / f"{code}_protein.pdb").write_text(protein)
        (folder / f"{code}_ligand.sdf").write_text(ligand)
    index = "1abc 2.00 2001 Kd=1uM // x\n2abc 2.00 2001 Kd<10mM // x\n9abc 2.00 2001 Ki=1nM // x\n"
    (root / "INDEX_data").write_text(index)
    return root


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def scanned(data, cache, *changes, **given):
    return Catalogue.open(scan_source(data, load_config(None, changes), cache, **given))


def by_id(catalogue):
    return {row.id: row for row in catalogue.rows}


def test_every_complex_ends_as_a_row(data, cache, read):
    catalogue = scanned(data, cache)
    assert [(row.id, row.status, row.reason) for row in catalogue.rows] == [
        ("1abc", "ok", ""), ("2abc", "ok", ""), ("3abc", "rejected", "truncated"), ("9abc", "rejected", "no_files"),
    ]  # fmt: skip
    rows = by_id(catalogue)
    assert rows["1abc"].label == Label(pk=6.0, kind="Kd")
    assert rows["2abc"].label == Label(pk=2.0, relation=">", kind="Kd")
    assert (rows["1abc"].protein, rows["1abc"].ligand) == ("set/1abc/1abc_protein.pdb", "set/1abc/1abc_ligand.sdf")
    assert rows["3abc"].detail == (
        "set/3abc/3abc_ligand.sdf: got a molecule that ends before its 'M  END'; expected a complete file. "
        "Fetch the file again."
    )
    assert rows["3abc"].notes == ("no label: not in INDEX_data",)
    assert dict(rows["1abc"].sizes)["nodes"] == 17.0
    assert catalogue.complex("1abc").n_atoms == 17
    assert read == ["1abc", "2abc", "3abc"]
    about = catalogue.about
    assert (about.source, about.labels, about.warnings) == (str(data), str(data / "INDEX_data"), ())
    assert (about.n_read, about.n_known) == (3, 0)
    assert about.took_s > 0


def test_what_has_not_changed_is_not_read_again(data, cache, read):
    before = scanned(data, cache)
    read.clear()
    again = scanned(data, cache)
    assert read == []
    assert (again.rows, again.digest, again.path) == (before.rows, before.digest, before.path)
    assert (again.about.n_read, again.about.n_known) == (0, 3)


def test_what_has_changed_is(data, cache, read, methanol_at):
    before = scanned(data, cache)
    read.clear()
    (data / "set/3abc/3abc_ligand.sdf").write_text(methanol_at())
    after = scanned(data, cache)
    assert read == ["3abc"]
    assert by_id(after)["3abc"].status == "ok"
    assert after.digest != before.digest


def test_labels_change_without_reading(data, cache, read):
    before = scanned(data, cache)
    read.clear()
    (data / "INDEX_data").write_text("1abc 2.00 2001 Kd=1nM // x\n")
    after = scanned(data, cache)
    assert read == []
    assert by_id(after)["1abc"].label == Label(pk=9.0, kind="Kd")
    assert sorted(by_id(after)) == ["1abc", "2abc", "3abc"]
    assert after.digest != before.digest


def test_other_rules_have_another_catalogue(data, cache, read):
    first = scanned(data, cache)
    second = scanned(data, cache, "dataset.pocket_radius=4")
    assert first.path != second.path
    assert first.digest != second.digest
    assert read == ["1abc", "2abc", "3abc"] * 2
    assert dict(by_id(second)["1abc"].sizes)["nodes"] < 17


def test_rules_that_do_not_touch_structures_do_not_count(data, cache, read):
    first = scanned(data, cache)
    second = scanned(data, cache, "dataset.oversize_share=0.1", "seed=3", "test_bench.pocket_radius=4")
    assert (first.path, first.digest, len(read)) == (second.path, second.digest, 3)


def test_an_interrupted_scan_goes_on(data, cache, read):
    def stop(now):
        if now.n_done == 3:  # 9abc, which has no files, comes first
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        scan_source(data, RULES, cache, watch=stop)
    with pytest.raises(InputError, match="got an unfinished scan"):
        Catalogue.open(catalogue_path(data, RULES, cache))
    assert read == ["1abc", "2abc"]
    read.clear()
    assert len(scanned(data, cache).rows) == 4
    assert read == ["3abc"]


def test_a_damaged_cache_is_read_anew_and_said(data, cache, read):
    path = scanned(data, cache).path
    path.write_bytes(b"no database " * 99)
    read.clear()
    again = scanned(data, cache)
    assert len(read) == 3
    assert again.about.warnings == (
        f"the cache of earlier scans was damaged (file is not a database); it is now {path.stem}.damaged",
    )


def test_it_says_how_far_it_is(data, cache):
    said = []
    scanned(data, cache, watch=said.append)
    assert [(now.n_done, now.n_expected, now.n_read, now.n_known, now.n_rejected) for now in said] == [
        (1, 4, 0, 0, 1), (2, 4, 1, 0, 1), (3, 4, 2, 0, 1), (4, 4, 3, 0, 2),
    ]  # fmt: skip
    said.clear()
    scanned(data, cache, watch=said.append)
    assert (said[-1].n_read, said[-1].n_known, said[-1].remaining_s) == (0, 3, 0.0)


def test_speed_and_what_is_left():
    now = ScanProgress(n_done=30, n_expected=90, n_read=0, n_known=0, n_rejected=0, elapsed_s=0.5)
    assert (now.per_s, now.remaining_s) == (60.0, 1.0)
    start = ScanProgress(n_done=0, n_expected=90, n_read=0, n_known=0, n_rejected=0, elapsed_s=0.0)
    assert (start.per_s, start.remaining_s) == (0.0, None)


# ------------------------------------------------------------------------------------------------------- many a shape


def test_gzipped_mmcif_and_mol2(data, cache):
    import gemmi

    folder = data / "set" / "1abc"
    structure = gemmi.read_pdb(str(folder / "1abc_protein.pdb"))
    structure.setup_entities()
    text = structure.make_mmcif_document().as_string()
    plain = scanned(data, cache)
    (folder / "1abc_protein.cif.gz").write_bytes(gzip.compress(text.encode()))
    (folder / "1abc_protein.pdb").unlink()
    sdf = folder / "1abc_ligand.sdf"
    (folder / "1abc_ligand.sdf.gz").write_bytes(gzip.compress(sdf.read_bytes()))
    sdf.unlink()
    other = scanned(data, cache)
    row = by_id(other)["1abc"]
    assert (row.status, row.protein, row.ligand) == (
        "ok", "set/1abc/1abc_protein.cif.gz", "set/1abc/1abc_ligand.sdf.gz",
    )  # fmt: skip
    assert row.sizes == by_id(plain)["1abc"].sizes
    assert (other.complex("1abc").elements == plain.complex("1abc").elements).all()


def test_a_manifest(data, cache, read):
    manifest = data / "mine.csv"
    manifest.write_text(
        "id,protein,ligand,label,split\n"
        "x,set/1abc/1abc_protein.pdb,set/1abc/1abc_ligand.sdf,6.5,train\n"
        "y,set/1abc/no.pdb,set/1abc/1abc_ligand.sdf,,test\n"
    )
    catalogue = scanned(manifest, cache)
    assert [(row.id, row.status, row.reason, row.split) for row in catalogue.rows] == [
        ("x", "ok", "", "train"), ("y", "rejected", "missing", "test"),
    ]  # fmt: skip
    assert (
        by_id(catalogue)["y"].detail
        == "set/1abc/no.pdb: got no such file; expected a PDB or mmCIF file. Check the path."
    )
    read.clear()
    scanned(manifest, cache)
    assert read == ["y"]  # a missing file may be there by now


def test_a_pocket_and_a_label_nobody_can_read(data, cache):
    folder = data / "set" / "1abc"
    (folder / "1abc_protein.pdb").rename(folder / "1abc_pocket.pdb")
    (data / "INDEX_data").write_text("1abc 2.00 2001 Ka=1uM // x\n2abc 2.00 2001 Kd=1uM // x\n")
    row = by_id(scanned(data, cache))["1abc"]
    assert (row.status, row.repairs, row.label) == ("repaired", ("pocket_for_protein",), None)
    (note,) = row.notes
    assert note.startswith("no label: INDEX_data line 1: got 'Ka=1uM'; expected Kd, Ki or IC50")


def test_a_relative_source_is_the_same_source(data, cache, read, monkeypatch):
    first = scanned(data, cache)
    monkeypatch.chdir(data.parent)
    read.clear()
    second = scanned(Path("data"), cache)
    assert (read, second.path, second.digest) == ([], first.path, first.digest)
    assert by_id(second)["3abc"] == by_id(first)["3abc"]


# ---------------------------------------------------------------------------------------------------- what is refused


def refused(source, index=""):
    with pytest.raises(InputError) as caught:
        list_source(source, DatasetRules(index=index))
    return str(caught.value)


def test_no_such_source(tmp_path):
    assert refused(tmp_path / "no") == (
        f"dataset {tmp_path}/no: got no such folder or file; "
        "expected a folder, or a manifest that ends in .csv or .parquet. Check the path."
    )


@pytest.mark.parametrize(("name", "kind"), [("list.txt", "a .txt file"), ("list", "a nameless file")])
def test_another_kind_of_file(tmp_path, name, kind):
    (tmp_path / name).touch()
    assert refused(tmp_path / name) == (
        f"dataset {tmp_path}/{name}: got {kind}; expected a folder, or a manifest that ends in .csv or .parquet. "
        "Check the path."
    )


def test_an_index_beside_a_manifest(tmp_path):
    (tmp_path / "m.csv").touch()
    assert refused(tmp_path / "m.csv", "INDEX") == (
        "index INDEX: got an index beside a manifest; expected labels from one of them. "
        "Leave the index out: the manifest has a column for labels."
    )


def test_no_workers(data, cache):
    with pytest.raises(InputError) as caught:
        scan_source(data, RULES, cache, workers=0)
    assert str(caught.value) == (
        "workers: got 0; expected a whole number above zero. Give the processes that may run, or leave it out."
    )
    assert not cache.exists()
