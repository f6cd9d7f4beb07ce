"""Every fault a file can have before its chemistry matters, to the letter."""

from __future__ import annotations

import gzip
import pickle

import numpy as np
import pytest

from compass.data.structures.ligand import read_ligand
from compass.data.structures.protein import read_protein
from compass.data.structures.structure_file import Reason, StructureError
from compass.errors import InputError
from compass.optimizer_config import StructureRules

RULES = StructureRules()


def read(path):
    return read_ligand(path) if ".sdf" in path.name.lower() or "mol" in path.name else read_protein(path, RULES)


def check(path, reason, message):
    with pytest.raises(StructureError) as caught:
        read(path)
    assert caught.value.reason is reason
    assert str(caught.value) == f"{path}: {message}"


def test_missing_file(tmp_path):
    check(tmp_path / "p.pdb", Reason.MISSING, "got no such file; expected a PDB or mmCIF file. Check the path.")


def test_folder(tmp_path):
    (tmp_path / "p.cif").mkdir()
    check(tmp_path / "p.cif", Reason.MISSING, "got a folder; expected a PDB or mmCIF file. Give the file inside it.")


@pytest.mark.parametrize(
    ("name", "got"), [("p.xyz", "the extension '.xyz'"), ("p", "no extension"), ("p.gz", "no extension")]
)
def test_wrong_extension_of_protein(tmp_path, name, got):
    check(
        tmp_path / name,
        Reason.WRONG_EXTENSION,
        f"got {got}; expected .pdb, .ent, .cif or .mmcif, plain or followed by .gz. "
        "Convert the file, or rename it if it is in one of these formats.",
    )


def test_wrong_extension_of_ligand(tmp_path):
    with pytest.raises(StructureError) as caught:
        read_ligand(tmp_path / "l.pdbqt.gz")
    assert str(caught.value) == (
        f"{tmp_path / 'l.pdbqt.gz'}: got the extension '.pdbqt'; expected .sdf, .sd, .mol or .mol2, plain or followed "
        "by .gz. Convert the file, or rename it if it is in one of these formats."
    )


@pytest.mark.parametrize("data", [b"", b" \n\n"])
@pytest.mark.parametrize(("name", "what"), [("p.pdb", "a PDB or mmCIF file"), ("l.sdf", "an SDF or MOL2 file")])
def test_empty_file(tmp_path, name, what, data):
    path = tmp_path / name
    path.write_bytes(data)
    check(path, Reason.EMPTY, f"got an empty file; expected {what}. Fetch or export the file again.")


def test_empty_gzipped_file(tmp_path):
    path = tmp_path / "p.pdb.gz"
    path.write_bytes(gzip.compress(b"", mtime=0))
    check(path, Reason.EMPTY, "got an empty file; expected a PDB or mmCIF file. Fetch or export the file again.")
    path.write_bytes(b"")
    check(path, Reason.EMPTY, "got an empty file; expected a PDB or mmCIF file. Fetch or export the file again.")


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\0\0\0", gzip.compress(b"ATOM", mtime=0)])
def test_binary_file(tmp_path, data):
    path = tmp_path / "p.pdb"
    path.write_bytes(data)
    check(
        path,
        Reason.BINARY,
        "got binary data; expected a PDB or mmCIF file as text. "
        "If the file is gzipped, end its name with .gz; otherwise export it again as text.",
    )


def test_truncated_gzip(tmp_path, pdb):
    path = tmp_path / "p.pdb.gz"
    path.write_bytes(gzip.compress(str(pdb.peptide()).encode())[:-20])
    check(path, Reason.TRUNCATED, "got a gzip stream that ends early; expected a complete file. Fetch the file again.")


def test_gz_in_name_only(tmp_path, pdb):
    path = tmp_path / "p.pdb.gz"
    path.write_text(str(pdb.peptide()))
    check(
        path,
        Reason.UNREADABLE,
        "got data that is not gzip; expected a gzipped file, as its name says. "
        "Take .gz off the name if the file is plain; otherwise fetch it again.",
    )


def test_truncated_pdb(tmp_path, pdb):
    path = tmp_path / "p.pdb"
    path.write_text("\n".join(pdb.peptide().lines)[:-40])
    check(
        path,
        Reason.TRUNCATED,
        "got line 15 cut short at column 40; expected coordinates in columns 31 to 54. Fetch the file again.",
    )


def test_damaged_pdb_coordinate(tmp_path, pdb):
    path = tmp_path / "p.pdb"
    path.write_text(str(pdb.peptide()).replace("   1.200   0.800", "********   0.800"))
    check(
        path,
        Reason.UNREADABLE,
        "got '******** 0.800 0.000' in 'ATOM 2 CA ALA A 1'; expected coordinates in columns 31 to 54. "
        "Fetch or export the file again.",
    )


def test_coordinate_that_is_not_a_number(tmp_path, pdb):
    path = tmp_path / "p.pdb"
    path.write_text(str(pdb.peptide()).replace("   1.200   0.800", "     nan   0.800"))
    check(
        path,
        Reason.UNREADABLE,
        "got 'nan 0.800 0.000' in 'ATOM 2 CA ALA A 1'; expected coordinates in columns 31 to 54. "
        "Fetch or export the file again.",
    )


