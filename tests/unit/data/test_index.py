"""PDBbind's index files, in every shape they come in."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.data.scan.index import IndexEntry, choose_index, index_warnings, read_index, require_entries
from compass.data.scan.listing import agreed_label, read_label, same_label
from compass.data.scan.rows import Label
from compass.errors import InputError


@pytest.fixture
def write(tmp_path):
    def writer(text, name="INDEX_general_PL_data.2020"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_index(path)

    return writer


# ------------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("text", "pk", "relation", "kind"),
    [
        ("6.4", 6.4, "=", None),
        ("-0.3", -0.3, "=", None),
        ("Kd=49uM", 4.31, "=", "Kd"),
        ("Kd<10mM", 2.0, ">", "Kd"),
        ("Ki>100uM", 4.0, "<", "Ki"),
        ("IC50<=1nM", 9.0, ">", "IC50"),
        ("Kd>=1nM", 9.0, "<", "Kd"),
        ("Ki~5pM", 11.3, "~", "Ki"),
    ],
)
def test_labels_are_about_pk(text, pk, relation, kind):
    label = read_label(text, where="here")
    assert label == Label(pk=label.pk, relation=relation, kind=kind)
    assert label.pk == pytest.approx(pk, abs=0.005)


@pytest.mark.parametrize("text", ["49000", "-42.1", "-4.2", "4.9e-05", "-0.001", "nan", "inf"])
def test_a_number_that_is_no_pk(text):
    with pytest.raises(InputError) as caught:
        read_label(text, where="here")
    assert str(caught.value) == (
        f"here: got {text!r}; expected a pK from -2 to 20. "
        "Give -log10 of the molar value, or the value with its unit, for example Kd=49uM."
    )


@given(st.floats(-5, 20), st.sampled_from("=<>~"), st.floats(-5, 20), st.sampled_from("=<>~"))
def test_saying_the_same_is_mutual(pk, relation, other_pk, other_relation):
    one, other = Label(pk=pk, relation=relation), Label(pk=other_pk, relation=other_relation, kind="Kd")
    assert same_label(one, one)
    assert same_label(one, other) == same_label(other, one)


def test_what_is_listed_twice():
    one, near, far = Label(pk=6.0), Label(pk=6.004, kind="Ki"), Label(pk=6.0, relation="<")
    assert agreed_label([one, near], where="INDEX") == (one, "INDEX: listed 2 times, the first counts")
    assert agreed_label([None, near, None], where="INDEX") == (near, "INDEX: listed 3 times, the first counts")
    assert agreed_label([None, None], where="INDEX") == (None, "INDEX: listed 2 times, the first counts")
    assert agreed_label([one, far, one], where="INDEX") == (
        None,
        "INDEX: listed 3 times, no label: they contradict each other (pK =6.00, <6.00, =6.00)",
    )


# -------------------------------------------------------------------------------------------------------------- lines


@pytest.mark.parametrize(
    ("line", "entry"),
    [
        ("2tpi  2.10  1982  Kd=49uM       // 2tpi.pdf (2-mer)",
         IndexEntry("2tpi", Label(pk=-math.log10(49e-6), kind="Kd"), 2.1, 1982)),
        ("1fkf 1.70 1991 9.70 Kd=0.2nM // 1fkf.pdf (FK5)",
         IndexEntry("1fkf", Label(pk=-math.log10(0.2e-9), kind="Kd"), 1.7, 1991)),
        ("6rsa   NMR  1986  Ki=40uM // 6rsa.pdf (UVC)", IndexEntry("6rsa", Label(pk=-math.log10(40e-6), kind="Ki"), None, 1986)),
        ("4cts  2.90  1984  2.00  Kd<10mM  // 4cts.pdf (OAA) incomplete",
         IndexEntry("4cts", Label(pk=2.0, relation=">", kind="Kd"), 2.9, 1984, ("INDEX_general_PL_data.2020 line 3: incomplete",))),
        ("3ZZF  2.20  2012  IC50~1mM", IndexEntry("3ZZF", Label(pk=3.0, relation="~", kind="IC50"), 2.2, 2012)),
        ("9abc  2  2020  7.25", IndexEntry("9abc", Label(pk=7.25), 2.0, 2020)),
        ("9abc\t2.0\t2020\t7.25\tKi = 56 nM\t// a tab", IndexEntry("9abc", Label(pk=-math.log10(56e-9), kind="Ki"), 2.0, 2020)),
    ],
)  # fmt: skip
def test_lines(write, line, entry):
    index = write(f"# a comment\n\n{line}\n")
    assert index.unread == ()
    (found,) = index.entries.values()
    assert found == entry


def test_a_label_that_cannot_be_read(write):
    index = write("1abc 2.0 2001 Ka=3uM // x\n2abc 2.0 2001 6.50 Ka=3uM // x\n3abc 2.0 2001 // x\n")
    expected = "expected Kd, Ki or IC50, one of = < > ~, a number above zero and a unit from fM to M. Write it as the PDBbind index does, for example Kd=49uM."
    name = "INDEX_general_PL_data.2020"
    assert index.entries["1abc"] == IndexEntry(
        "1abc", None, 2.0, 2001, (f"no label: {name} line 1: got 'Ka=3uM'; {expected}",)
    )
    assert index.entries["2abc"] == IndexEntry(
        "2abc", Label(pk=6.5), 2.0, 2001, (f"the label is the pK column's: {name} line 2: got 'Ka=3uM'; {expected}",)
    )
    assert index.entries["3abc"].notes == (f"no label: {name} line 3: got ''; {expected}",)


def test_a_column_that_says_something_else(write):
    entry = write("1abc 2.0 2001 9.70 Kd=2nM // x\n").entries["1abc"]
    assert entry.label.pk == pytest.approx(8.70, abs=0.005)
    assert entry.notes == (
        "INDEX_general_PL_data.2020 line 1: the pK column gives 9.7, the binding data 8.70, which is used",
    )


def test_the_encodings_and_line_ends_of_old_files(write):
    lines = ["# Universit\u00e9", "1abc 2.0 2001 Kd=3\u00b5M // x", "2abc 2.0 2001 Kd=3\u00b5M // x"]
    data = b"\xef\xbb\xbf" + b"\r\n".join([lines[0].encode("latin-1"), lines[1].encode("latin-1"), lines[2].encode()])
    index = write(data)
    assert {code: entry.label.pk for code, entry in index.entries.items()} == {
        "1abc": pytest.approx(5.523, abs=1e-3),
        "2abc": pytest.approx(5.523, abs=1e-3),
    }


def test_codes_listed_twice(write):
    index = write("1abc 2.0 2001 Kd=1uM\n1ABC 1.5 2002 Ki=1uM\n2abc 2.0 2001 Kd=1uM\n2abc 2.0 2001 Kd=1nM\n")
    name = "INDEX_general_PL_data.2020"
    assert index.entries["1abc"] == IndexEntry(
        "1abc", Label(pk=6.0, kind="Kd"), 2.0, 2001, (f"{name}: listed 2 times, the first counts",)
    )
    assert index.entries["2abc"].label is None
    assert index.entries["2abc"].notes == (
        f"{name}: listed 2 times, no label: they contradict each other (pK =6.00, =9.00)",
    )


@st.composite
def lines(draw):
    """(a line, the entry it stands for)."""
    code = draw(st.from_regex(r"[1-9][a-z0-9]{3}", fullmatch=True))
    resolution = draw(st.none() | st.decimals(min_value="0.5", max_value="9.9", places=2))
    year = draw(st.integers(1970, 2030))
    kind = draw(st.sampled_from(["Kd", "Ki", "IC50"]))
    relation = draw(st.sampled_from(["=", "<", ">", "<=", ">=", "~"]))
    number = draw(st.decimals(min_value="0.01", max_value="999", places=2))
    comment = draw(st.sampled_from(["", " // 1abc.pdf (LIG)", "//x"]))
    pk = -math.log10(float(number) * 1e-9)
    column = f"{pk:.2f}  " if draw(st.booleans()) else ""
    line = f"{code}  {resolution or 'NMR'}  {year}  {column}{kind}{relation}{number}nM{comment}"
    label = Label(pk=pk, relation={"=": "=", "<": ">", ">": "<", "~": "~"}[relation[0]], kind=kind)
    return line, IndexEntry(code, label, None if resolution is None else float(resolution), year)


@given(lines())
def test_whatever_pdbbind_writes_is_read(tmp_path_factory, written):
    line, entry = written
    path = tmp_path_factory.getbasetemp() / "INDEX_written"
    path.write_text(line + "\n")
    index = read_index(path)
    assert index.unread == ()
    assert index.entries == {entry.code: entry}


# -------------------------------------------------------------------------------------------------------- whole files


def test_a_missing_file(tmp_path):
    with pytest.raises(InputError) as caught:
        read_index(tmp_path / "INDEX")
    assert str(caught.value) == (
        f"index {tmp_path}/INDEX: got No such file or directory; expected a PDBbind index file. "
        "Check the path, or leave it out to search the folder."
    )


@pytest.mark.parametrize(
    ("text", "got"),
    [("", "no entries"), ("# only\n", "no entries"), ("hello\n", "'hello' in line 1"),
     ("#\n3zzf  2012  Q01217  KINASE\n", "'3zzf  2012  Q01217  KINASE' in line 2")],
)  # fmt: skip
def test_a_file_that_is_no_index(write, text, got):
    index = write(text)
    with pytest.raises(InputError) as caught:
        require_entries(index)
    assert str(caught.value) == (
        f"index {index.path}: got {got}; expected lines such as '2tpi  2.10  1982  Kd=49uM // 2tpi.pdf'. "
        "Give an index file of PDBbind, for example INDEX_general_PL_data.2020."
    )


def entries(*codes):
    return "".join(f"{code} 2.0 2001 Kd=1uM // x\n" for code in codes)


def test_the_index_that_labels_most_is_used(write):
    refined = write(entries("1abc"), "INDEX_refined_data.2020")
    general = write(entries("1abc", "2abc", "9zzz"), "INDEX_general_PL.2020")
    names = write("1abc  2012  Q01217  KINASE\n", "INDEX_general_PL_name.2020")
    best, warnings = choose_index([refined, names, general], {"1abc", "2abc"})
    assert best == general
    assert warnings == ("labels are from INDEX_general_PL.2020 (2); INDEX_refined_data.2020 would add none",)


def test_each_code_has_its_label_from_its_own_index(write):
    """PL, NL and PP files together, and a file of R factors."""
    general = write(entries("1abc", "2abc") + "3abc 2.0 2001 Kd>1pM // x\n", "INDEX_general_PL.2020")
    nucleic = write(
        "4abc 2.0 2001 Kd=1nM // x\n3abc 2.0 2001 Kd=1mM // x\n5abc 2.0 2001 Kd=1nM // x\n", "INDEX_general_NL.2020"
    )
    factors = write("".join(f"{n}abc 2.0 2001 0.2{n} -1.000 -1.000\n" for n in range(1, 6)), "INDEX_structure.2020")
    best, warnings = choose_index([factors, nucleic, general], {"1abc", "2abc", "3abc", "4abc"})
    assert {code: entry.label and round(entry.label.pk, 2) for code, entry in best.entries.items()} == {
        "1abc": 6.0, "2abc": 6.0, "3abc": 12.0, "4abc": 9.0,
    }  # fmt: skip
    assert best.entries["3abc"].notes == ("INDEX_general_NL.2020 gives another label: pK =3.00",)
    assert best.others == (nucleic.path,)
    assert warnings == (
        "labels are from INDEX_general_PL.2020 (3), INDEX_general_NL.2020 (1)",
        "no affinities in INDEX_structure.2020: not used for labels",
    )


@pytest.mark.parametrize(
    "lines",
    ["1abc 2.0 2001 0.200 -1.000 -1.000\n2abc 2.0 2001 0.169 0.21 -1.000\n", "1abc 2.0 2001 0.2\n2abc 2.0 2001 0.17\n",
     "1abc 2.0 2001 12 // x\n2abc 2.0 2001 21.5 // x\n1rst 2.0 2001 21.5 // x\n"],
)  # fmt: skip
def test_numbers_that_are_no_affinities(write, lines):
    index = write(lines, "INDEX_structure.2020")
    assert len(index.entries) >= 2
    assert not index.has_labels
    with pytest.raises(InputError, match="got entries without affinities; expected lines such as"):
        require_entries(index)


def test_a_bare_number_is_no_binding_data(write):
    index = write("1abc 2.0 2001 6.00 Kd=1uM // x\n2abc 2.0 2001 6.00  12 // x\n3abc 2.0 2001 Kd=1uM // x\n")
    assert index.entries["2abc"].label == Label(pk=6.0)
    assert index.entries["2abc"].notes == (
        "INDEX_general_PL_data.2020 line 2: 12 is no binding data; the pK column counts",
    )


@pytest.mark.parametrize("resolution", [".86", "0.86", "1.", "2", "NMR", "10.5"])
def test_resolutions(write, resolution):
    (entry,) = write(f"5mnn   {resolution}  2018   3.84  Kd=143uM      // 5mng.pdf (MRZ)\n").entries.values()
    assert entry.resolution == (None if resolution == "NMR" else float(resolution))
    assert entry.label.pk == pytest.approx(3.84, abs=0.01)


def test_lists_without_references(write):
    """CASF's CoreSet.dat: a number of the target follows the binding data."""
    index = write(
        "#code  resl  year    logKa      Ka          target\n4llx  1.75  2013     2.89    Ki=1.29mM       1\n"
        "1abc  2.35  2012     5.00    Ki<10uM         2\n2abc  2.35  2012  6.00  Kd = 1 uM  3\n",
        "CoreSet.dat",
    )
    assert index.entries["4llx"].label == Label(pk=index.entries["4llx"].label.pk, kind="Ki")
    assert index.entries["1abc"].label == Label(pk=5.0, relation=">", kind="Ki")
    assert index.entries["2abc"].label == Label(pk=6.0, kind="Kd")
    assert all(entry.notes == () for entry in index.entries.values())


