"""Spoils good structure files in the ways of real tools, and looks at what the reader makes of them.

    python -m benchmarks.mutations [--files 20000] [--seed 0]

Every mutated file must be read right, be repaired or read with a note, or be rejected with a reason. A complex that is read
without a note and is wrong is the one thing that must not happen, and a crash of the reader. Right is what the judge in
`tests/unit/data/judge.py`, which shares no code with the reader, finds in the unspoilt files. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import gemmi

from compass.data.structures.complexes import Complex
from compass.data.structures.reading import read_complex
from compass.data.structures.structure_file import StructureError
from compass.optimizer_config import StructureRules

RADIUS = 8.0
FILES = Path(__file__).parents[1] / "tests" / "unit" / "data" / "files"


def _judge_of_the_tests() -> Any:
    """The judge, by its path: a folder of tests is no package."""
    spec = spec_from_file_location("judge", FILES.with_name("judge.py"))
    if spec is None or spec.loader is None:
        raise FileNotFoundError("tests/unit/data/judge.py")
    module = sys.modules["judge"] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


judge_module = _judge_of_the_tests()
judge, sdf_atoms = judge_module.judge, judge_module.sdf_atoms
Judged = Any
"""The judge's atoms of a complex."""
SHOWN = 20
"""Most failures that are printed."""


@dataclass(frozen=True)
class Pair:
    """The two files of a complex."""

    protein: list[str]
    ligand: list[str]
    ligand_name: str = "l.sdf"
    protein_name: str = "p.pdb"


Mutation = Callable[[Pair, random.Random], Pair]
MUTATIONS: dict[str, Mutation] = {}
"""Name → mutation. A mutation returns other files of the same complex, or of one that is spoilt for good."""


def mutation(function: Mutation) -> Mutation:
    """Register a mutation under its name."""
    MUTATIONS[function.__name__] = function
    return function


def _atoms(lines: list[str]) -> list[int]:
    return [i for i, line in enumerate(lines) if line.startswith(("ATOM", "HETATM"))]


def _each_atom(pair: Pair, change: Callable[[str], str]) -> Pair:
    return Pair([change(line) if line.startswith(("ATOM", "HETATM")) else line for line in pair.protein],
                pair.ligand, pair.ligand_name, pair.protein_name)  # fmt: skip


def _some_atom(pair: Pair, chance: random.Random, change: Callable[[str], str]) -> Pair:
    lines = list(pair.protein)
    i = chance.choice(_atoms(lines))
    lines[i] = change(lines[i])
    return Pair(lines, pair.ligand, pair.ligand_name, pair.protein_name)


def _inserted(pair: Pair, place: int, *lines: str) -> Pair:
    return Pair(
        [*pair.protein[:place], *lines, *pair.protein[place:]], pair.ligand, pair.ligand_name, pair.protein_name
    )


def _at_end(pair: Pair, *lines: str) -> Pair:
    return _inserted(pair, _atoms(pair.protein)[-1] + 1, *lines)


def _hetatm(name: str, residue: str, number: int, xyz: tuple[float, ...], element: str = "", chain: str = "Z") -> str:
    x, y, z = xyz
    return f"HETATM 9999 {name:4} {residue:>3} {chain}{number:4}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00          {element:>2}"


def _near_ligand(pair: Pair, chance: random.Random, shift: float) -> tuple[float, ...]:
    _, *xyz = chance.choice(sdf_atoms("\n".join(pair.ligand)))
    return tuple(value + chance.choice((-1, 1)) * shift for value in xyz)


# ----------------------------------------------------------------------------------------------------- element columns


@mutation
def no_element_column(pair: Pair, _: random.Random) -> Pair:
    return _each_atom(pair, lambda line: line[:66])


@mutation
def left_justified_names(pair: Pair, _: random.Random) -> Pair:
    return _each_atom(pair, lambda line: f"{line[:12]}{line[12:16].strip():4}{line[16:66]}")


@mutation
def old_columns(pair: Pair, chance: random.Random) -> Pair:
    code = chance.choice(["1BJU", "4HHB", "PROA", "C", "XYZ "])
    return _each_atom(pair, lambda line: f"{line[:66]:72}{code:4}{line[7:11]}")


