"""What fuzzing found in the files of a dataset: pipes, bombs, crowds of atoms, lines without end."""

import gzip
import os

import pytest

from compass.data.graphs.graph_store import open_store
from compass.data.scan.index import read_index
from compass.data.scan.manifest import list_manifest
from compass.data.scan.reading import Reader, ReadingRules
from compass.data.scan.tree import list_tree
from compass.data.splits.split_files import read_clusters, resolver
from compass.data.structures.ligand import read_ligand
from compass.data.structures.protein import read_protein
from compass.data.structures.structure_file import Reason, StructureError
from compass.errors import InputError
from compass.optimizer_config import DatasetRules, OptimizerConfig, StructureRules

ATOM = "ATOM      1  CA  ALA A   1      11.000  12.000  13.000  1.00  0.00           C  \n"


def refused(read, *given):
    with pytest.raises(StructureError) as caught:
        read(*given)
    return caught.value


@pytest.mark.parametrize("name", ["x.pdb", "x.cif.gz", "l.sdf", "l.mol2"])
def test_a_structure_is_never_awaited_from_a_pipe(tmp_path, name):
    os.mkfifo(tmp_path / name)
    read = read_ligand if name.startswith("l") else lambda path: read_protein(path, StructureRules())
    error = refused(read, tmp_path / name)
    assert (error.reason, error.got) == (
        Reason.UNREADABLE,
        "a file that cannot be opened (a pipe or a device, not a file)",
    )


@pytest.mark.parametrize(
    ("read", "name"),
    [(read_index, "INDEX_x"), (list_manifest, "m.csv"), (list_manifest, "m.parquet")],
    ids=["index", "csv", "parquet"],
)
def test_a_table_is_never_awaited_from_a_pipe(tmp_path, read, name):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    os.mkfifo(tmp_path / name)
    with pytest.raises(InputError, match="got a pipe or a device, not a file; expected a"):
        read(tmp_path / name)


def test_a_list_is_never_awaited_from_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "c.tsv")
    with pytest.raises(InputError, match="got a pipe or a device, not a file; expected a text file"):
        read_clusters(str(tmp_path / "c.tsv"), resolver(["x"]))


def test_a_dataset_with_pipes_and_devices_has_rejected_rows(tmp_path):
    folder = tmp_path / "1abc"
    folder.mkdir()
    os.mkfifo(folder / "1abc_protein.pdb")
    (folder / "1abc_ligand.sdf").symlink_to("/dev/zero")
    listing = list_tree(tmp_path, DatasetRules())
    reading = Reader(listing.root, ReadingRules.of(OptimizerConfig()))(listing.complexes[0])
    assert (reading.outcome.status, reading.outcome.reason) == ("rejected", "unreadable")


def test_a_store_of_graphs_is_never_awaited_from_a_pipe(tmp_path):
    os.mkfifo(tmp_path / "x.graphs")
    assert open_store(tmp_path / "x.graphs", "d") is None


# ----------------------------------------------------------------------------------------------------------- structures


def test_a_crowd_of_atoms_at_one_place_is_refused(tmp_path):
    (tmp_path / "x.pdb").write_text(ATOM * 20_000)
    error = refused(read_protein, tmp_path / "x.pdb", StructureRules())
    assert error.reason is Reason.OVERLAPPING
    assert str(error) == (
        f"{tmp_path / 'x.pdb'}: got 20,000 atoms within 3 Å; expected atoms apart from each other. Fetch or export the file again."
    )


def test_a_crowd_in_a_ligand_is_refused(tmp_path):
    rows = "".join(f"M  V30 {i} C 1 1 1 0\n" for i in range(1, 10_001))
    text = f"x\n\n\n  0  0  0     0  0            999 V3000\nM  V30 BEGIN CTAB\nM  V30 COUNTS 10000 0 0 0 0\nM  V30 BEGIN ATOM\n{rows}"
    (tmp_path / "l.sdf").write_text(f"{text}M  V30 END ATOM\nM  V30 END CTAB\nM  END\n$$$$\n")
    assert refused(read_ligand, tmp_path / "l.sdf").reason is Reason.OVERLAPPING


def test_thousands_of_ends_are_read_in_one_pass(tmp_path):
    lines = [
        f"{ATOM[:22]}{i % 9999:4d}{ATOM[26:30]}{i % 200 * 5:8.3f}{i // 200 * 5:8.3f}{ATOM[46:]}END\n"
        for i in range(5_000)
    ]
    (tmp_path / "x.pdb").write_text("".join(lines))
    table = read_protein(tmp_path / "x.pdb", StructureRules())
    assert table.notes[0] == "1 atoms after END are part of the structure"


