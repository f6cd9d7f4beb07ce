"""Files as tools and people really write them: read right, repaired with a note, or refused."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import gemmi
import numpy as np
import pytest

from compass.data.structures.reading import read_complex
from compass.data.structures.structure_file import Reason, StructureError
from compass.optimizer_config import StructureRules

FILES = Path(__file__).with_name("files")
PROTEIN = (FILES / "1bju_protein.pdb").read_text()
LIGAND = (FILES / "1bju_ligand.sdf").read_text()
ATOMS = [line for line in PROTEIN.splitlines() if line.startswith("ATOM")]
IN_POCKET = {"C": 98, "N": 26, "O": 34, "S": 2}
GAFF = {"C": "ca", "N": "nb", "O": "os", "Cl": "cl"}


@pytest.fixture
def read(tmp_path):
    """A complex of the given texts, by default those of 1bju."""

    def reader(protein=PROTEIN, ligand=LIGAND, *, name="l.sdf", radius=8.0, protein_name="p.pdb", **rules):
        (tmp_path / protein_name).write_text(protein)
        (tmp_path / name).write_text(ligand)
        return read_complex(
            "x", tmp_path / protein_name, tmp_path / name,
            pocket_radius=radius, max_atoms=10_000, rules=StructureRules(**rules),
        )  # fmt: skip

    return reader


@pytest.fixture
def refused(read):
    def refuser(reason, *args, **kwargs):
        with pytest.raises(StructureError) as caught:
            read(*args, **kwargs)
        assert caught.value.reason is reason
        return str(caught.value)

    return refuser


def elements(complex_):
    return Counter(gemmi.Element(int(number)).name for number in complex_.elements[~complex_.is_ligand])


def ligand_atoms(text=LIGAND):
    """(symbol, x, y, z) of the SDF's atoms."""
    return [(line[31:34].strip(), *map(float, line[:30].split())) for line in text.splitlines()[4:24]]


def hetatm(name, residue, number, xyz, *, chain=" ", element="", alternate=" ", occupancy=1.0):
    x, y, z = xyz
    return (
        f"HETATM  900 {name:4}{alternate}{residue:>3} {chain}{number:4}    {x:8.3f}{y:8.3f}{z:8.3f}{occupancy:6.2f}  0.00"
        f"          {element:>2}"
    )


def crystal_ligand(shift=0.0, residue="GP6", number=910):
    return "\n".join(
        hetatm(f" {symbol[0]}{i:<2}", residue, number, (x + shift, y, z), element=symbol.upper())
        for i, (symbol, x, y, z) in enumerate(ligand_atoms())
    )


def with_lines(*lines):
    return "\n".join([*ATOMS, "TER", *lines, "END", ""])


def mol2(atoms, kinds, *, counts=None):
    rows = [f"{i} {s}{i} {x} {y} {z} {kinds.get(s, s)} 1 LIG 0.0" for i, (s, x, y, z) in enumerate(atoms, start=1)]
    head = ["@<TRIPOS>MOLECULE", "LIG", counts or f"{len(rows)} 0 1", "SMALL", "NO_CHARGES", "", "@<TRIPOS>ATOM"]
    return "\n".join([*head, *rows, "@<TRIPOS>BOND", ""])


def test_the_good_complex(read):
    complex_ = read()
    assert (complex_.n_atoms, elements(complex_)) == (180, IN_POCKET)
    assert (complex_.notes, complex_.repairs) == ((), ())


# ----------------------------------------------------------------------------------------------------------- elements


def without_elements(lines):
    return [line[:66] for line in lines]


def left_justified(line):
    return line[:12] + line[12:16].strip().ljust(4) + line[16:66]


@pytest.mark.parametrize("form", [
    lambda line: line[:66], left_justified, lambda line: f"{line[:66]:72}1BJU{line[7:11]}", lambda line: f"{line[:66]:72}PROA",
])  # fmt: skip
def test_standard_residues_need_no_element_column(read, form):
    complex_ = read("\n".join([*map(form, ATOMS), "END"]))
    assert elements(complex_) == IN_POCKET
    assert complex_.notes == ("no element column: 194 elements follow from residue and atom names",)