@pytest.mark.parametrize(
    "remark", ["covalent complex", "incomplete ligand structure", "isomer", "Ki=2nM for the R form"]
)
def test_remarks_are_notes(write, remark):
    (entry,) = write(f"5tln 2.30 1982 6.37 Ki=0.43uM // 5tln.pdf (BAN (R)) {remark}\n").entries.values()
    assert entry.notes == (f"INDEX_general_PL_data.2020 line 1: {remark}",)
    assert entry.label.kind == "Ki"


@pytest.mark.parametrize(
    ("sign", "relation"), [("=~", "~"), ("~=", "~"), ("≤", ">"), ("≥", "<"), ("≈", "~"), ("=<", ">")]
)
def test_signs_of_two_characters(sign, relation):
    assert read_label(f"Kd{sign}1uM", where="here") == Label(pk=6.0, relation=relation, kind="Kd")


def test_a_table_of_labels(write):
    """LP-PDBBind's columns."""
    index = write(
        ",header,smiles,resolution,date,new_split,kd/ki,value,covalent\n"
        "6r8o,HYDROLASE,C,.97,2019-04-02,train,Ki=0.1uM//incorrect,7.0,False\n"
        "2abc,HYDROLASE,C,2.0,2001,test,,6.25,True\n3abc,HYDROLASE,C,NMR,,val,,,False\n",
        "LP_PDBBind.csv",
    )
    assert index.entries["6r8o"] == IndexEntry("6r8o", Label(pk=7.0, kind="Ki"), 0.97, 2019, split="train")
    assert index.entries["2abc"] == IndexEntry(
        "2abc", Label(pk=6.25), 2.0, 2001, ("LP_PDBBind.csv line 3: covalent complex",), split="test"
    )
    entry = index.entries["3abc"]
    assert (entry.label, entry.resolution, entry.year, entry.split) == (None, None, None, "val")
    assert entry.notes[0].startswith("no label: LP_PDBBind.csv line 4: got ''")
    with pytest.raises(InputError, match="expected a column of ids"):
        write("a,b\n1,2\n", "x.csv")