@mutation
def odd_charges(pair: Pair, chance: random.Random) -> Pair:
    charge = chance.choice(["0.00", "1+", "-1", "+0.5", "ab", "**", "L"])
    return _each_atom(pair, lambda line: f"{line[:78]:78}{charge}")


@mutation
def elements_copy_names(pair: Pair, _: random.Random) -> Pair:
    return _each_atom(pair, lambda line: f"{line[:76]:76}{line[12:16].strip()[:2]:>2}")


@mutation
def some_elements_missing(pair: Pair, chance: random.Random) -> Pair:
    return _each_atom(pair, lambda line: line[:66] if chance.random() < 0.5 else line)


@mutation
def one_wrong_element(pair: Pair, chance: random.Random) -> Pair:
    symbol = chance.choice(["HG", "CA", "NE", "C", "O", "X", "ZN", "??", "1"])
    return _some_atom(pair, chance, lambda line: f"{line[:76]:76}{symbol:>2}")


@mutation
def lower_case(pair: Pair, _: random.Random) -> Pair:
    return _each_atom(pair, lambda line: f"{line[:76]:76}{line[76:78].lower()}")


# --------------------------------------------------------------------------------------------- one place, one atom


@mutation
def conformer_without_letters(pair: Pair, chance: random.Random) -> Pair:
    """A residue's side chain twice, a little apart, with every combination of letters."""
    lines, places = list(pair.protein), _atoms(pair.protein)
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
    base = pair.protein[chance.choice(_atoms(pair.protein))][17:27]
    shift = chance.uniform(0.2, 1.4)
    lines = []
    for line in pair.protein:
        own = line.startswith(("ATOM", "HETATM")) and line[17:27] == base
        lines.append(line)
        if own and line[12:16].strip() not in {"N", "C", "O", "CA"}:
            lines.append(f"{line[:16]} {line[17:30]}{float(line[30:38]) + shift:8.3f}{line[38:54]}  0.30{line[60:]}")
    return _each_atom(
        Pair(lines, pair.ligand),
        lambda line: f"{line[:12]}{line[12:15]}1{line[16]}XYZ{line[20:]}" if line[17:27] == base else line,
    )


@mutation
def crystal_ligand_beside_the_pose(pair: Pair, chance: random.Random) -> Pair:
    shift = chance.choice([0.0, 0.1, 0.3, 0.5, 0.9, 1.5, 2.0])
    atoms = [atom for atom in sdf_atoms("\n".join(pair.ligand)) if atom[0] != "H"]
    return _at_end(pair, "TER", *(
        _hetatm(f" {symbol[0]}{i:<2}", "LIG", 900, (x + shift, y, z), symbol) for i, (symbol, x, y, z) in enumerate(atoms)
    ))  # fmt: skip


@mutation
def ligand_and_cofactor_under_one_number(pair: Pair, chance: random.Random) -> Pair:
    """A copy of the ligand, and beyond the pocket another molecule of its name and number."""
    atoms = [atom for atom in sdf_atoms("\n".join(pair.ligand)) if atom[0] != "H"]
    copy = [_hetatm(f" {s[0]}{i:<2}", "UNL", 1, xyz, s) for i, (s, *xyz) in enumerate(atoms)]
    other = [_hetatm(f" C{i:<2}", "UNL", 1, (300.0 + 1.5 * i, 0.0, 0.0), "C") for i in range(chance.randint(2, 9))]
    parts = [copy, other] if chance.random() < 0.5 else [other, copy]
    return _at_end(pair, "TER", *parts[0], *(["TER"] if chance.random() < 0.5 else []), *parts[1])


@mutation
def a_residue_twice(pair: Pair, chance: random.Random) -> Pair:
    residue = pair.protein[chance.choice(_atoms(pair.protein))][17:27]
    copy = [line for line in pair.protein if line.startswith(("ATOM", "HETATM")) and line[17:27] == residue]
    place = max(i for i in _atoms(pair.protein) if pair.protein[i][17:27] == residue) + 1
    return _inserted(pair, chance.choice([place, _atoms(pair.protein)[-1] + 1]), *copy)


