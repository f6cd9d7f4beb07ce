"""Complexes: the ligand counted once, the pocket, the limits."""

from __future__ import annotations

import numpy as np
import pytest

from compass.data.structures.reading import read_complex
from compass.data.structures.structure_file import Reason, StructureError
from compass.optimizer_config import StructureRules


@pytest.fixture
def read(tmp_path, methanol_at):
    def reader(protein, ligand=None, *, pocket_radius=None, max_atoms=1000, **rules):
        (tmp_path / "p.pdb").write_text(str(protein))
        (tmp_path / "l.sdf").write_text(methanol_at() if ligand is None else ligand)
        return read_complex(
            "test", tmp_path / "p.pdb", tmp_path / "l.sdf",
            pocket_radius=pocket_radius, max_atoms=max_atoms, rules=StructureRules(**rules),
        )  # fmt: skip

    return reader


@pytest.fixture
def fails(read, tmp_path):
    def checker(file, reason, message, *args, **kwargs):
        with pytest.raises(StructureError) as caught:
            read(*args, **kwargs)
        assert caught.value.reason is reason
        assert str(caught.value) == f"{tmp_path / file}: {message}"

    return checker


def test_shapes_and_types(read, pdb):
    made = read(pdb.peptide())
    assert (made.name, made.n_atoms) == ("test", 17)
    assert (made.elements.dtype, made.positions.dtype, made.is_ligand.dtype) == (np.int64, np.float32, np.bool_)
    assert made.positions.shape == (17, 3)
    assert made.is_ligand.tolist() == [False] * 15 + [True] * 2
    assert made.elements[15:].tolist() == [6, 8]


def test_hydrogens(read, pdb):
    pdb.peptide().atom("H", "ALA", 1, (-0.5, -0.8, 0)).atom("D", "ALA", 3, (8.8, 0.5, -0.9), element="D")
    assert read(pdb).n_atoms == 17
    kept = read(pdb, hydrogens="keep")
    assert kept.n_atoms == 20
    assert (kept.elements == 1).sum() == 3


def test_pocket_keeps_atoms_up_to_the_radius(read, pdb, methanol_at):
    pdb.peptide(n_residues=6)
    whole = read(pdb, methanol_at())
    nearest = np.linalg.norm(whole.positions[:30, None] - whole.positions[None, 30:], axis=2).min(axis=1)
    for radius in (4.0, 6.0, 9.0):
        cut = read(pdb, methanol_at(), pocket_radius=radius)
        np.testing.assert_array_equal(cut.positions[:-2], whole.positions[:30][nearest <= radius])


def test_pocket_is_measured_from_heavy_ligand_atoms(read, pdb, methanol_at):
    pdb.peptide()
    kept = read(pdb, methanol_at(), pocket_radius=5.0, hydrogens="keep")
    dropped = read(pdb, methanol_at(), pocket_radius=5.0)
    assert (~kept.is_ligand).sum() == (~dropped.is_ligand).sum()


def with_methanol(pdb, shift=0.0):
    """The ligand of `methanol_at` as a residue of the protein file, moved along y."""
    pdb.peptide().raw("TER")
    pdb.atom("C1", "MOH", 90, (3.0, shift, 4.0), het=True)
    return pdb.atom("O1", "MOH", 90, (4.4, shift, 4.1), het=True)


@pytest.mark.parametrize(("shift", "n_atoms"), [(0.0, 17), (0.15, 17), (0.25, 17), (3.0, 19)])
def test_the_ligand_in_the_protein_file_counts_once(read, pdb, shift, n_atoms):
    assert read(with_methanol(pdb, shift)).n_atoms == n_atoms


def test_its_hydrogens_and_alternates_go_with_it(read, pdb):
    with_methanol(pdb).atom("H1", "MOH", 90, (3.0, 1.0, 4.0), het=True)
    pdb.atom("C2", "MOH", 90, (3.0, -1.5, 4.0), het=True, alternate="B")
    assert read(pdb, hydrogens="keep", alternates="all").n_atoms == 18


def test_another_copy_elsewhere_stays(read, pdb):
    with_methanol(pdb).atom("C1", "MOH", 91, (30, 0, 4), het=True).atom("O1", "MOH", 91, (31.4, 0, 4), het=True)
    assert read(pdb).n_atoms == 19


