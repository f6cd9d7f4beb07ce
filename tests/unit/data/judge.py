"""A judge of structure readers that shares nothing with them: columns by the letter of the PDB and SDF formats.

It knows neither gemmi nor RDKit nor Compass. It reads tidy files only: with an element for every atom, no alternates beyond
letters, one model. What a reader gives for an untidy file is judged against the tidy one that it was made from.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

WATERS = {"HOH", "WAT", "DOD", "H2O", "TIP", "TIP3", "SOL"}
SAME_ANGSTROM = 0.2
"""The ligand written in the protein file too: its residue does not count."""

Atom = tuple[str, float, float, float]
"""(element's symbol, x, y, z)."""


@dataclass(frozen=True)
class Judged:
    """Atoms that a complex must have, as multisets of (symbol, coordinates in mÅ)."""

    protein: Counter[tuple[str, int, int, int]]
    ligand: Counter[tuple[str, int, int, int]]


def pdb_residues(text: str) -> list[tuple[tuple[str, ...], list[tuple[Atom, str, str, float]]]]:
    """(residue, [(atom, name, alternate, occupancy)]) of the first model, residues in the order of the file."""
    residues: list[tuple[tuple[str, ...], list[tuple[Atom, str, str, float]]]] = []
    for line in text.splitlines():
        if line.startswith("ENDMDL"):
            break
        if not line.startswith(("ATOM  ", "HETATM")):
            continue
        key = (line[21], line[22:27], line[17:20].strip())
        atom = (line[76:78].strip().upper(), float(line[30:38]), float(line[38:46]), float(line[46:54]))
        if not residues or residues[-1][0] != key:
            residues.append((key, []))
        residues[-1][1].append((atom, line[12:16].strip(), line[16].strip(), float(line[54:60])))
    return residues


def sdf_atoms(text: str) -> list[Atom]:
    """The atoms of the first record, V2000."""
    lines = text.splitlines()
    n_atoms = int(lines[3][:3])
    return [
        (line[31:34].strip().upper(), float(line[:10]), float(line[10:20]), float(line[20:30]))
        for line in lines[4 : 4 + n_atoms]
    ]


def one_conformer(
    residues: list[tuple[tuple[str, ...], list[tuple[Atom, str, str, float]]]],
) -> list[tuple[tuple[str, ...], list[Atom]]]:
    """The alternate of the highest mean occupancy for each number, ties to the first letter; other atoms stay."""
    numbers: dict[tuple[str, str], list[tuple[str, float]]] = {}
    for (chain, number, _), atoms in residues:
        numbers.setdefault((chain, number), []).extend(
            (letter, occupancy) for _, _, letter, occupancy in atoms if letter
        )
    result = []
    for key, atoms in residues:
        letters = numbers[key[0], key[1]]
        means = {letter: sum(o for other, o in letters if other == letter) / sum(other == letter for other, _ in letters)
                 for letter, _ in letters}  # fmt: skip
        best = min(means, key=lambda letter: (-round(means[letter], 3), letter), default="")
        kept = [(atom, name) for atom, name, letter, _ in atoms if letter in {"", best}]
        if kept:
            left: dict[str, tuple[float, str, Atom]] = {}
            for atom, name, letter, occupancy in atoms:
                if name not in {name for _, name in kept}:
                    left[name] = min(
                        left.get(name, (0.0, "~", atom)), (-occupancy, letter, atom), key=lambda x: (x[0], x[1])
                    )
            kept += [(atom, name) for name, (_, _, atom) in left.items()]
        result.append((key, [atom for atom, _ in kept]))
    return result


def judge(protein: str, ligand: str, radius: float | None) -> Judged:
    """What a complex of tidy files holds: heavy atoms, without waters, the ligand once, the protein within `radius`."""
    ligand_atoms = [atom for atom in sdf_atoms(ligand) if atom[0] not in {"H", "D"}]
    kept: list[Atom] = []
    for key, atoms in one_conformer(pdb_residues(protein)):
        heavy = [atom for atom in atoms if atom[0] not in {"H", "D"}]
        if key[2] in WATERS or [atom[0] for atom in heavy] == ["O"]:
            continue
        same = [min(map(_distance(atom), ligand_atoms)) < SAME_ANGSTROM for atom in heavy]
        if 2 * sum(same) >= len(heavy):
            continue
        kept += [atom for atom, is_ligand in zip(heavy, same, strict=True) if not is_ligand]
    if radius is not None:
        kept = [atom for atom in kept if min(map(_distance(atom), ligand_atoms)) <= radius]
    return Judged(multiset(kept), multiset(ligand_atoms))


def multiset(atoms: list[Atom]) -> Counter[tuple[str, int, int, int]]:
    """Atoms without an order, coordinates rounded to mÅ."""
    return Counter((symbol, *(round(1000 * value) for value in xyz)) for symbol, *xyz in atoms)  # type: ignore[misc]


def _distance(atom: Atom):
    return lambda other: math.dist(atom[1:], other[1:])