@mutation
def an_atom_on_the_ligand(pair: Pair, chance: random.Random) -> Pair:
    x, y, z = _near_ligand(pair, chance, chance.uniform(0.15, 0.4))
    return _some_atom(pair, chance, lambda line: f"{line[:30]}{x:8.3f}{y:8.3f}{z:8.3f}{line[54:]}")


# ------------------------------------------------------------------------------------------------------ the whole file


@mutation
def end_in_the_middle(pair: Pair, chance: random.Random) -> Pair:
    return _inserted(pair, chance.choice(_atoms(pair.protein)), chance.choice(["END", "ENDMDL", "TER", "END   "]))


@mutation
def split_over_two_models(pair: Pair, chance: random.Random) -> Pair:
    place = chance.choice(_atoms(pair.protein)[5:])
    first, second = pair.protein[:place], pair.protein[place:]
    lines = ["MODEL        1", *first, "ENDMDL", "MODEL        2", *second, "ENDMDL"]
    return Pair(lines, pair.ligand)


@mutation
def the_file_twice(pair: Pair, chance: random.Random) -> Pair:
    end = chance.choice(["END", "ENDMDL"])
    atoms = [pair.protein[i] for i in _atoms(pair.protein)]
    return Pair([*atoms, end, *atoms, end], pair.ligand)


