"""Ligand files spoilt in the ways of real tools."""

from __future__ import annotations

import random

from benchmarks.mutated_files import (
    Pair,
    mutation,
    sdf_atoms,
    spoilt_number,
)

# ------------------------------------------------------------------------------------------------------------ ligands


def _on_ligand(pair: Pair, lines: list[str], name: str = "l.sdf") -> Pair:
    return Pair(pair.protein, lines, name)


@mutation
def coordinates_of_the_ligand(pair: Pair, chance: random.Random) -> Pair:
    lines, n_atoms = list(pair.ligand), int(pair.ligand[3][:3])
    i, start = chance.randint(4, 3 + n_atoms), chance.choice([0, 10, 20])
    lines[i] = f"{lines[i][:start]}{spoilt_number(lines[i][start : start + 10], chance)}{lines[i][start + 10 :]}"
    return _on_ligand(pair, lines)


@mutation
def counts_of_the_ligand(pair: Pair, chance: random.Random) -> Pair:
    lines, n_atoms, n_bonds = list(pair.ligand), int(pair.ligand[3][:3]), int(pair.ligand[3][3:6])
    n_atoms += chance.choice([-3, -1, 0, 1, 2])
    n_bonds = max(0, n_bonds + chance.choice([-2, -1, 0, 1, 2]))
    lines[3] = f"{n_atoms:3}{n_bonds:3}{lines[3][6:]}"
    return _on_ligand(pair, lines)


@mutation
def broken_first_record(pair: Pair, chance: random.Random) -> Pair:
    lines = list(coordinates_of_the_ligand(pair, chance).ligand)
    other = [*pair.ligand[:4], *[f"{float(line[:10]) + 1:10.4f}{line[10:]}" for line in pair.ligand[4 : 4 + int(pair.ligand[3][:3])]],
             *pair.ligand[4 + int(pair.ligand[3][:3]) :]]  # fmt: skip
    return _on_ligand(pair, [*lines, *([] if lines[-1].startswith("$$$$") else ["$$$$"]), *other])


@mutation
def several_poses(pair: Pair, chance: random.Random) -> Pair:
    end = [] if any(line.startswith("$$$$") for line in pair.ligand) else ["$$$$"]
    return _on_ligand(pair, [*pair.ligand, *end] * chance.randint(2, 4))


@mutation
def line_lost_from_the_ligand(pair: Pair, chance: random.Random) -> Pair:
    place = chance.randint(0, len(pair.ligand) - 1)
    return _on_ligand(pair, [*pair.ligand[:place], *pair.ligand[place + 1 :]])


@mutation
def v3000(pair: Pair, chance: random.Random) -> Pair:
    atoms = sdf_atoms("\n".join(pair.ligand))
    spoilt = chance.choice([-1, chance.randrange(len(atoms))])
    rows = []
    for i, (symbol, *xyz) in enumerate(atoms):
        words = [f"{value:.4f}" for value in xyz]
        if i == spoilt:
            words[chance.randrange(3)] = chance.choice(["1,5", "?", "1.5D0", "1.5x", "nan"])
        rows.append(f"M  V30 {i + 1} {symbol.capitalize()} {' '.join(words)} 0")
    n = len(atoms) + chance.choice([0, 0, 1, -1])
    return _on_ligand(pair, ["x", "", "", "  0  0  0     0  0            999 V3000", "M  V30 BEGIN CTAB", f"M  V30 COUNTS {n} 0 0 0 0",
                             "M  V30 BEGIN ATOM", *rows, "M  V30 END ATOM", "M  V30 END CTAB", "M  END", "$$$$"])  # fmt: skip


GAFF = {"C": ["c", "c3", "ca"], "N": ["n", "na", "nb"], "O": ["o", "os"], "S": ["s", "ss"], "CL": ["cl"], "BR": ["br"], "F": ["f"],
        "H": ["hc"], "P": ["p5"], "I": ["i"]}  # fmt: skip
SYBYL = {"C": ["C.3", "C.ar"], "N": ["N.3", "N.am"], "O": ["O.2", "O.co2"], "S": ["S.3"], "CL": ["Cl", "CL"], "BR": ["Br"], "F": ["F"],
         "H": ["H"], "P": ["P.3"], "I": ["I"]}  # fmt: skip
AMBER = {"C": ["CA", "CT"], "N": ["NA", "N"], "O": ["OH", "O"], "S": ["SH"], "CL": ["CL"], "BR": ["BR"], "F": ["F"], "H": ["HC"],
         "P": ["P"], "I": ["I"]}  # fmt: skip


@mutation
def mol2(pair: Pair, chance: random.Random) -> Pair:
    kinds = chance.choice([GAFF, SYBYL, AMBER])
    atoms = sdf_atoms("\n".join(pair.ligand))
    rows = []
    spoilt = chance.choice([-1, -1, chance.randrange(len(atoms))])
    for i, (symbol, *xyz) in enumerate(atoms):
        words = [f"{value:.4f}" for value in xyz]
        if i == spoilt:
            words[chance.randrange(3)] = chance.choice(["1,5", "?", "1.5D0", "1.5x", ""])
        rows.append(f"{i + 1} {symbol}{i} {' '.join(words)} {chance.choice(kinds.get(symbol, [symbol]))} 1 LIG 0.0")
    n = len(rows) + chance.choice([0, 0, 1, -2])
    head = ["@<TRIPOS>MOLECULE", "LIG", f"{n} 0 1", "SMALL", "NO_CHARGES", "", "@<TRIPOS>ATOM"]
    return _on_ligand(pair, [*head, *rows, "@<TRIPOS>BOND"], "l.mol2")


@mutation
def names_for_elements(pair: Pair, chance: random.Random) -> Pair:
    """Atom names where the symbols belong: Ca for the first carbons, and what begins like a metal."""
    lines, n_atoms = list(pair.ligand), int(pair.ligand[3][:3])
    wrong = {"C": chance.choice(["Ca", "Cd", "Ce", "CA"]), "N": chance.choice(["Na", "Ne"]), "O": "Os", "S": "Sg"}
    for i in range(4, 4 + n_atoms):
        symbol = lines[i][31:34].strip()
        lines[i] = f"{lines[i][:31]}{wrong.get(symbol, symbol):3}{lines[i][34:]}"
    return _on_ligand(pair, lines)


@mutation
def shifted_columns_of_the_ligand(pair: Pair, chance: random.Random) -> Pair:
    """A line without its leading blanks, with narrower or wider columns, or with a blank more."""
    lines, n_atoms = list(pair.ligand), int(pair.ligand[3][:3])
    form = chance.choice(["stripped", "9", "12.5", "11.5", "blank", "comma"])
    for i in range(4, 4 + n_atoms):
        line = lines[i]
        values = [float(line[start : start + 10]) for start in (0, 10, 20)]
        lines[i] = {
            "stripped": line.lstrip(), "blank": " " + line, "comma": line.replace(".", ","), "9": "".join(f"{v:9.4f}" for v in values) + line[30:],
            "12.5": "".join(f"{v:12.5f}" for v in values) + line[30:], "11.5": "".join(f"{v:11.5f}" for v in values) + line[30:],
        }[form]  # fmt: skip
    return _on_ligand(pair, lines)
