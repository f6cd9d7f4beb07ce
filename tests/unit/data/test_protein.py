"""What becomes of the irregular parts of a protein file."""

from __future__ import annotations

import gemmi
import numpy as np
import pytest

from compass.data.structures.protein import read_protein
from compass.data.structures.structure_file import Reason, StructureError
from compass.optimizer_config import StructureRules


@pytest.fixture
def read(tmp_path):
    """Elements and positions of a hand-written file under the given rules."""

    def reader(text, **rules):
        path = tmp_path / "p.pdb"
        path.write_text(str(text))
        return read_protein(path, StructureRules(**rules))

    return reader


def n_beside_the_peptide(atoms):
    return len(atoms) - 15


@pytest.fixture
def crowded(pdb):
    """A peptide with a modified residue's neighbours: two waters, zinc, chloride and ethanol-like EOH."""
    pdb.peptide()
    pdb.raw("TER")
    pdb.atom("O", "HOH", 101, (20, 0, 0), het=True).atom("O", "DOD", 102, (23, 0, 0), het=True)
    pdb.atom("ZN", "ZN", 103, (26, 0, 0), element="ZN", het=True)
    pdb.atom("CL", "CL", 104, (29, 0, 0), element="CL", het=True)
    pdb.atom("C1", "EOH", 105, (32, 0, 0), het=True).atom("C2", "EOH", 105, (33.5, 0, 0), het=True)
    return pdb.atom("O", "EOH", 105, (34.2, 1.2, 0), het=True)


def test_defaults_drop_waters_and_keep_the_rest(read, crowded):
    atoms = read(crowded)
    assert atoms.elements[15:].tolist() == [30, 17, 6, 6, 8]


@pytest.mark.parametrize(
    ("rules", "left"),
    [
        ({"waters": "keep"}, [8, 8, 30, 17, 6, 6, 8]),
        ({"metals": "drop"}, [17, 6, 6, 8]),
        ({"cofactors": "drop"}, [30]),
        ({"cofactors": "drop", "metals": "drop"}, []),
    ],
)
def test_rules_for_what_is_no_polymer(read, crowded, rules, left):
    assert read(crowded, **rules).elements[15:].tolist() == left


def test_a_lone_oxygen_is_a_water_by_any_name(read, pdb):
    pdb.peptide().raw("TER").atom("OH2", "TIP", 50, (20, 0, 0), element="O", het=True)
    pdb.atom("H1", "TIP", 50, (20.9, 0, 0), het=True).atom("H2", "TIP", 50, (19.5, 0.8, 0), het=True)
    assert n_beside_the_peptide(read(pdb)) == 0


def test_metal_within_a_cofactor_belongs_to_it(read, pdb):
    pdb.peptide().raw("TER").atom("FE", "HEM", 50, (20, 0, 0), element="FE", het=True)
    pdb.atom("NA", "HEM", 50, (22, 0, 0), element="N", het=True)
    assert n_beside_the_peptide(read(pdb, metals="drop")) == 2
    assert n_beside_the_peptide(read(pdb, cofactors="drop")) == 0


def test_modified_residues_in_a_chain_are_protein(read, pdb):
    pdb.peptide(n_residues=5)
    pdb.lines = [f"HETATM{line[6:17]}MSE{line[20:]}" if line[22:26] == "   3" else line for line in pdb.lines]
    assert len(read(pdb, cofactors="drop")) == 25


def test_scraps_of_a_chain_are_protein(read, pdb):
    pdb.peptide(n_residues=1)
    assert len(read(pdb, cofactors="drop")) == 5


def test_blank_chain_ids(read, crowded):
    crowded.lines = [line[:21] + " " + line[22:] for line in crowded.lines if line != "TER"]
    assert read(crowded, cofactors="drop").elements[15:].tolist() == [30]


def test_hydrogens_and_deuterium_are_read_as_hydrogen(read, pdb):
    pdb.peptide().atom("H", "ALA", 3, (7.6, -0.9, 0)).atom("D", "ALA", 3, (8.8, 0.5, -0.9), element="D")
    assert read(pdb).elements[15:].tolist() == [1, 1]


def test_unreadable_element_is_zero(read, pdb):
    pdb.peptide().raw("TER").atom("QX", "UNX", 9, (20, 0, 0), element="X", het=True)
    assert read(pdb).elements[15:].tolist() == [0]


@pytest.fixture
def two_conformers(pdb):
    """A serine whose CB prefers B, and whose OG prefers A by less than B is preferred on the whole."""
    pdb.peptide()
    for name, xyz in (("N", (12, 0, 0)), ("CA", (13.2, 1, 0)), ("C", (14.4, 0, 0)), ("O", (14.4, -1, 0))):
        pdb.atom(name, "SER", 4, xyz)
    pdb.atom("CB", "SER", 4, (13, 2, 1), alternate="A", occupancy=0.2)
    pdb.atom("CB", "SER", 4, (13, 2, -1), alternate="B", occupancy=0.8)
    pdb.atom("OG", "SER", 4, (12, 3, 1), alternate="A", occupancy=0.5)
    return pdb.atom("OG", "SER", 4, (12, 3, -1), alternate="B", occupancy=0.4)