def test_empty_records_are_passed_over_up_to_a_number(tmp_path):
    empty, full = (
        "x\n\n\n  0  0\nM  END\n$$$$\n",
        ("x\n\n\n  1  0\n    1.0000    2.0000    3.0000 C   0  0\nM  END\n$$$$\n"),
    )
    (tmp_path / "l.sdf").write_text(empty * 999 + full)
    assert len(read_ligand(tmp_path / "l.sdf")) == 1
    (tmp_path / "l.sdf").write_text(empty * 1_000 + full)
    assert refused(read_ligand, tmp_path / "l.sdf").reason is Reason.NO_LIGAND


# --------------------------------------------------------------------------------------------------------------- tables


def test_a_line_without_end_is_no_entry_of_an_index(tmp_path):
    (tmp_path / "INDEX_x").write_text("1abc 2.0 2000 " + "5.0 " * 5_000 + "\n2xyz 2.0 2000 Kd=1uM\n")
    index = read_index(tmp_path / "INDEX_x")
    assert (list(index.entries), index.unread[0][0]) == (["2xyz"], 1)


def _parquet(path, n_rows, cell):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    column = pa.DictionaryArray.from_arrays(pa.array([0] * n_rows, pa.int32()), pa.array([cell]))
    parquet.write_table(pa.table(dict.fromkeys(("id", "protein", "ligand", "label"), column)), path)
    return path


def test_a_small_parquet_file_of_too_many_lines_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"got more than 1,000,000 lines; expected a CSV or Parquet file"):
        list_manifest(_parquet(tmp_path / "m.parquet", 1_000_001, "x"))


def test_a_small_parquet_file_of_megabytes_a_cell_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"got a cell of more than 10,000 characters; expected a CSV or Parquet file"):
        list_manifest(_parquet(tmp_path / "m.parquet", 2_000, "x" * 1_000_000))


def test_cells_of_text_that_is_written_out_are_read_and_limited(tmp_path):
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    table = {
        "id": ["1abc", None],
        "protein": ["a.pdb", "b.pdb"],
        "ligand": ["a.sdf", "b.sdf"],
        "label": ["Kd=1uM", None],
    }
    parquet.write_table(pa.table(table), tmp_path / "m.parquet", use_dictionary=False)
    listing = list_manifest(tmp_path / "m.parquet")
    assert [(one.row.id, one.proteins) for one in listing.complexes] == [("1abc", ("a.pdb",)), ("line 2", ())]
    long = {name: [f"{i}" * 300_000 for i in range(10)] for name in table}
    parquet.write_table(pa.table(long), tmp_path / "m.parquet", use_dictionary=False)
    with pytest.raises(InputError, match=r"got a cell of more than 10,000 characters"):
        list_manifest(tmp_path / "m.parquet")


@pytest.mark.parametrize(
    ("name", "content", "reason", "words"),
    [
        ("a.pdb", b"\n" * 2_000_001, "too_many_atoms", "got more than 2,000,000 lines; expected at most 2,000,000."),
        ("a.pdb", b"\r" * 2_000_001, "too_many_atoms", "got more than 2,000,000 lines; expected at most 2,000,000."),
        ("a.pdb.gz", gzip.compress(b"", mtime=0) * 20_001, "unreadable", "got a gzip stream of more than 20,000 parts"),
        (
            "a.cif",
            b"data_\n" * 100_001,
            "unreadable",
            "got more than 100,000 data blocks; expected the block of one entry",
        ),
    ],
    ids=["line feeds", "carriage returns", "gzip members", "blocks"],
)
def test_many_small_parts_are_refused_before_they_take_time(tmp_path, name, content, reason, words):
    """64 MiB of each took from half a minute to an hour."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(StructureError) as caught:
        read_protein(tmp_path / name, StructureRules())
    assert caught.value.reason == reason
    assert words in str(caught.value)


def test_residues_that_take_turns_are_refused_before_they_are_compared(tmp_path):
    """Two numbers in turn, 20,000 times, took minutes."""
    path, line = tmp_path / "a.pdb", "ATOM  {:5d}  CA  ALA A{:4d}    {:8.3f}{:8.3f}  13.000  1.00  0.00           C  \n"
    path.write_text("".join(line.format(i, i % 2, 5.0 * (i % 90), 5.0 * (i // 90)) for i in range(2_004)))
    error = refused(lambda: read_protein(path, StructureRules()))
    assert (error.reason, error.got) == (
        Reason.UNREADABLE,
        "one residue number in more than 1,000 parts of the file",
    )


def test_waters_whose_numbers_begin_again_are_read(tmp_path):
    path, line = tmp_path / "a.pdb", "HETATM{:5d}  O   HOH W{:4d}    {:8.3f}{:8.3f}  13.000  1.00  0.00           O  \n"
    path.write_text("".join(line.format(i, i % 50, 5.1 * (i % 90), 5.1 * (i // 90)) for i in range(2_000)))
    assert len(read_protein(path, StructureRules(waters="keep"))) == 2_000