@mutation
def cut_off(pair: Pair, chance: random.Random) -> Pair:
    """The last line is cut within its coordinates."""
    lines = [pair.protein[i] for i in _atoms(pair.protein)]
    place = chance.randint(len(lines) // 2, len(lines) - 1)
    return Pair([*lines[:place], lines[place][: chance.randint(10, 53)]], pair.ligand)


@mutation
def coordinates_of_the_protein(pair: Pair, chance: random.Random) -> Pair:
    start = chance.choice([30, 38, 46])
    return _some_atom(
        pair, chance, lambda line: f"{line[:start]}{_spoilt(line[start : start + 8], chance)}{line[start + 8 :]}"
    )


def _spoilt(number: str, chance: random.Random) -> str:
    """A number of the same width that is none."""
    width = len(number)
    return chance.choice([
        number.replace(".", ","), " " * width, "*" * width, number.replace(".", " "), "nan".rjust(width), "1.0D+01".rjust(width),
        f"{number[:-1]}x", "?".rjust(width), number.replace(".", "..")[-width:], "0x1A".rjust(width), "1_0.000".rjust(width),
    ])  # fmt: skip


@mutation
def far_unknown_atom(pair: Pair, chance: random.Random) -> Pair:
    return _at_end(pair, _hetatm(" UNK", "UNX", 1, (400.0, 400.0, 400.0), chance.choice(["X", "", "??"])))


@mutation
def near_unknown_atom(pair: Pair, chance: random.Random) -> Pair:
    return _at_end(pair, _hetatm(" UNK", "UNX", 1, _near_ligand(pair, chance, 3.0), "X"))


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


# ------------------------------------------------------------------------------------------------------------ ligands


def _on_ligand(pair: Pair, lines: list[str], name: str = "l.sdf") -> Pair:
    return Pair(pair.protein, lines, name)


@mutation
def coordinates_of_the_ligand(pair: Pair, chance: random.Random) -> Pair:
    lines, n_atoms = list(pair.ligand), int(pair.ligand[3][:3])
    i, start = chance.randint(4, 3 + n_atoms), chance.choice([0, 10, 20])
    lines[i] = f"{lines[i][:start]}{_spoilt(lines[i][start : start + 10], chance)}{lines[i][start + 10 :]}"
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


# ---------------------------------------------------------------------------------------------------------------- run


@dataclass(frozen=True)
class Verdict:
    """What became of one mutated complex."""

    kind: str
    """`right`, `noted`, `rejected`, `wrong` or `crashed`."""
    detail: str = ""


def bases() -> list[Pair]:
    """The good complexes: a cut of 1bju, and pockets of those in the posebusters wheel."""
    found = [
        Pair(
            (FILES / "1bju_protein.pdb").read_text().splitlines(), (FILES / "1bju_ligand.sdf").read_text().splitlines()
        )
    ]
    spec = find_spec("posebusters")
    if spec is not None and spec.origin is not None:
        for folder in sorted((Path(spec.origin).parent / "datasets" / "pdb").iterdir()):
            protein = (folder / f"{folder.name}_protein_one_lig_removed.pdb").read_text()
            ligand = (folder / f"{folder.name}_ligand.sdf").read_text()
            found.append(Pair(_near(protein, ligand), ligand.splitlines()))
    return found


def _near(protein: str, ligand: str) -> list[str]:
    """The lines of residues within 12 Å of the ligand's box, so that thousands of files are read in minutes."""
    atoms = sdf_atoms(ligand)
    low, high = ([edge(atom[axis] for atom in atoms) for axis in (1, 2, 3)] for edge in (min, max))
    lines = [line for line in protein.splitlines() if line.startswith(("ATOM", "HETATM"))]
    near = {line[17:27] for line in lines
            if all(low[i] - 12 < float(line[30 + 8 * i : 38 + 8 * i]) < high[i] + 12 for i in range(3))}  # fmt: skip
    return [*(line for line in lines if line[17:27] in near), "END"]


def verdict(pair: Pair, right: Judged, folder: Path) -> Verdict:
    """Read a mutated complex and compare it with what is right."""
    protein, ligand = folder / pair.protein_name, folder / pair.ligand_name
    protein.write_text("\n".join([*pair.protein, ""]), newline="")
    ligand.write_text("\n".join([*pair.ligand, ""]), newline="")
    try:
        found = read_complex("x", protein, ligand, pocket_radius=RADIUS, max_atoms=25_000, rules=StructureRules())
    except StructureError as error:
        return Verdict("rejected", str(error.reason))
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        return Verdict("crashed", f"{type(error).__name__}: {error}")
    if atoms_of(found) == right:
        return Verdict("right")
    return Verdict("noted" if found.notes or found.repairs else "wrong", "; ".join(found.notes))


def atoms_of(found: Complex) -> Judged:
    """The atoms of a complex as the judge writes them."""
    symbols = [gemmi.Element(int(number)).name.upper() for number in found.elements]
    rows = [
        (symbol, *(round(1000 * float(value)) for value in xyz))
        for symbol, xyz in zip(symbols, found.positions, strict=True)
    ]
    marks = found.is_ligand.tolist()
    return judge_module.Judged(
        Counter(row for row, is_ligand in zip(rows, marks, strict=True) if not is_ligand),
        Counter(row for row, is_ligand in zip(rows, marks, strict=True) if is_ligand),
    )


def run(n_files: int, seed: int, folder: Path) -> tuple[Counter[str], dict[str, Counter[str]], list[str]]:
    """(verdicts, verdicts of each mutation, what went wrong)."""
    chance = random.Random(seed)
    pairs = [(pair, judge("\n".join(pair.protein), "\n".join(pair.ligand), RADIUS)) for pair in bases()]
    names, totals, failures = list(MUTATIONS), Counter[str](), []
    by_mutation: dict[str, Counter[str]] = {name: Counter() for name in names}
    for number in range(n_files):
        pair, right = pairs[number % len(pairs)] if number % 3 else pairs[0]
        name = names[number % len(names)]
        state = chance.getrandbits(32)
        found = verdict(MUTATIONS[name](pair, random.Random(state)), right, folder)
        totals[found.kind] += 1
        by_mutation[name][found.kind] += 1
        if found.kind in {"wrong", "crashed"}:
            failures.append(f"{name} {number} {state}: {found.kind} {found.detail}")
    return totals, by_mutation, failures


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        totals, by_mutation, failures = run(options.files, options.seed, Path(folder))
    for name, counts in by_mutation.items():
        print(f"{name:40}", ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items())))
    for line in failures[:SHOWN]:
        print("FAILED", line)
    figures = {"files": options.files, "seed": options.seed, "took_s": round(time.monotonic() - started, 1), **totals}
    print(json.dumps({**figures, "wrong": totals["wrong"], "crashed": totals["crashed"]}))
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