def test_ties_go_by_name(write):
    same = [
        write(entries("1abc"), name) for name in ("INDEX_b", "INDEX_a", "INDEX_data", "INDEX_PL", "INDEX_PL_data.2020")
    ]
    order = []
    while same:
        best, _ = choose_index(same, {"1abc"})
        order.append(best.path.name)
        same.remove(best)
    assert order == ["INDEX_PL_data.2020", "INDEX_PL", "INDEX_data", "INDEX_a", "INDEX_b"]


def test_without_an_index(write):
    assert choose_index([], set()) == (None, ("no index file (INDEX…) found: no complex has a label",))
    assert choose_index([write("rubbish\n", "INDEX_x"), write("", "INDEX_y")], set()) == (
        None, ("no index file (INDEX…) found (INDEX_x, INDEX_y: no affinities): no complex has a label",),
    )  # fmt: skip


def test_what_is_odd_about_the_index(write):
    index = write(entries("1abc") + "Kd = 3\n" + "x" * 99)
    assert index_warnings(index, {"2abc"}) == (
        "INDEX_general_PL_data.2020 labels none of the complexes",
        "INDEX_general_PL_data.2020: lines that are not entries: 2, the first is line 2: 'Kd = 3'",
    )
    assert index_warnings(write(entries("1abc")), {"1abc"}) == ()


