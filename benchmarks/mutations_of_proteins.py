"""Protein files spoilt in the ways of real tools."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import gemmi

from benchmarks.mutated_files import (
    Atom,
    Pair,
    at_end,
    atom_lines,
    each_atom,
    hetatm,
    inserted,
    mutation,
    near_ligand,
    sdf_atoms,
    some_atom,
    spoilt_number,
)

# ----------------------------------------------------------------------------------------------------- element columns


@mutation
def no_element_column(pair: Pair, _: random.Random) -> Pair:
    return each_atom(pair, lambda line: line[:66])


@mutation
def left_justified_names(pair: Pair, _: random.Random) -> Pair:
    return each_atom(pair, lambda line: f"{line[:12]}{line[12:16].strip():4}{line[16:66]}")


@mutation
def old_columns(pair: Pair, chance: random.Random) -> Pair:
    code = chance.choice(["1BJU", "4HHB", "PROA", "C", "XYZ "])
    return each_atom(pair, lambda line: f"{line[:66]:72}{code:4}{line[7:11]}")


@mutation
def odd_charges(pair: Pair, chance: random.Random) -> Pair:
    charge = chance.choice(["0.00", "1+", "-1", "+0.5", "ab", "**", "L"])
    return each_atom(pair, lambda line: f"{line[:78]:78}{charge}")


@mutation
def elements_copy_names(pair: Pair, _: random.Random) -> Pair:
    return each_atom(pair, lambda line: f"{line[:76]:76}{line[12:16].strip()[:2]:>2}")


@mutation
def some_elements_missing(pair: Pair, chance: random.Random) -> Pair:
    return each_atom(pair, lambda line: line[:66] if chance.random() < 0.5 else line)


@mutation
def one_wrong_element(pair: Pair, chance: random.Random) -> Pair:
    symbol = chance.choice(["HG", "CA", "NE", "C", "O", "X", "ZN", "??", "1"])
    return some_atom(pair, chance, lambda line: f"{line[:76]:76}{symbol:>2}")


@mutation
def lower_case(pair: Pair, _: random.Random) -> Pair:
    return each_atom(pair, lambda line: f"{line[:76]:76}{line[76:78].lower()}")


# --------------------------------------------------------------------------------------------- one place, one atom


@mutation
def conformer_without_letters(pair: Pair, chance: random.Random) -> Pair:
    """A residue's side chain twice, a little apart, with every combination of letters."""
    lines, places = list(pair.protein), atom_lines(pair.protein)
    residue = lines[chance.choice(places)][17:27]
    letters = chance.choice([("A", "B"), (" ", "B"), (" ", " "), ("A", " "), ("1", "2")])
    shift, low = chance.uniform(0.25, 0.7), chance.uniform(0.1, 0.45)
    result = []
    for line in lines:
        side = line[12:16].strip() not in {"N", "C", "O", "CA", "H", "HA"}
        if line.startswith(("ATOM", "HETATM")) and line[17:27] == residue and side:
            x = float(line[30:38]) + shift
            result.append(f"{line[:16]}{letters[0]}{line[17:54]}{1 - low:6.2f}{line[60:]}")
            result.append(f"{line[:16]}{letters[1]}{line[17:30]}{x:8.3f}{line[38:54]}{low:6.2f}{line[60:]}")
        else:
            result.append(line)
    return Pair(result, pair.ligand)


@mutation
def cofactor_without_letters(pair: Pair, chance: random.Random) -> Pair:
    """A residue that is not standard, in two conformers: the same as its first conformer, or a note."""
    base = pair.protein[chance.choice(atom_lines(pair.protein))][17:27]
    shift = chance.uniform(0.2, 1.4)
    lines = []
    for line in pair.protein:
        own = line.startswith(("ATOM", "HETATM")) and line[17:27] == base
        lines.append(line)
        if own and line[12:16].strip() not in {"N", "C", "O", "CA"}:
            lines.append(f"{line[:16]} {line[17:30]}{float(line[30:38]) + shift:8.3f}{line[38:54]}  0.30{line[60:]}")
    return each_atom(
        Pair(lines, pair.ligand),
        lambda line: f"{line[:12]}{line[12:15]}1{line[16]}XYZ{line[20:]}" if line[17:27] == base else line,
    )