@pytest.mark.parametrize("charge", ["0.00", "+1", "1+", "-0.5", "  x"])
def test_a_charge_is_not_needed(read, charge):
    assert elements(read("\n".join(line[:78] + charge for line in ATOMS))) == IN_POCKET


@pytest.mark.parametrize(
    ("name", "residue", "symbol"),
    [(" SOD", "SOD", "Na"), (" CLA", "CLA", "Cl"), (" POT", "POT", "K"), (" CAL", "CAL", "Ca"), (" CES", "CES", "Cs"),
     ("ZN  ", "ZN2", "Zn"), (" ZN ", "ZN", "Zn"), (" BR ", "BR", "Br"), (" CU ", "CU", "Cu"), (" NI ", "NI", "Ni"),
     ("NA+ ", "NA+", "Na"), ("CL- ", "CL-", "Cl"), ("K+  ", "K+", "K"), ("MG  ", "MG2", "Mg"), ("NA  ", "ION", "Na"),
     (" N  ", "NH4", "N"), (" CA ", "MSE", "C"),
     ("CA  ", "CA", "Ca"), ("HG  ", "HG", "Hg"), ("IOD ", "IOD", "I"), ("Na+ ", "Na+", "Na"), ("CL  ", "Cl-", "Cl")],
)  # fmt: skip
def test_the_residue_of_an_ion_decides(read, name, residue, symbol):
    complex_ = read(with_lines(hetatm(name, residue, 1, (-1.384, 25.046, 25.082))))
    assert elements(complex_) == Counter(IN_POCKET) + Counter([symbol])
    assert complex_.notes == (f"elements guessed from names: 1 ({residue} {name.strip()} is {symbol})",)


@pytest.mark.parametrize(
    ("name", "residue", "symbol"),
    [("CAAA", "DRG", "C"), ("CDAB", "DRG", "C"), ("NAAC", "DRG", "N"), ("CLAD", "DRG", "Cl"), ("BR1 ", "DRG", "Br"),
     ("CA1 ", "LIG", "C"), ("CO2 ", "LIG", "C"), ("NE1 ", "LIG", "N"), ("FE  ", "HEM", "Fe"), (" NA ", "HEM", "N"), ("CHA ", "HEM", "C"),
     ("MG  ", "CLA", "Mg"), ("FE1 ", "SF4", "Fe"), ("S1  ", "SF4", "S"), ("ZN  ", "LIG", "Zn"), ("SE  ", "MSE", "Se"), (" SD ", "MET", "S")],
)  # fmt: skip
def test_names_of_larger_residues(read, name, residue, symbol):
    lines = [hetatm(name, residue, 1, (-1.384, 25.046, 25.082)), hetatm(" O9 ", residue, 1, (0.9, 25.046, 25.082))]
    complex_ = read(with_lines(*lines), hydrogens="keep")
    assert elements(complex_) == Counter(IN_POCKET) + Counter([symbol, "O"])


def test_an_element_column_that_copies_the_name(read):
    """Calcium for CA, cadmium for CD: the residue decides, whatever the rules do with unknown elements."""
    lines = [f"{line[:76]:76}{line[12:16].strip()[:2]:>2}" for line in ATOMS]
    complex_ = read("\n".join(lines), unknown_elements="as_carbon")
    assert elements(complex_) == IN_POCKET
    assert complex_.repairs == ("elements_from_residues",)
    assert complex_.notes[0].startswith("elements contradict standard residues: ")


def test_elements_that_contradict_chemistry(read, refused):
    """The same in residues that are not standard."""
    lines = [f"{line[:17]}XYZ{line[20:76]:76}"[:76] + f"{line[12:16].strip()[:2]:>2}" for line in ATOMS]
    for rule in ("refuse", "as_carbon", "drop"):
        refused(Reason.UNKNOWN_ELEMENT, "\n".join(lines), unknown_elements=rule)


def test_thymine_under_its_short_name(read):
    complex_ = read(with_lines(hetatm(" CA ", "T", 1, (-1.384, 25.046, 25.082))))
    assert elements(complex_) == Counter(IN_POCKET) + Counter(["C"])