@pytest.mark.parametrize(
    ("rule", "heights"), [("highest_occupancy", [-1, -1]), ("first", [1, 1]), ("all", [1, -1, 1, -1])]
)
def test_alternates(read, two_conformers, rule, heights):
    assert read(two_conformers, alternates=rule).positions[19:, 2].tolist() == heights


def test_alternates_of_equal_occupancy_go_to_the_first_label(read, two_conformers):
    halves = str(two_conformers).replace("  0.20  0.00", "  0.50  0.00")
    for occupancy in ("0.80", "0.40"):
        halves = halves.replace(f"  {occupancy}  0.00", "  0.50  0.00")
    assert read(halves).positions[19:, 2].tolist() == [1, 1]


def test_atom_that_lacks_the_chosen_alternate_keeps_its_best_other(read, two_conformers):
    two_conformers.lines.pop()  # OG of B
    assert read(two_conformers).positions[19:, 2].tolist() == [-1, 1]


def test_two_residues_under_one_number_are_alternates(read, pdb):
    pdb.peptide()
    for label, residue, occupancy, z in (("A", "SER", 0.4, 1), ("B", "THR", 0.6, -1)):
        for name, x in (("N", 12), ("CA", 13.4), ("C", 14.8), ("O", 16)):
            pdb.atom(name, residue, 4, (x, 0, z), alternate=label, occupancy=occupancy)
    assert read(pdb).positions[15:, 2].tolist() == [-1] * 4
    assert len(read(pdb, alternates="all")) == 23


def test_the_same_atom_twice_at_one_place_counts_once(read, pdb):
    pdb.peptide()
    for label in "AB":
        pdb.atom("N", "GLY", 4, (12, 0, 0), alternate=label, occupancy=0.5)
    assert len(read(pdb, alternates="all")) == 16


def test_models(read, pdb):
    first = "\n".join(pdb.peptide().lines)
    pdb.lines.clear()
    second = "\n".join(pdb.peptide(start=(0, 0, 1)).lines)
    text = f"MODEL        1\n{first}\nENDMDL\nMODEL        2\n{second}\nENDMDL\nEND\n"
    assert len(read(text)) == 15
    assert len(read(text, models="all")) == 30


def test_zero_occupancy_atoms_stay(read, pdb):
    pdb.peptide().atom("OXT", "ALA", 3, (11, 1, 0), element="O", occupancy=0.0)
    assert len(read(pdb)) == 16


def test_nothing_left_after_filtering(read, pdb, tmp_path):
    pdb.atom("O", "HOH", 1, (0, 0, 0), het=True)
    with pytest.raises(StructureError) as caught:
        read(pdb)
    assert caught.value.reason is Reason.NO_ATOMS
    assert str(caught.value) == (
        f"{tmp_path / 'p.pdb'}: got no atoms after waters, metals and cofactors were dropped; expected at least one "
        "protein atom. Check that the file holds the protein, or keep more in structures.waters, .metals or .cofactors."
    )


def test_mmcif_reads_like_pdb(read, crowded, tmp_path):
    plain = read(crowded)
    structure = gemmi.read_pdb_string(str(crowded))
    structure.setup_entities()
    text = structure.make_mmcif_document().as_string()
    for name, body in (("p.cif", text), ("p.mmcif", "data_empty\n_entry.id none\n\n" + text)):
        (tmp_path / name).write_text(body)
        again = read_protein(tmp_path / name, StructureRules())
        np.testing.assert_array_equal(again.elements, plain.elements)
        np.testing.assert_allclose(again.positions, plain.positions)


def test_truncated_mmcif(crowded, tmp_path):
    text = gemmi.read_pdb_string(str(crowded)).make_mmcif_document().as_string()
    path = tmp_path / "p.cif"
    path.write_text(text[: text.index("HETATM") + 30])
    with pytest.raises(StructureError) as caught:
        read_protein(path, StructureRules())
    assert caught.value.reason is Reason.TRUNCATED
    assert str(caught.value) == (
        f"{path}: got a table that ends within a row; expected a complete file. Fetch the file again."
    )


def test_what_is_left_of_an_atom_that_was_removed(read, pdb):
    """`grep -v HETATM` leaves its ANISOU."""
    pdb.peptide()
    for number in (901, 902):
        pdb.raw(f"ANISOU {number:4d}  C1  LIG A 200      1000   1000   1000      0      0      0       C")
    assert n_beside_the_peptide(read(pdb)) == 0