@mutation
def crystal_ligand_beside_the_pose(pair: Pair, chance: random.Random) -> Pair:
    shift = chance.choice([0.0, 0.1, 0.3, 0.5, 0.9, 1.5, 2.0])
    atoms = [atom for atom in sdf_atoms("\n".join(pair.ligand)) if atom[0] != "H"]
    return at_end(pair, "TER", *(
        hetatm(f" {symbol[0]}{i:<2}", "LIG", 900, (x + shift, y, z), symbol) for i, (symbol, x, y, z) in enumerate(atoms)
    ))  # fmt: skip


@mutation
def ligand_and_cofactor_under_one_number(pair: Pair, chance: random.Random) -> Pair:
    """A copy of the ligand, and beyond the pocket another molecule of its name and number."""
    atoms = [atom for atom in sdf_atoms("\n".join(pair.ligand)) if atom[0] != "H"]
    copy = [hetatm(f" {s[0]}{i:<2}", "UNL", 1, xyz, s) for i, (s, *xyz) in enumerate(atoms)]
    other = [hetatm(f" C{i:<2}", "UNL", 1, (300.0 + 1.5 * i, 0.0, 0.0), "C") for i in range(chance.randint(2, 9))]
    parts = [copy, other] if chance.random() < 0.5 else [other, copy]
    return at_end(pair, "TER", *parts[0], *(["TER"] if chance.random() < 0.5 else []), *parts[1])


@mutation
def a_residue_twice(pair: Pair, chance: random.Random) -> Pair:
    residue = pair.protein[chance.choice(atom_lines(pair.protein))][17:27]
    copy = [line for line in pair.protein if line.startswith(("ATOM", "HETATM")) and line[17:27] == residue]
    place = max(i for i in atom_lines(pair.protein) if pair.protein[i][17:27] == residue) + 1
    return inserted(pair, chance.choice([place, atom_lines(pair.protein)[-1] + 1]), *copy)


@mutation
def an_atom_on_the_ligand(pair: Pair, chance: random.Random) -> Pair:
    x, y, z = near_ligand(pair, chance, chance.uniform(0.15, 0.4))
    return some_atom(pair, chance, lambda line: f"{line[:30]}{x:8.3f}{y:8.3f}{z:8.3f}{line[54:]}")


# ------------------------------------------------------------------------------------------------------ the whole file


@mutation
def end_in_the_middle(pair: Pair, chance: random.Random) -> Pair:
    return inserted(pair, chance.choice(atom_lines(pair.protein)), chance.choice(["END", "ENDMDL", "TER", "END   "]))


@mutation
def split_over_two_models(pair: Pair, chance: random.Random) -> Pair:
    place = chance.choice(atom_lines(pair.protein)[5:])
    first, second = pair.protein[:place], pair.protein[place:]
    lines = ["MODEL        1", *first, "ENDMDL", "MODEL        2", *second, "ENDMDL"]
    return Pair(lines, pair.ligand)


@mutation
def the_file_twice(pair: Pair, chance: random.Random) -> Pair:
    end = chance.choice(["END", "ENDMDL"])
    atoms = [pair.protein[i] for i in atom_lines(pair.protein)]
    return Pair([*atoms, end, *atoms, end], pair.ligand)