@pytest.mark.parametrize("names", [{}, {"N": "Ne ", "O": "Os "}])
@pytest.mark.parametrize("rule", ["refuse", "as_carbon"])
def test_a_ligand_of_metals(refused, rule, names):
    """Atom names where the elements belong: CA for the first carbons."""
    rows = [
        line[:31] + ("Ca " if line[31:33] == "C " else names.get(line[31:32], line[31:34])) + line[34:]
        for line in LIGAND.splitlines()
    ]
    message = refused(Reason.UNKNOWN_ELEMENT, ligand="\n".join(rows), unknown_elements=rule)
    assert "atoms of metals or noble gases bonded like carbon; expected elements that can be right" in message


def test_one_odd_element_of_a_ligand_is_noted(read):
    complex_ = read(ligand=LIGAND.replace(" C  ", " Ca ", 1))
    assert complex_.notes == ("l.sdf: 1 atoms lie closer to their neighbours than their elements allow",)


def test_an_unknown_atom_counts_only_in_the_pocket(read, refused):
    far = hetatm(" UNK", "UNX", 1, (99.0, 99.0, 99.0), element="X")
    assert elements(read(with_lines(far))) == IN_POCKET
    refused(Reason.UNKNOWN_ELEMENT, with_lines(hetatm(" UNK", "UNX", 1, (-1.384, 25.046, 25.082), element="X")))
    refused(Reason.UNKNOWN_ELEMENT, with_lines(far), radius=None)


def test_a_water_with_a_site_of_its_own(read):
    """TIP4P's, beside the ligand and among the waters that are kept."""
    site = (-1.384, 25.046, 25.082)
    lines = [
        hetatm(name, "SOL", 1, np.add(site, (shift, 0, 0)))
        for name, shift in (("OW  ", 0), ("HW1 ", 0.95), ("MW  ", 0.15))
    ]
    assert elements(read(with_lines(*lines))) == IN_POCKET


# ------------------------------------------------------------------------------------------------- one atom at one place


def two_conformers(first, second, *, occupancies=(0.7, 0.3)):
    """CB and OG of serine 195 in two conformers under the given letters."""
    lines = []
    for line in ATOMS:
        if line[17:26] == "SER A 195" and line[12:16].strip() in {"CB", "OG"}:
            for letter, shift, occupancy in zip((first, second), (0.0, 0.6), occupancies, strict=True):
                x = float(line[30:38]) + shift
                lines.append(f"{line[:16]}{letter}{line[17:30]}{x:8.3f}{line[38:54]}{occupancy:6.2f}{line[60:]}")
        else:
            lines.append(line)
    return "\n".join([*lines, "END"])


@pytest.mark.parametrize(("letters", "named"), [("AB", False), (" B", True), ("  ", True)])
def test_conformers_with_and_without_letters(read, letters, named):
    good = read()
    complex_ = read(two_conformers(*letters))
    np.testing.assert_array_equal(complex_.positions, good.positions)
    assert complex_.repairs == (("conformers_without_letters",) if named else ())
    assert complex_.notes == (
        ("conformers without letters dropped: SER A 195: 2 atoms (occupancy 0.7 kept)",) if named else ()
    )


def test_the_more_occupied_conformer_stays(read):
    moved = read(two_conformers(" ", " ", occupancies=(0.3, 0.7)))
    assert not np.array_equal(moved.positions, read().positions)
    assert moved.n_atoms == 180


SIDE_CHAIN = [line for line in ATOMS if line[17:26] == "SER A 195" and line[12:16].strip() in {"CB", "OG"}]


def moved(lines, shift, letter=" ", occupancy=0.4):
    return [
        f"{line[:16]}{letter}{line[17:30]}{float(line[30:38]) + shift:8.3f}{line[38:54]}{occupancy:6.2f}{line[60:]}"
        for line in lines
    ]


