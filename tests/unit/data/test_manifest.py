"""Manifests: CSV and Parquet, tidy and not."""

from __future__ import annotations

import builtins

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.data.scan.listing import Listed
from compass.data.scan.manifest import list_manifest
from compass.data.scan.rows import Label, Row
from compass.errors import InputError


@pytest.fixture
def listed(tmp_path):
    def lister(text, name="data.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return list_manifest(path)

    return lister


@pytest.fixture
def refused(listed, tmp_path):
    def refuser(*args):
        with pytest.raises(InputError) as caught:
            listed(*args)
        return str(caught.value).removeprefix(f"manifest {tmp_path}/")

    return refuser


def test_what_a_line_says(listed, tmp_path):
    listing = listed(
        "id,protein,ligand,label,split\n"
        "b,p/b.pdb, l/b.sdf ,Kd<10mM,train\n"
        "a,p/a.cif.gz,/l/a.mol2,6.25,validation\n"
        "c,c.pdb,c.sdf,,\n"
    )
    assert (listing.root, listing.labels, listing.warnings) == (tmp_path, str(tmp_path / "data.csv"), ())
    assert listing.complexes == (
        Listed(Row(id="a", status="ok", label=Label(pk=6.25), split="val"), ("p/a.cif.gz",), ("/l/a.mol2",)),
        Listed(
            Row(id="b", status="ok", label=Label(pk=2.0, relation=">", kind="Kd"), split="train"), ("p/b.pdb",), ("l/b.sdf",)
        ),
        Listed(Row(id="c", status="ok"), ("c.pdb",), ("c.sdf",)),
    )  # fmt: skip


def test_columns_by_any_case_and_in_any_order(listed):
    (candidate,) = listed("\ufeffLabel,Note,LIGAND, Protein ,ID,id\r\n7,hello,l.sdf,p.pdb,first,second\r\n").complexes
    assert candidate == Listed(Row(id="first", status="ok", label=Label(pk=7.0)), ("p.pdb",), ("l.sdf",))


def test_a_label_or_a_split_that_cannot_be_read(listed):
    (candidate,) = listed("id,protein,ligand,label,split\na,p.pdb,l.sdf,strong,holdout\n").complexes
    assert (candidate.row.label, candidate.row.split) == (None, None)
    assert candidate.row.notes == (
        "no label: data.csv line 2: got 'strong'; expected Kd, Ki or IC50, one of = < > ~, a number above zero and a "
        "unit from fM to M. Write it as the PDBbind index does, for example Kd=49uM.",
        "data.csv line 2: the split 'holdout' is not one of train, val and test and is ignored",
    )


def test_lines_without_an_id_or_a_file(listed):
    listing = listed("id,protein,ligand,label\n,p.pdb,l.sdf,7\na,,l.sdf,7\nb,p.pdb\nNaN,p.pdb,l.sdf,7\n")
    assert [(c.row.id, c.row.reason, c.row.detail, c.proteins) for c in listing.complexes] == [
        ("a", "missing", "data.csv line 3: got no protein for a; expected the path of its protein file. "
                         "Fill it in, or remove the line.", ()),
        ("b", "missing", "data.csv line 4: got no ligand for b; expected the path of its ligand file. "
                         "Fill it in, or remove the line.", ()),
        ("line 2", "no_id", "data.csv line 2: got no id; expected a name for each complex. Give it one.", ()),
        ("line 5", "no_id", "data.csv line 5: got no id; expected a name for each complex. Give it one.", ()),
    ]  # fmt: skip


def test_ids_given_twice(listed):
    listing = listed(
        "id,protein,ligand,label\n"
        "a,p.pdb,l.sdf,7\na,p.pdb,l.sdf,7.001\n"
        "b,p.pdb,l.sdf,7\nb,p.pdb,l.sdf,8\n"
        "c,p.pdb,l.sdf,7\nc,q.pdb,l.sdf,7\n"
    )
    rows = [candidate.row for candidate in listing.complexes]
    assert [(row.id, row.status, row.label and row.label.pk, row.notes) for row in rows] == [
        ("a", "ok", 7.0, ("data.csv: listed 2 times, the first counts",)),
        ("b", "ok", None, ("data.csv: listed 2 times, no label: they contradict each other (pK =7.00, =8.00)",)),
        ("c", "ok", 7.0, ("data.csv: listed 2 times, the first counts",)),
        ("c (line 7)", "rejected", None, ()),
    ]
    assert (rows[3].reason, rows[3].detail) == (
        "duplicate",
        "data.csv line 7: got c, which line 6 gives with other files; expected each id once. "
        "Give one of them another id.",
    )


def test_an_id_that_looks_like_a_repeated_one(listed):
    text = "id,protein,ligand,label\na,p.pdb,l.sdf,6.0\na,p.pdb,m.sdf,7\na (line 3),p.pdb,l.sdf,8\n,p.pdb,l.sdf,8\nline 5,p.pdb,l.sdf,8\n"
    rows = [listed_one.row for listed_one in listed(text).complexes]
    assert [(row.id, row.reason, row.label and row.label.pk) for row in rows] == [
        ("a", "", None), ("a (line 3)", "", 8.0), ("a (line 3) #2", "duplicate", None), ("line 5", "", 8.0), ("line 5 #2", "no_id", None),
    ]  # fmt: skip


def test_missing_columns(refused):
    assert refused("ID,pdb,label\n1,2,3\n") == (
        "data.csv: got the columns ID, pdb, label; expected id, protein, ligand, label and perhaps split and relation. "
        "Add protein and ligand; a label's cell may be empty. A table of labels alone goes to --index beside a folder."
    )
    assert refused("") == (
        "data.csv: got no columns; expected id, protein, ligand, label and perhaps split and relation. "
        "Add id and protein and ligand and label; a label's cell may be empty. A table of labels alone goes to --index beside a folder."
    )


def test_nothing_listed(refused):
    assert refused("id,protein,ligand,label\n") == (
        "data.csv: got no lines below the header; expected one complex per line. Add the complexes."
    )


def test_a_manifest_that_cannot_be_read(refused, tmp_path):
    assert refused("id,protein,ligand,label\n" + "x" * 200_000 + "\n") == (
        "data.csv: got field larger than field limit (131072); expected a CSV or Parquet file that can be read. "
        "Check the path and the file."
    )
    with pytest.raises(InputError) as caught:
        list_manifest(tmp_path / "no.csv")
    assert str(caught.value) == (
        f"manifest {tmp_path}/no.csv: got No such file or directory; expected a CSV or Parquet file that can be read. "
        "Check the path and the file."
    )


# ------------------------------------------------------------------------------------------------------------ Parquet


@pytest.fixture
def parquet(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet as pq

    def write(**columns):
        pq.write_table(pa.table(columns), tmp_path / "data.parquet")
        return list_manifest(tmp_path / "data.parquet")

    return write


def test_parquet(parquet):
    listing = parquet(
        Id=[7, 8], protein=["p.pdb", None], LIGAND=["l.sdf", "l.sdf"], label=[6.5, float("nan")], other=[1, 2]
    )
    ready, broken = listing.complexes
    assert ready == Listed(Row(id="7", status="ok", label=Label(pk=6.5)), ("p.pdb",), ("l.sdf",))
    assert (broken.row.id, broken.row.reason, broken.row.label) == ("8", "missing", None)
    assert broken.row.detail == (
        "data.parquet line 2: got no protein for 8; expected the path of its protein file. "
        "Fill it in, or remove the line."
    )


def test_parquet_without_a_column(parquet, tmp_path):
    with pytest.raises(InputError) as caught:
        parquet(id=["a"], protein=["p"], ligand=["l"])
    assert str(caught.value) == (
        f"manifest {tmp_path}/data.parquet: got the columns id, protein, ligand; "
        "expected id, protein, ligand, label and perhaps split and relation. Add label; a label's cell may be empty. A table of labels alone goes to --index beside a folder."
    )


def test_parquet_that_is_none(refused, tmp_path):
    pytest.importorskip("pyarrow")
    assert refused("id,protein\n", "data.parquet").startswith(
        "data.parquet: got Parquet magic bytes not found in footer"
    )


def test_parquet_without_pyarrow(refused, monkeypatch):
    real = builtins.__import__

    def no_pyarrow(name, *args, **kwargs):
        if name.startswith("pyarrow"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_pyarrow)
    assert refused("", "data.parquet") == (
        "data.parquet: got a Parquet file, but no pyarrow to read it with; expected pyarrow. "
        "Run `pip install 'compass-optimizer[parquet]'`, or give a CSV file."
    )


cells = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Z")), min_size=1, max_size=8)


@given(
    st.dictionaries(cells.filter(lambda s: s.lower() not in {"nan", "none", "null", "na", "n/a"}), cells, max_size=6)
)
def test_every_id_becomes_a_row(tmp_path_factory, proteins):
    import csv

    path = tmp_path_factory.getbasetemp() / "whatever.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "protein", "ligand", "label"])
        writer.writerow(["always", "p.pdb", "l.sdf", "7"])
        writer.writerows([id_, protein, "l.sdf", ""] for id_, protein in proteins.items())
    assert [candidate.row.id for candidate in list_manifest(path).complexes] == sorted({"always", *proteins})


SAME = Listed(Row(id="bär", status="ok", label=Label(pk=4.31, kind="Kd")), ("p.pdb",), ("l.sdf",))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_what_spreadsheets_write(listed, encoding, delimiter):
    text = "id,protein,ligand,label,note\r\nbär,p.pdb,l.sdf,Kd=49µM,\r\n".replace(",", delimiter)
    (candidate,) = listed(text.encode(encoding)).complexes
    label = candidate.row.label
    assert label.pk == pytest.approx(4.31, abs=0.005)
    row = candidate.row.model_copy(update={"label": label.model_copy(update={"pk": 4.31})})
    assert Listed(row, candidate.proteins, candidate.ligands) == SAME


def test_a_comma_within_a_cell(refused):
    text = "id,protein,ligand,name,logp,label\na,p.pdb,l.sdf,N,N-dimethyl,3.2,7.1\n"
    assert refused(text) == (
        "data.csv: got more cells than columns in line 2; expected one cell per column. Put what holds a ',' into \"quotes\"."
    )


def test_a_quote_that_is_never_closed(refused):
    text = 'id,protein,ligand,label,note\na,p.pdb,l.sdf,7,"odd\nb,p.pdb,l.sdf,8,\n'
    assert refused(text) == (
        "data.csv: got unexpected end of data; expected a CSV or Parquet file that can be read. "
        "Check the path and the file."
    )


@pytest.mark.parametrize(
    ("sign", "relation"), [("<", "<"), (">=", ">"), ("~", "~"), ("=", "="), ("", "="), ("nan", "=")]
)
def test_a_column_of_relations(listed, sign, relation):
    (candidate,) = listed(f"id,protein,ligand,label,relation\na,p.pdb,l.sdf,6.5,{sign}\n").complexes
    assert (candidate.row.label, candidate.row.notes) == (Label(pk=6.5, relation=relation), ())


@pytest.mark.parametrize(("label", "sign"), [("6.5", "?"), ("Kd<10mM", "<")])
def test_a_relation_that_says_nothing_or_otherwise(listed, label, sign):
    (candidate,) = listed(f"id,protein,ligand,label,relation\na,p.pdb,l.sdf,{label},{sign}\n").complexes
    assert candidate.row.label is None
    (note,) = candidate.row.notes
    assert note.startswith(f"no label: data.csv line 2: got the relation {sign!r} of the pK ")
    assert note.endswith(
        "expected one of = < > ~, as in the binding data. Write the bound of the pK: Kd<10mM is a pK above 2."
    )