# --------------------------------------------------------------------------------------- remarks, R factors, relations


@pytest.mark.parametrize(
    ("line", "note"),
    [
        ("1abc  2.0  2015  Kd=49uM (ABC) covalent", "(ABC) covalent"),
        ("1abc  2.0  2015  Kd=49uM  Ki=3nM", "Ki=3nM"),
        ("1abc  2.0  2015  Kd=49uM // x (incomplete ligand structure)", "x (incomplete ligand structure)"),
        ("1abc  2.0  2015  Kd=49uM // x (LIG) isomer of XYZ", "isomer of XYZ"),
    ],
)
def test_remarks_are_kept_wherever_they_stand(write, line, note):
    entry = write(line).entries["1abc"]
    assert entry.label is not None
    assert entry.notes == (f"INDEX_general_PL_data.2020 line 1: {note}",)


def test_r_factors_are_no_labels_whatever_a_comment_says(write):
    found = write("# code, resolution, year, R-factor, free R-factor, log K\n1abc  2.0  2015  0.150  0.200  0.250\n")
    assert not found.has_labels


@pytest.mark.parametrize(("cell", "relation"), [("<", "<"), (">=", ">"), ("~", "~"), ("=", "="), ("", "=")])
def test_a_table_with_relations(write, cell, relation):
    entry = write(f"id,pk,relation\n1abc,5.5,{cell}\n", "INDEX.csv").entries["1abc"]
    assert entry.label == Label(pk=5.5, relation=relation)
    assert entry.notes == ()


@pytest.mark.parametrize("line", ["1abc,5.5,<<,", "1abc,5.5,<,Kd<3.2uM"])
def test_a_relation_that_says_nothing_or_otherwise(write, line):
    entry = write(f"id,pk,relation,kd/ki\n{line}\n", "INDEX.csv").entries["1abc"]
    assert entry.label is None
    (note,) = entry.notes
    assert (
        "expected one of = < > ~, as in the binding data. Write the bound of the pK: Kd<10mM is a pK above 2." in note
    )


def test_a_relation_beside_binding_data(write):
    entry = write("id,pk,relation,kd/ki\n1abc,5.5,>,Kd<3.2uM\n", "INDEX.csv").entries["1abc"]
    assert (entry.label.relation, entry.label.kind, entry.notes) == (">", "Kd", ())


def test_a_range_without_a_reference_is_no_value(write):
    entry = write("8n7h  .86  1999  Kd>49 uM-9 uM\n").entries["8n7h"]
    assert entry.label is None
    assert entry.notes[-1].startswith("no label: INDEX_general_PL_data.2020 line 1: got 'Kd>49'")