@mutation
def cut_off(pair: Pair, chance: random.Random) -> Pair:
    """The last line is cut within its coordinates."""
    lines = [pair.protein[i] for i in atom_lines(pair.protein)]
    place = chance.randint(len(lines) // 2, len(lines) - 1)
    return Pair([*lines[:place], lines[place][: chance.randint(10, 53)]], pair.ligand)


@mutation
def coordinates_of_the_protein(pair: Pair, chance: random.Random) -> Pair:
    start = chance.choice([30, 38, 46])
    return some_atom(
        pair, chance, lambda line: f"{line[:start]}{spoilt_number(line[start : start + 8], chance)}{line[start + 8 :]}"
    )


@mutation
def far_unknown_atom(pair: Pair, chance: random.Random) -> Pair:
    return at_end(pair, hetatm(" UNK", "UNX", 1, (400.0, 400.0, 400.0), chance.choice(["X", "", "??"])))


@mutation
def near_unknown_atom(pair: Pair, chance: random.Random) -> Pair:
    return at_end(pair, hetatm(" UNK", "UNX", 1, near_ligand(pair, chance, 3.0), "X"))


@mutation
def windows_line_ends(pair: Pair, _: random.Random) -> Pair:
    return Pair([f"{line}\r" for line in pair.protein], [f"{line}\r" for line in pair.ligand])


@mutation
def mmcif(pair: Pair, chance: random.Random) -> Pair:
    structure = gemmi.read_pdb_string("\n".join(pair.protein))
    text = structure.make_mmcif_document().as_string()
    if chance.random() < 0.5:
        place = text.index("ATOM ") + chance.randint(0, len(text) // 2)
        # Not a blank for a number's last digits: it would be another number, and no reader could tell.
        at_end = text[place + 1 : place + 3].strip() != text[place + 1 : place + 3]
        text = (
            text[:place] + chance.choice(["?", ",", "'"] if at_end else ["?", ",", "\n", "'", " "]) + text[place + 1 :]
        )
    return Pair(text.splitlines(), pair.ligand, protein_name="p.cif")


# ---------------------------------------------------------------------------------- ions, cofactors, parts of residues

IONS = [("SOD", "SOD", "NA"), ("CLA", "CLA", "CL"), ("POT", "POT", "K"), ("CAL", "CAL", "CA"), ("CES", "CES", "CS"), ("ZN2", "ZN", "ZN"),
        ("ZN", "ZN", "ZN"), ("MG", "MG", "MG"), ("CA", "CA", "CA"), ("NA", "NA", "NA"), ("CL", "CL", "CL"), ("BR", "BR", "BR"),
        ("CU", "CU", "CU"), ("NI", "NI", "NI"), ("FE", "FE", "FE"), ("FE2", "FE", "FE"), ("MN", "MN", "MN"), ("CO", "CO", "CO"),
        ("K", "K", "K"), ("IOD", "I", "I"), ("CD", "CD", "CD"), ("HG", "HG", "HG"), ("NA+", "NA+", "NA"), ("CL-", "CL-", "CL"),
        ("Na+", "Na+", "NA"), ("NH4", "N", "N"), ("LI", "LI", "LI"), ("SR", "SR", "SR"), ("BA", "BA", "BA")]  # fmt: skip
"""(residue, name, element) as PDB, CHARMM, AMBER and GROMACS write them."""


def _free_place(pair: Pair, chance: random.Random) -> tuple[float, ...]:
    """A place 3 to 6 Å from the ligand that is no nearer than 2.5 Å to any atom; by itself if there is none."""
    lines = [pair.protein[i] for i in atom_lines(pair.protein)]
    taken = [tuple(float(line[start : start + 8]) for start in (30, 38, 46)) for line in lines]
    atoms = [tuple(xyz) for symbol, *xyz in sdf_atoms("\n".join(pair.ligand)) if symbol != "H"]
    taken += [tuple(xyz) for _, *xyz in sdf_atoms("\n".join(pair.ligand))]
    for _ in range(300):
        place = tuple(value + chance.uniform(-6, 6) for value in chance.choice(atoms))
        if min(math.dist(place, other) for other in taken) > 2.5 and min(math.dist(place, a) for a in atoms) < 6:
            return tuple(round(value, 3) for value in place)
    return (500.0, 500.0, 500.0)


def _written(name: str, chance: random.Random) -> str:
    """A name in its four columns, justified somehow."""
    return chance.choice([f"{name:4}", f" {name:3}", f"{name:>4}"])[:4]


def _more(pair: Pair, *atoms: Atom) -> Pair:
    return replace(pair, more=tuple(atom for atom in atoms if atom[1] < 400))


@mutation
def ions_without_elements(pair: Pair, chance: random.Random) -> Pair:
    residue, name, element = chance.choice(IONS)
    place = _free_place(pair, chance)
    with_ion = at_end(pair, hetatm(_written(name, chance), residue, 801, place))
    change = chance.choice([no_element_column, left_justified_names, old_columns])
    x, y, z = place
    return _more(change(with_ion, chance), (element, x, y, z))


@mutation
def cofactor_without_elements(pair: Pair, chance: random.Random) -> Pair:
    """Two bonded atoms with names as PRODRG and others give them, which begin like metals."""
    x, y, z = _free_place(pair, chance)
    names = [("CAAA", "C"), ("CDAB", "C"), ("CD1", "C"), ("NA", "N"), ("HG1", "H"), ("CO2", "C"), ("NE2", "N"), ("CL1", "CL"), ("BR2", "BR"),
             ("SG", "S"), ("OS1", "O"), ("PB", "P"), ("NI3", "N"), ("CU1", "C"), ("FAB", "F"), ("OG", "O"), ("CS4", "C"), ("PA", "P")]  # fmt: skip
    (one, first), (other, second) = chance.sample(names, 2)
    places = (x, y, z), (x + 1.4, y, z)
    lines = [hetatm(_written(name, chance), "DRG", 802, xyz) for name, xyz in zip((one, other), places, strict=True)]
    atoms = [(symbol, *xyz) for symbol, xyz in zip((first, second), places, strict=True) if symbol != "H"]
    return _more(no_element_column(at_end(pair, *lines), chance), *atoms)


@mutation
def conformer_behind_the_chain(pair: Pair, chance: random.Random) -> Pair:
    """A side chain once more, with or without a letter, somewhere else in the file."""
    places = [
        i
        for i in atom_lines(pair.protein)
        if pair.protein[i][12:16].strip() == "CG" and pair.protein[i].startswith("ATOM")
    ]
    residue = pair.protein[chance.choice(places)][17:27]
    shift, letter = chance.uniform(0.3, 3.0), chance.choice(" B2")
    side = [pair.protein[i] for i in atom_lines(pair.protein) if pair.protein[i][17:27] == residue]
    side = [line for line in side if line[12:16].strip() not in {"N", "C", "O", "CA"}]
    again = [
        f"{line[:16]}{letter}{line[17:30]}{float(line[30:38]) + shift:8.3f}{line[38:54]}  0.30{line[60:]}"
        for line in side
    ]
    return at_end(pair, *chance.choice([[], ["TER"]]), *again)


@mutation
def misplaced_records(pair: Pair, chance: random.Random) -> Pair:
    """A line that is indented, shifted by a wide number, misspelt, quoted, or joined to the next one."""
    place = chance.choice(atom_lines(pair.protein)[:-1])
    line, following = pair.protein[place : place + 2]
    new = chance.choice([
        [" " + line, following], ["\t" + line, following], ["HETATN" + line[6:], following], [f'"{line}"', following], [line + following],
        [line[:6] + "1" + line[6:], following], [line[:22] + "1" + line[22:], following], [line[:12] + line[13:], following],
    ])  # fmt: skip
    return replace(pair, protein=[*pair.protein[:place], *new, *pair.protein[place + 2 :]])


@mutation
def assembly_of_models(pair: Pair, chance: random.Random) -> Pair:
    """The second half of the atoms as MODEL 2, or the same chain elsewhere."""
    lines = [pair.protein[i] for i in atom_lines(pair.protein)]
    if chance.random() < 0.5:
        half = len(lines) // 2
        return replace(
            pair, protein=["MODEL        1", *lines[:half], "ENDMDL", "MODEL        2", *lines[half:], "ENDMDL"]
        )
    far = [f"{line[:30]}{float(line[30:38]) + 40:8.3f}{line[38:]}" for line in lines]
    return replace(pair, protein=["MODEL        1", *lines, "ENDMDL", "MODEL        2", *far, "ENDMDL"])
