"""Elements and positions of an SDF or MOL file (V2000 and V3000), read to the letter or refused.

Only atoms are needed here; RDKit reads the chemistry where a split or a baseline asks for it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from compass.data.structures.elements import ATOMIC_NUMBERS
from compass.data.structures.molecule_file import FileMolecule, MoleculeFault, is_count, plain_number

if TYPE_CHECKING:
    from collections.abc import Sequence

_END_OF_RECORD = re.compile(r"^\$\$\$\$.*\n?", re.MULTILINE)
_COUNTS_LINE = 3
_BOND = re.compile(r"([ \d]{2}\d)([ \d]{2}\d)")


def sdf_records(text: str) -> list[str]:
    """The records of an SDF file, each without its end line; blank ones are left out."""
    return [record for record in _END_OF_RECORD.split(text) if record.strip()]


def read_sdf_record(record: str) -> FileMolecule:
    """The atoms of one record.

    Raises:
        MoleculeFault: it is cut, its counts disagree with its lines, or a line is not what it should be.
    """
    lines = record.splitlines()
    counts = lines[_COUNTS_LINE] if len(lines) > _COUNTS_LINE else ""
    if not any(line.startswith("M  END") for line in lines):
        raise MoleculeFault("a molecule that ends before its 'M  END'", truncated=True)
    return _v3000(lines) if "V3000" in counts else _v2000(lines, counts)


def _v2000(lines: Sequence[str], counts: str) -> FileMolecule:
    if not counts[:3].strip().isdigit() or not (counts[3:6].strip() or "0").isdigit():
        raise MoleculeFault(f"the counts line {counts.strip()[:40]!r}")
    n_atoms, n_bonds = int(counts[:3]), int(counts[3:6].strip() or 0)
    end = next(i for i, line in enumerate(lines) if line.startswith("M  END"))
    body = lines[_COUNTS_LINE + 1 : end]
    atoms, bonds, rest = body[:n_atoms], body[n_atoms : n_atoms + n_bonds], body[n_atoms + n_bonds :]
    if len(atoms) < n_atoms or len(bonds) < n_bonds:
        raise MoleculeFault(f"{len(body)} lines of atoms and bonds where the counts line gives {n_atoms} and {n_bonds}")
    elements = np.empty(n_atoms, np.int64)
    positions = np.empty((n_atoms, 3))
    for i, line in enumerate(atoms):
        positions[i] = [plain_number(line[start : start + 10], line) for start in (0, 10, 20)]
        elements[i] = _element(line[30:34].strip() or line[34:].split(" ")[0], line)
        if line[30] != " " and not elements[i]:  # more digits, or an exponent, than the columns of a coordinate hold
            raise MoleculeFault(f"the atom line {line.strip()[:60]!r}")
    for line in bonds:
        match = _BOND.match(line)
        if not match or not 0 < int(match[1]) <= n_atoms or not 0 < int(match[2]) <= n_atoms:
            raise MoleculeFault(f"the bond line {line.strip()[:40]!r}")
    stray = [line for line in rest if line.strip() and line[:2] not in {"M ", "A ", "V ", "G ", "S "}]
    if any(_BOND.match(line) or line[:31].count(".") >= 3 for line in stray):
        raise MoleculeFault(f"more lines than the counts line gives ({n_atoms} atoms, {n_bonds} bonds)")
    return FileMolecule(elements, positions)


def _v3000(lines: Sequence[str]) -> FileMolecule:
    statements = _statements(lines)
    counts = next((words for words in statements if words[:1] == ["COUNTS"]), [])
    if len(counts) < 3 or not (is_count(counts[1]) and is_count(counts[2])):
        raise MoleculeFault("no V3000 COUNTS line")
    atoms, bonds = _block(statements, "ATOM"), _block(statements, "BOND")
    if (len(atoms), len(bonds)) != (int(counts[1]), int(counts[2])):
        raise MoleculeFault(f"{len(atoms)} atoms and {len(bonds)} bonds where COUNTS gives {counts[1]} and {counts[2]}")
    elements = np.empty(len(atoms), np.int64)
    positions = np.empty((len(atoms), 3))
    for i, words in enumerate(atoms):
        line = " ".join(words)
        if len(words) < 6:
            raise MoleculeFault(f"the atom line {line[:40]!r}")
        positions[i] = [plain_number(word, line) for word in words[2:5]]
        if not words[5].isdigit():
            raise MoleculeFault(f"the atom line {line[:60]!r}")
        elements[i] = _element(words[1].strip('"'), line)
    return FileMolecule(elements, positions)


def _statements(lines: Sequence[str]) -> list[list[str]]:
    """The words of every V3000 line; one that ends with a hyphen goes on in the next."""
    statements, begun = [], ""
    for line in lines:
        if not line.startswith("M  V30 "):
            continue
        begun += line[7:].rstrip()
        if begun.endswith("-"):
            begun = begun[:-1]
            continue
        statements.append(begun.split())
        begun = ""
    return statements


def _block(statements: Sequence[list[str]], name: str) -> list[list[str]]:
    try:
        start, end = statements.index(["BEGIN", name]), statements.index(["END", name])
    except ValueError:
        return []
    return list(statements[start + 1 : end])


def _element(symbol: str, line: str) -> int:
    """The atomic number; 0 for query atoms and symbols that are none, which the structure rules decide about."""
    if not symbol or symbol[0].isdigit():
        raise MoleculeFault(f"the atom line {line.strip()[:60]!r}")
    return ATOMIC_NUMBERS.get(symbol.upper(), 0)