@pytest.mark.parametrize("letter", [" ", "B"])
@pytest.mark.parametrize("shift", [0.5, 1.0, 2.5, 3.5])
@pytest.mark.parametrize("between", [[], ["TER"]])
def test_conformers_apart_in_the_file(read, letter, shift, between):
    """The second one stands behind the chain."""
    complex_ = read("\n".join([*ATOMS, *between, *moved(SIDE_CHAIN, shift, letter)]))
    np.testing.assert_array_equal(complex_.positions, read().positions)
    assert complex_.notes == ("conformers without letters dropped: SER A 195: 2 atoms (occupancy 1 kept)",)


@pytest.mark.parametrize("shift", [0.5, 2.5])
def test_a_whole_residue_beside_itself(read, shift):
    again = moved([line for line in ATOMS if line[17:26] == "SER A 195"], shift)
    assert elements(read("\n".join([*ATOMS, *again]))) == IN_POCKET


def test_chains_that_lost_their_letters_stay_two(read):
    """Conformers are chosen in each of them alone, by the letters that it has."""
    near = [line[:21] + " " + line[22:] for line in two_conformers("B", "C").splitlines() if line != "END"]
    far = [f"{line[:16]}{'A' if line[16] == 'C' else line[16]}{line[17:30]}{float(line[30:38]) + 60:8.3f}{line[38:54]}  0.90{line[60:]}"
           for line in near]  # fmt: skip
    one = read("\n".join(near), radius=None)
    complex_ = read("\n".join([*near, "TER", *far]), radius=None)
    assert complex_.n_atoms == 2 * one.n_atoms - 20
    assert {tuple(xyz) for xyz in one.positions} < {tuple(xyz) for xyz in complex_.positions}


def test_neighbours_that_share_a_number_stay_two(read):
    """Two chains without letters meet at one residue of each; only the first has conformers."""
    near = [line[:21] + " " + line[22:] for line in two_conformers("A", "B").splitlines() if line != "END"]
    residue = [line for line in ATOMS if line[17:26] == "SER A 195"]
    beside = [f"{line[:21]} {line[22:38]}{float(line[38:46]) + 6.5:8.3f}{line[46:]}" for line in residue]
    alone = read("\n".join(near), radius=None)
    complex_ = read("\n".join([*near, "TER", *beside]), radius=None)
    assert complex_.n_atoms == alone.n_atoms + len(residue)


def test_conformers_in_mmcif(read):
    text = gemmi.read_pdb_string(two_conformers("A", "B")).make_mmcif_document().as_string()
    text = re.sub(r"(ATOM \d+ \w+ \S+ )A ", r"\1. ", text)
    complex_ = read(text, protein_name="p.cif")
    assert (complex_.n_atoms, complex_.repairs) == (180, ("conformers_without_letters",))


@pytest.mark.parametrize("shift", [0.5, 1.0, 1.5])
def test_a_pose_on_the_crystal_ligand(read, shift):
    complex_ = read(with_lines(crystal_ligand(shift)))
    assert (elements(complex_), complex_.repairs) == (IN_POCKET, ("crystal_ligand_dropped",))
    assert complex_.notes == ("dropped, because it lies on the ligand: GP6 910 (20 atoms)",)


@pytest.mark.parametrize("shift", [1.5, 2.5])
def test_a_pose_on_a_ligand_called_unk(read, shift):
    """UNK is an unknown amino acid to the PDB, and any molecule to docking tools."""
    complex_ = read(with_lines(crystal_ligand(shift, residue="UNK")))
    assert (elements(complex_), complex_.repairs) == (IN_POCKET, ("crystal_ligand_dropped",))


def test_the_ligand_itself_is_no_news(read):
    complex_ = read(with_lines(crystal_ligand()))
    assert (elements(complex_), complex_.repairs, complex_.notes) == (IN_POCKET, (), ())


def test_a_copy_beside_the_pose_is_noted(read):
    far = read(with_lines(crystal_ligand(40.0)), radius=None)
    assert (far.n_atoms, far.notes) == (read(radius=None).n_atoms + 20, ())
    beside = crystal_ligand(6.0).splitlines()
    near = read("\n".join([*ATOMS[:20], "TER", *beside]), radius=None)
    assert near.notes == ("GP6 910 has the ligand's formula and stays in the protein",)
    named = crystal_ligand(6.0, residue="TPO").splitlines()
    assert "TPO 910 has the ligand's formula" in read("\n".join([*ATOMS[:20], "TER", *named]), radius=None).notes[-1]