def test_pdb_without_atoms(tmp_path):
    path = tmp_path / "p.pdb"
    path.write_text("REMARK nothing here\nEND\n")
    check(
        path,
        Reason.NO_ATOMS,
        "got no atoms; expected atom records with coordinates. Check that the file is in PDB format, as its name says.",
    )


def test_mmcif_without_atoms(tmp_path):
    path = tmp_path / "p.cif"
    path.write_text("data_x\n_entry.id x\n")
    check(
        path,
        Reason.NO_ATOMS,
        "got no atoms; expected atom records with coordinates. "
        "Check that the file is in mmCIF format, as its name says.",
    )


def test_mmcif_that_is_something_else(tmp_path):
    path = tmp_path / "p.cif"
    path.write_text("hello world\n")
    check(
        path,
        Reason.UNREADABLE,
        "got string:1:0(0): expected block header (data_); expected mmCIF categories. Fetch or export the file again.",
    )


def test_truncated_sdf(tmp_path, methanol_at):
    path = tmp_path / "l.sdf"
    path.write_text(methanol_at()[:120])
    check(
        path,
        Reason.TRUNCATED,
        "got a molecule that ends before its 'M  END'; expected a complete file. Fetch the file again.",
    )


def test_unreadable_sdf(tmp_path):
    path = tmp_path / "l.sdf"
    path.write_text("no molecule at all\nM  END\n$$$$\n")
    check(
        path,
        Reason.UNREADABLE,
        "got the counts line ''; expected an SDF or MOL2 file. Fetch or export the file again.",
    )


def test_pickles_with_its_reason():
    error = StructureError(Reason.NO_3D, "l.sdf", got="a", expected="b", fix="C.")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert isinstance(again, InputError)
    assert (str(again), again.reason, again.fix) == (str(error), Reason.NO_3D, "C.")


def test_extension_case_and_byte_order_mark_do_not_matter(tmp_path, pdb):
    path = tmp_path / "P.PDB"
    path.write_bytes(b"\xef\xbb\xbf" + str(pdb.peptide()).encode())
    assert len(read_protein(path, RULES)) == 15


def test_plain_and_gzipped_read_alike(tmp_path, pdb, methanol_at):
    for name, text in {"p.pdb": str(pdb.peptide()), "l.sdf": methanol_at()}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(text.encode()))
        plain, packed = read(tmp_path / name), read(tmp_path / f"{name}.gz")
        np.testing.assert_array_equal(plain.positions, packed.positions)
        np.testing.assert_array_equal(plain.elements, packed.elements)


# ------------------------------------------------------------------------------------------------------ bytes and bounds

ATOM = "ATOM  {:5d}  CA  ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00  0.00           C  \n"


@pytest.mark.parametrize("name", ["C\xc3\xa5", "\xe9CA", "\x85\x0c\x1d"])
def test_columns_are_bytes(tmp_path, name):
    """A byte that is no ASCII never moves the columns behind it, and ends no line."""
    path = tmp_path / "p.pdb"
    plain = (ATOM.format(1, 1, 1, 2, 3) + ATOM.format(2, 2, 4, 5, 6)).encode()
    path.write_bytes(plain)
    expected = read(path).positions
    path.write_bytes(plain[:12] + name.encode("latin-1")[:4].ljust(4) + plain[16:])
    np.testing.assert_array_equal(read(path).positions, expected)


@pytest.mark.parametrize("value", ["1800000.0", "99999.9999", "-10001.000"])
def test_a_coordinate_that_no_structure_has(tmp_path, value):
    path = tmp_path / "l.sdf"
    lines = ["x", "", "", "  2  0  0  0  0  0            999 V2000", f"{value:>10}    0.0000    1.0000 C   0  0"]
    lines += ["    0.0000    0.0000    1.0000 C   0  0", "M  END", "$$$$"]
    path.write_text("\n".join(lines))
    check(
        path,
        Reason.UNREADABLE,
        f"got a coordinate of {abs(float(value)):,.0f} Å for atom 1; expected coordinates up to 10,000 Å. Fetch or export the file "
        "again.",
    )


@pytest.mark.parametrize("gzipped", [False, True])
def test_a_text_beyond_all_bounds_costs_little(tmp_path, monkeypatch, gzipped):
    monkeypatch.setattr("compass.data.structures.structure_file.MOST_BYTES", 1_000_000)
    path = tmp_path / ("p.pdb.gz" if gzipped else "p.pdb")
    path.write_bytes(gzip.compress(b" " * 1_000_001) if gzipped else b" " * 1_000_001)
    with pytest.raises(StructureError) as caught:
        read(path)
    assert caught.value.reason is Reason.TOO_MANY_ATOMS
    assert "expected at most 976.56 KiB, which is 12,345 atoms. Cut the structure" in str(caught.value)


@pytest.mark.parametrize("count", ["9" * 5000, "1_0", "\u0661"])
def test_a_count_that_no_file_has(tmp_path, count):
    path = tmp_path / "l.mol2"
    path.write_text(f"@<TRIPOS>MOLECULE\nx\n{count} 0\n@<TRIPOS>ATOM\n1 C 0 0 1 C.3\n@<TRIPOS>BOND\n", encoding="utf-8")
    with pytest.raises(StructureError) as caught:
        read(path)
    assert caught.value.reason is Reason.UNREADABLE
    assert "got the counts line" in str(caught.value)