def test_a_single_shared_atom_does_not_cost_the_residue(read, pdb, methanol_at):
    # The first ligand atom on an alanine's CB, as where a file writes a covalent ligand's anchor twice.
    made = read(pdb.peptide(), methanol_at((1.2, 1.6, 1.3)))
    assert (~made.is_ligand).sum() == 14


def test_unknown_elements(read, fails, pdb):
    pdb.peptide().raw("TER").atom("QX", "UNX", 9, (2, 3, 2), element="X", het=True)
    fails(
        "p.pdb", Reason.UNKNOWN_ELEMENT,
        "got an unknown element at (2.000, 3.000, 2.000); expected a chemical element for every atom. "
        "Correct the file, or set structures.unknown_elements to drop or as_carbon.",
        pdb,
    )  # fmt: skip
    assert read(pdb, unknown_elements="drop").n_atoms == 17
    kept = read(pdb, unknown_elements="as_carbon")
    assert (kept.n_atoms, kept.elements[15]) == (18, 6)


def test_unknown_element_in_the_ligand(read, fails, pdb, methanol_at):
    fails(
        "l.sdf", Reason.UNKNOWN_ELEMENT,
        "got an unknown element at (3.000, 0.000, 4.000); expected a chemical element for every atom. "
        "Correct the file, or set structures.unknown_elements to drop or as_carbon.",
        pdb.peptide(), methanol_at(carbon="R#"),
    )  # fmt: skip
    assert read(pdb, methanol_at(carbon="R#"), unknown_elements="drop").is_ligand.sum() == 1


def test_ligand_of_hydrogen_only(fails, pdb):
    proton = "ion\n\n\n  1  0  0  0  0  0  0  0  0  0999 V2000\n    1.0000    2.0000    3.0000 H   0  0\nM  END\n"
    fails(
        "l.sdf", Reason.NO_LIGAND, "got no heavy atom; expected a ligand with at least one. Export the ligand again.",
        pdb.peptide(), proton, hydrogens="keep",
    )  # fmt: skip


def test_protein_file_with_the_ligand_alone(fails, pdb):
    pdb.atom("C1", "MOH", 90, (3.0, 0, 4.0), het=True).atom("O1", "MOH", 90, (4.4, 0, 4.1), het=True)
    fails(
        "p.pdb", Reason.NO_ATOMS,
        "got no atoms beside the ligand's and hydrogens; expected at least one protein atom. "
        "Check that the file holds the protein.",
        pdb,
    )  # fmt: skip


def test_protein_of_hydrogens_alone(fails, pdb):
    fails(
        "p.pdb", Reason.NO_ATOMS,
        "got no atoms beside the ligand's and hydrogens; expected at least one protein atom. "
        "Check that the file holds the protein.",
        pdb.atom("H", "ALA", 1, (0, 0, 0)),
    )  # fmt: skip


def test_empty_pocket(fails, pdb, methanol_at):
    fails(
        "p.pdb", Reason.EMPTY_POCKET,
        "got no atom within 8 Å of the ligand (the nearest is 90.0 Å away); expected a protein around its ligand. "
        "Check that both files are in one coordinate frame, or raise pocket_radius.",
        pdb.peptide(), methanol_at((100.0, 0.0, 0.0)), pocket_radius=8.0,
    )  # fmt: skip


def test_too_many_atoms(read, fails, pdb):
    fails(
        "p.pdb", Reason.TOO_MANY_ATOMS,
        "got 17 atoms; expected at most max_atoms = 16. Raise max_atoms, or set a smaller pocket_radius.",
        pdb.peptide(), max_atoms=16,
    )  # fmt: skip
    assert read(pdb, max_atoms=17).n_atoms == 17


def test_overlapping_atoms(fails, pdb):
    pdb.peptide().peptide(chain="B")
    fails(
        "p.pdb", Reason.OVERLAPPING,
        "got atoms at one place (pairs: 15), the first at (0.000, 0.000, 0.000); expected atoms apart from each other. "
        "Remove the copies from the file.",
        pdb,
    )  # fmt: skip


def test_overlapping_ligand_atoms(fails, pdb, methanol_at):
    fails(
        "l.sdf", Reason.OVERLAPPING,
        "got atoms at one place (pairs: 1), the first at (3.000, 0.000, 4.000); expected atoms apart from each other. "
        "Remove the copies from the file.",
        pdb.peptide(), methanol_at().replace("    4.4000    0.0000    4.1000", "    3.0000    0.0000    4.0000"),
    )  # fmt: skip