def test_a_chain_on_the_ligand(refused):
    x, y, z = ligand_atoms()[0][1:]
    line = next(line for line in ATOMS if line[12:16] == " CA ")
    message = refused(Reason.OVERLAPPING, PROTEIN.replace(line[30:54], f"{x + 0.5:8.3f}{y:8.3f}{z:8.3f}"))
    assert "0.50 Å from a ligand atom; expected 0.8 Å or more between protein and ligand" in message


COFACTOR = [(-0.793, 19.837, 13.130), (0.475, 25.44, 26.39), (10.922, 22.603, 24.738), (0.688, 25.191, 21.356),
            (-3.447, 20.694, 21.619), (-2.875, 20.435, 23.886)]  # fmt: skip


@pytest.mark.parametrize("between", [[], ["TER"]])
def test_two_molecules_under_one_number(read, between):
    other = [hetatm(f" C{i:<2}", "UNL", 1, xyz, element="C") for i, xyz in enumerate(COFACTOR)]
    complex_ = read(with_lines(crystal_ligand(residue="UNL", number=1), *between, *other))
    assert elements(complex_) == {**IN_POCKET, "C": 104}


@pytest.mark.parametrize("numbers", [(1, 1), (1, 2)])
def test_residues_that_lie_on_each_other(read, numbers):
    """Both anomers of a sugar: the less occupied one goes."""
    first, second = (
        [hetatm(f" C{i}", name, number, (5 + 1.5 * i + shift, 8.0, 24.0), element="C", occupancy=occupancy) for i in range(4)]
        for name, number, shift, occupancy in (("GLC", numbers[0], 0.0, 0.4), ("BGC", numbers[1], 0.3, 0.6))
    )  # fmt: skip
    complex_ = read(with_lines(*first, *second), radius=None)
    assert complex_.n_atoms - read(radius=None).n_atoms == 4
    assert complex_.repairs == ("overlapping_residue_dropped",)
    assert "GLC 1 (4 atoms)" in complex_.notes[0]


def test_an_oxygen_of_a_misspelt_residue_is_no_water(read):
    (line,) = (line for line in ATOMS if line[12:26] == " O   SER A 195")
    complex_ = read(PROTEIN.replace(line, f"{line[:17]}S?R{line[20:]}"))
    assert elements(complex_) == IN_POCKET


@pytest.mark.parametrize("residue", ["HOH", "TIP3"])
def test_a_water_in_two_conformers_is_a_water(read, residue):
    lines = [
        f"{hetatm(' O  ', residue[:3], 5, (-1.384 + shift, 25.046, 25.082), element='O', alternate=letter)}"
        for letter, shift in (("A", 0.0), ("B", 0.9))
    ]
    lines = [f"{line[:17]}{residue:4}{line[21:]}" for line in lines]
    assert elements(read(with_lines(*lines))) == IN_POCKET


def test_an_atom_far_from_its_residue_is_noted(read):
    """A number that lost its first digit is a number."""
    (line,) = (line for line in ATOMS if line[12:26] == " CG  HIS A  57")
    complex_ = read(PROTEIN.replace(line, f"{line[:38]}{float(line[38:46]) % 10:8.3f}{line[46:]}"))
    assert complex_.notes == ("atoms apart from the rest of their residue: 1 (CG of HIS A 57)",)


# ------------------------------------------------------------------------------------------------------ the whole file


ZINC = hetatm("ZN  ", "ZN", 1, (-1.384, 25.046, 25.082), chain="A", element="ZN")


@pytest.mark.parametrize("end", ["END", "ENDMDL"])
def test_atoms_after_the_end(read, end):
    complex_ = read("\n".join([*ATOMS, end, ZINC, "END"]))
    assert elements(complex_) == {**IN_POCKET, "Zn": 1}
    assert complex_.notes == ("1 atoms after END are part of the structure",)


