"""Ligands from SDF and MOL2, well-formed and not."""

from __future__ import annotations

import pytest

from compass.data.structures.ligand import read_ligand
from compass.data.structures.structure_file import Reason, StructureError

MOL2 = """# by hand
@<TRIPOS>MOLECULE
methanol
 3 2 1 0 0
SMALL
NO_CHARGES

@<TRIPOS>ATOM
      1 C1          1.0000    2.0000    3.0000 C.3     1  LIG1        0.0000
      2 O1          2.4000    2.0000    3.0000 O.3     1  LIG1        0.0000
      3 H1          2.8000    2.9000    3.0000 H       1  LIG1        0.0000
@<TRIPOS>BOND
     1     1     2    1
     2     2     3    1
"""


@pytest.fixture
def read(tmp_path):
    def reader(text, name="l.sdf"):
        (tmp_path / name).write_text(text)
        return read_ligand(tmp_path / name)

    return reader


def test_sdf(read, methanol_at):
    atoms = read(methanol_at((1.0, 2.0, 3.0)))
    assert atoms.elements.tolist() == [6, 8, 1]
    assert atoms.positions[0].tolist() == [1.0, 2.0, 3.0]


def test_mol2(read):
    atoms = read(MOL2, "l.mol2")
    assert atoms.elements.tolist() == [6, 8, 1]
    assert atoms.positions[1].tolist() == [2.4, 2.0, 3.0]


def test_the_first_record_with_a_pose_counts(read, methanol_at):
    drawn = methanol_at(flat=True)
    atoms = read(drawn + methanol_at((1, 1, 1)) + methanol_at((9, 9, 9)))
    assert atoms.positions[0].tolist() == [1.0, 1.0, 1.0]
    assert atoms.notes == ("l.sdf: record 2 of 3 is read, after 1 without atoms or three-dimensional coordinates",)


def test_a_broken_record_does_not_give_way_to_the_next(read, methanol_at, tmp_path):
    broken = "broken\n\n\nnot a counts line\nM  END\n$$$$\n"
    fails(
        read, broken + methanol_at(), Reason.UNREADABLE,
        "got the counts line 'not a counts line'; expected an SDF or MOL2 file. Fetch or export the file again.",
        tmp_path,
    )  # fmt: skip
    broken = MOL2.replace("C.3", "Zq")
    fails(
        read, broken + MOL2, Reason.UNREADABLE,
        "got the atom types Zq, which are neither SYBYL's nor GAFF's; convert them to SYBYL types, or give an SDF; "
        "expected an SDF or MOL2 file. Fetch or export the file again.",
        tmp_path, "l.mol2",
    )  # fmt: skip


def test_first_molecule_of_a_mol2_counts(read):
    assert read(MOL2 + MOL2.replace("1.0000    2.0", "7.0000    2.0"), "l.mol2").positions[0, 0] == 1.0


def test_what_rdkit_would_not_sanitise_is_read(read, methanol_at, capfd):
    # A carbon with a quintuple bond's worth of valence: two triple bonds.
    text = methanol_at().replace("  1  2  1  0", "  1  2  3  0").replace("  2  3  1  0", "  2  3  3  0")
    assert read(text).elements.tolist() == [6, 8, 1]
    assert capfd.readouterr() == ("", "")


def test_rdkit_is_silent_when_it_fails(read, capfd):
    with pytest.raises(StructureError):
        read("rubbish\n")
    assert capfd.readouterr() == ("", "")


def test_windows_line_ends(read, methanol_at):
    assert len(read(methanol_at().replace("\n", "\r\n"))) == 3


@pytest.mark.parametrize("symbol", ["R#", "*", "Xx"])
def test_unknown_elements_are_zero(read, methanol_at, symbol):
    assert read(methanol_at(carbon=symbol)).elements.tolist() == [0, 8, 1]


def test_deuterium_is_hydrogen(read, methanol_at):
    assert read(methanol_at(carbon="D")).elements.tolist() == [1, 8, 1]


def test_single_ion_in_the_plane_is_no_drawing(read):
    text = "ion\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    1.0000    2.0000    0.0000 Zn  0  0\nM  END\n"
    assert read(text).elements.tolist() == [30]


def fails(read, text, reason, message, tmp_path, name="l.sdf"):
    with pytest.raises(StructureError) as caught:
        read(text, name)
    assert caught.value.reason is reason
    assert str(caught.value) == f"{tmp_path / name}: {message}"


def test_no_3d(read, methanol_at, tmp_path):
    fails(
        read, methanol_at(flat=True), Reason.NO_3D,
        "got a ligand without three-dimensional coordinates (every z is 0); expected the pose bound to the protein. "
        "Give the docked or crystal pose, not a drawing.",
        tmp_path,
    )  # fmt: skip


def test_no_atoms(read, tmp_path):
    fails(
        read, "none\n\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n$$$$\n", Reason.NO_LIGAND,
        "got a molecule without atoms; expected a ligand. Export the ligand again.",
        tmp_path,
    )  # fmt: skip


@pytest.mark.parametrize("more", ["e-999", "e999", "123456"])
def test_a_coordinate_that_goes_on_beyond_its_columns(read, tmp_path, more):
    line = f"    1.0000    2.0000   17.8201{more} C   0  0"
    with pytest.raises(StructureError, match=r"the atom line '1\.0000    2\.0000   17\.8201"):
        read("wide\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n" + line + "\nM  END\n$$$$\n")


def test_truncated_mol2(read, tmp_path):
    fails(
        read, MOL2[:200], Reason.TRUNCATED,
        "got a molecule that ends before its '@<TRIPOS>BOND'; expected a complete file. Fetch the file again.",
        tmp_path, "l.mol2",
    )  # fmt: skip


def test_mol2_that_is_something_else(read, tmp_path):
    fails(
        read, "rubbish\n", Reason.UNREADABLE,
        "got no molecule; expected an SDF or MOL2 file. Fetch or export the file again.",
        tmp_path, "l.mol2",
    )  # fmt: skip


def test_atom_types_that_are_out_of_place(read):
    """A carboxylate's oxygen in an alcohol: RDKit gives the molecule up over it."""
    assert read(MOL2.replace("O.3", "O.co2"), "l.mol2").elements.tolist() == [6, 8, 1]
