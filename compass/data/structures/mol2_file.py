"""Elements and positions of a MOL2 file, read to the letter or refused; SYBYL atom types and GAFF's."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from compass.data.structures.elements import ATOMIC_NUMBERS
from compass.data.structures.molecule_file import FileMolecule, MoleculeFault, is_count, plain_number

if TYPE_CHECKING:
    from collections.abc import Sequence

_START = "@<TRIPOS>"
_GAFF = re.compile(
    r"c[1-3acdefghpqstuvxyz5-6]?|h[1-5acnopswx]|f|cl|br|i|n[1-9a-z+]?|o[hsqpw]?|p[2-5b-fxy]|s[2468hpqxy]?"
)
"""GAFF's and GAFF2's types, which begin with their element in small letters."""
_UNKNOWN = {"DU", "LP", "ANY", "HAL", "HET", "HEV"}
"""SYBYL types without an element."""
_TWO_LETTERS = {symbol for symbol in ATOMIC_NUMBERS if len(symbol) == 2}


def mol2_records(text: str) -> list[str]:
    """The molecules of a MOL2 file."""
    return text.split(f"{_START}MOLECULE")[1:]


def read_mol2_record(record: str) -> FileMolecule:
    """The atoms of one molecule.

    Raises:
        MoleculeFault: it is cut, its counts disagree with its sections, or a line is not what it should be.
    """
    sections = _sections(record)
    head = sections.get("", [])
    if "BOND" not in sections and "ATOM" not in sections:
        raise MoleculeFault(f"a molecule that ends before its '{_START}BOND'", truncated=True)
    counts = head[1].split() if len(head) > 1 else []
    if not counts or not all(is_count(word) for word in counts[:2]):
        raise MoleculeFault(f"the counts line {' '.join(counts)[:40]!r}")
    atoms, bonds = ([line for line in sections.get(name, []) if line.strip()] for name in ("ATOM", "BOND"))
    n_atoms, n_bonds = int(counts[0]), int(counts[1]) if len(counts) > 1 else len(bonds)
    if "BOND" not in sections and n_bonds:
        raise MoleculeFault(f"a molecule that ends before its '{_START}BOND'", truncated=True)
    if (len(atoms), len(bonds)) != (n_atoms, n_bonds):
        raise MoleculeFault(f"{len(atoms)} atoms and {len(bonds)} bonds where the header gives {n_atoms} and {n_bonds}")
    return _molecule(atoms)


def _sections(record: str) -> dict[str, list[str]]:
    """Section → its lines without comments; the header under the empty name."""
    sections: dict[str, list[str]] = {"": []}
    name = ""
    for line in record.split("\n")[1:]:
        if line.startswith(_START):
            name = line[len(_START) :].strip().upper()
            sections.setdefault(name, [])
        elif not line.startswith("#"):
            sections[name].append(line.rstrip("\r"))
    return sections


def _molecule(lines: Sequence[str]) -> FileMolecule:
    rows = [line.split() for line in lines]
    for words, line in zip(rows, lines, strict=True):
        if len(words) < 6 or not words[0].isdigit():
            raise MoleculeFault(f"the atom line {line.strip()[:60]!r}")
    types = [words[5] for words in rows]
    small = [kind for kind in types if kind[0].islower()]
    is_gaff = bool(small) and all(_GAFF.fullmatch(kind) for kind in types)
    elements = [_gaff(kind) if is_gaff else _sybyl(kind) for kind in types]
    odd = sorted({kind for kind, element in zip(types, elements, strict=True) if element is None})
    if odd:
        raise MoleculeFault(
            f"the atom types {', '.join(odd[:8])}, which are neither SYBYL's nor GAFF's; convert them to SYBYL types, or give an SDF"
        )
    positions = [[plain_number(word, line) for word in words[2:5]] for words, line in zip(rows, lines, strict=True)]
    notes = ("GAFF atom types were read",) if is_gaff else ()
    return FileMolecule(np.array(elements, np.int64), np.array(positions, np.float64).reshape(-1, 3), notes)


def _gaff(kind: str) -> int:
    return ATOMIC_NUMBERS[kind[:2].upper() if kind in {"cl", "br"} else kind[0].upper()]


def _sybyl(kind: str) -> int | None:
    """The atomic number of a SYBYL type, 0 if it has no element, None if it is no SYBYL type.

    `Ca` is calcium; `CA` may be AMBER's aromatic carbon, so that two capitals count only where no such type exists.
    """
    symbol, dot, _ = kind.partition(".")
    if symbol.upper() in _UNKNOWN:
        return 0
    known = symbol.upper() in ATOMIC_NUMBERS and symbol[0].isupper()
    doubtful = not dot and len(symbol) == 2 and symbol.isupper() and symbol[0] in "CHNOPS" and symbol != "CL"
    return ATOMIC_NUMBERS[symbol.upper()] if known and not doubtful else None