def test_frames_without_model(read):
    complex_ = read("\n".join([*ATOMS, "END", *ATOMS, "END"]))
    assert elements(complex_) == IN_POCKET
    assert complex_.notes == ("194 atoms after END repeat the first ones and count as another model",)


def models(*parts):
    return "\n".join(
        line for number, part in enumerate(parts, 1) for line in (f"MODEL     {number:4}", *part, "ENDMDL")
    )


@pytest.mark.parametrize("places", [(0, 20), (174, 194)])
@pytest.mark.parametrize("n_models", [1, 2])
def test_atoms_outside_the_models(read, places, n_models):
    """Before the first one, or behind the last one."""
    outside = ATOMS[slice(*places)]
    inside = [line for line in ATOMS if line not in outside]
    text = models(*[inside] * n_models)
    complex_ = read("\n".join([*outside, text] if places[0] == 0 else [text, *outside]))
    assert elements(complex_) == IN_POCKET
    assert complex_.notes[-1] == "20 atoms outside MODEL records are part of the structure"


def test_a_model_without_its_record(read):
    """What repeats the first model is another one."""
    complex_ = read("\n".join([models(ATOMS), *ATOMS, "ENDMDL"]))
    assert (elements(complex_), complex_.notes) == (IN_POCKET, ())


def test_models_of_one_molecule_are_no_news(read):
    moved = [f"{line[:30]}{float(line[30:38]) + 0.3:8.3f}{line[38:]}" for line in ATOMS]
    complex_ = read(models(ATOMS, moved))
    assert (elements(complex_), complex_.notes) == (IN_POCKET, ())


@pytest.mark.parametrize("chain", ["A", "B"])
def test_a_second_chain_as_a_second_model(read, chain):
    """As wwPDB writes biological assemblies."""
    first = [line for line in ATOMS if int(line[22:26]) < 200]
    second = [f"{line[:21]}{chain}{line[22:]}" for line in ATOMS if int(line[22:26]) >= 200]
    complex_ = read(models(first, second))
    (note,) = complex_.notes
    assert note.endswith(
        "as in a biological assembly or a floppy ensemble, and are left out; structures.models=all reads them"
    )
    assert elements(read(models(first, second), models="all")) == IN_POCKET


def test_a_second_data_block_is_named(read):
    text = gemmi.read_pdb_string(PROTEIN).make_mmcif_document().as_string()
    complex_ = read(f"{text}\n{text.replace('data_', 'data_another', 1)}", protein_name="p.cif")
    assert elements(complex_) == IN_POCKET
    (note,) = complex_.notes
    assert note.startswith("194 atoms of further data blocks are left out; the first, ")


@pytest.mark.parametrize("old", ["  -2.7990", "   14.4490"])
@pytest.mark.parametrize("change", [
    lambda text: text.replace(".", ","), lambda text: text.replace(".", " ."), lambda text: " " * len(text),
    lambda text: text.strip().rjust(len(text) - 2) + "D0", lambda text: text[:-1] + "x", lambda text: text[:-3] + "***",
])  # fmt: skip
def test_coordinates_of_a_ligand_are_never_cut(refused, old, change):
    assert LIGAND.count(old)
    refused(Reason.UNREADABLE, ligand=LIGAND.replace(old, change(old), 1))


@pytest.mark.parametrize("change", [
    lambda text: text.replace(".", ","), lambda text: text.replace(".", " ."), lambda text: " " * 8, lambda text: "1.0D+01 ",
    lambda text: text[:-1] + "x", lambda text: "********",
])  # fmt: skip
def test_coordinates_of_a_protein_are_never_cut(refused, change):
    line = ATOMS[7]
    refused(Reason.UNREADABLE, PROTEIN.replace(line, line[:38] + change(line[38:46]) + line[46:]))


@pytest.mark.parametrize(("change", "why"), [
    (lambda line: " " + line, "expected ATOM or HETATM in column 1"), (lambda line: "\t" + line, "expected ATOM or HETATM in column 1"),
    (lambda line: "HETATN" + line[6:], "expected ATOM or HETATM in column 1"), (lambda line: line + line, "expected one record a line"),
])  # fmt: skip
def test_an_atom_that_is_not_at_its_place_in_the_file(refused, change, why):
    assert why in refused(Reason.UNREADABLE, PROTEIN.replace(ATOMS[7], change(ATOMS[7])))


def test_atoms_behind_a_comment_sign_are_named(read):
    complex_ = read(PROTEIN.replace(ATOMS[7], "#" + ATOMS[7]).replace(ATOMS[9], "# " + ATOMS[9]))
    assert complex_.notes[0] == "2 atom records behind a # are left out"


def test_other_lines_are_no_atoms(read):
    """Remarks, energies and matrices have numbers too."""
    lines = [
        "REMARK 290   SMTRY1   1  1.000000  0.000000  0.000000        0.00000",
        "ANISOU   29  N   HIS A  57     2406   1892   1614    198    519   -328       N",
        "SCALE1      0.019231  0.000000  0.000000        0.00000",
        "LEU:NtermProteinFull_1 -4.123 0.567 2.291 -1.234 0.012 0.123",
    ]
    complex_ = read("\n".join([*lines, *ATOMS]))
    assert (elements(complex_), complex_.notes) == (IN_POCKET, ())


def v3000(x="-2.7990"):
    rows = [f"M  V30 {i} {s} {x if i == 1 else a} {b} {c} 0" for i, (s, a, b, c) in enumerate(ligand_atoms(), 1)]
    head = [
        "x",
        "",
        "",
        "  0  0  0     0  0            999 V3000",
        "M  V30 BEGIN CTAB",
        "M  V30 COUNTS 20 0 0 0 0",
        "M  V30 BEGIN ATOM",
    ]
    return "\n".join([*head, *rows, "M  V30 END ATOM", "M  V30 END CTAB", "M  END", "$$$$", ""])


def test_v3000(read, refused):
    np.testing.assert_array_equal(read(ligand=v3000()).positions, read().positions)
    assert read(ligand=v3000("-2.7990 -\nM  V30")).n_atoms == 180  # a line that goes on
    for odd in ("-2,7990", "-2.799D0", "?"):
        refused(Reason.UNREADABLE, ligand=v3000(odd))
    refused(Reason.UNREADABLE, ligand=v3000().replace("COUNTS 20", "COUNTS 18"))


@pytest.mark.parametrize("counts", [" 18  0", " 21  0", " 20  9", " 19  1"])
def test_counts_of_an_sdf_that_disagree(refused, counts):
    """A V2000 header of the cut ligand, which has no bonds."""
    head = LIGAND.splitlines()[3]
    refused(Reason.UNREADABLE, ligand=LIGAND.replace(head, counts + head[6:]))


@pytest.mark.parametrize("counts", ["18 0 1", "22 0 1", "20 3 1", "x"])
def test_counts_of_a_mol2_that_disagree(refused, counts):
    refused(
        Reason.UNREADABLE,
        ligand=mol2(ligand_atoms(), {"C": "C.ar", "N": "N.ar", "O": "O.2"}, counts=counts),
        name="l.mol2",
    )


def test_several_poses(read):
    complex_ = read(ligand=LIGAND + LIGAND)
    assert (complex_.n_atoms, complex_.notes) == (180, ("l.sdf: record 1 of 2 is read",))


# -------------------------------------------------------------------------------------------------------- atom types


def test_gaff_types(read):
    complex_ = read(ligand=mol2(ligand_atoms(), GAFF), name="l.mol2")
    np.testing.assert_array_equal(complex_.elements, read().elements)
    assert complex_.notes == ("GAFF atom types were read",)


def test_types_that_may_be_metals_or_not(refused):
    """AMBER's CA is an aromatic carbon, SYBYL's Ca is calcium."""
    message = refused(Reason.UNREADABLE, ligand=mol2(ligand_atoms(), {"C": "CA", "N": "NB"}), name="l.mol2")
    assert "got the atom types CA, NB, which are neither SYBYL's nor GAFF's; convert them" in message
