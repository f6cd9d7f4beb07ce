"""PDB text as an `AtomTable`, column by column.

Every record is read to the letter or refused: a coordinate that is not a plain number is never cut to its first digits.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from compass.data.structures.atom_table import NO_ELEMENT, AtomTable
from compass.data.structures.elements import ATOMIC_NUMBERS
from compass.data.structures.structure_file import Reason, StructureError, unreadable
from compass.units import format_count

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_WIDTH = 80
_COORDINATES = "coordinates in columns 31 to 54"
_PLAIN = np.isin(np.arange(256), np.frombuffer(b" +-.0123456789", np.uint8))
_LETTER = np.isin(np.arange(256), np.frombuffer(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz", np.uint8))
_PLAIN_NUMBER = re.compile(r" *[+-]?(\d+\.?\d*|\.\d+) *")
_OTHER_RECORDS = frozenset(
    [
        *(
            "ANISOU",
            "AUTHOR",
            "BRANCH",
            "CAVEAT",
            "CISPEP",
            "COMPND",
            "CONECT",
            "CRYST1",
            "DBREF",
            "DBREF1",
            "DBREF2",
            "EXPDTA",
        ),
        *(
            "FORMUL",
            "HEADER",
            "HELIX",
            "HET",
            "HETNAM",
            "HETSYN",
            "JRNL",
            "KEYWDS",
            "LINK",
            "LINKR",
            "MASTER",
            "MDLTYP",
            "MODRES",
        ),
        *(
            "MTRIX1",
            "MTRIX2",
            "MTRIX3",
            "NUMMDL",
            "OBSLTE",
            "ORIGX1",
            "ORIGX2",
            "ORIGX3",
            "REMARK",
            "REVDAT",
            "ROOT",
            "SCALE1",
        ),
        *(
            "SCALE2",
            "SCALE3",
            "SEQADV",
            "SEQRES",
            "SHEET",
            "SIGATM",
            "SIGUIJ",
            "SITE",
            "SOURCE",
            "SPLIT",
            "SPRSDE",
            "SSBOND",
        ),
        *("TITLE", "TORSDO", "TURN", "USER"),
    ]
)
_LIKE_AN_ATOM = re.compile(r"[\s\"'>|]+(ATOM|HETATM)\b.*\d\.\d|\S.{5}[ \d]{5}.{19}([ \d-]{4}\.\d{3}){3}", re.IGNORECASE)
"""An atom record behind a blank or a quote, or under a misspelt name."""
_SECOND_ATOM = re.compile(r"ATOM  |HETATM")


def parse_pdb(path: Path, text: str) -> AtomTable:
    """The atoms of a PDB file; empty if it has none.

    Raises:
        StructureError: truncated, or unreadable where a coordinate is not a plain number.
    """
    lines, hetero, segments, models, notes = _records(path, text)
    raw = "".join([line[:_WIDTH].ljust(_WIDTH) for line in lines]).encode("ascii", "replace")
    data = np.frombuffer(raw, np.uint8).reshape(-1, _WIDTH)
    names, residue_names = _texts(data, 12, 16), _texts(data, 17, 20)
    beyond = data[:, 20] != ord(" ")
    if beyond.any():  # four-letter residue names, as CHARMM and GROMACS write them
        residue_names = np.where(beyond, _texts(data, 17, 21), residue_names)
    return AtomTable(
        names=names,
        alternates=_texts(data, 16, 17),
        residue_names=residue_names,
        chains=_texts(data, 21, 22),
        numbers=_texts(data, 22, 27),
        hetero=np.array(hetero, np.bool_),
        segments=np.array(segments, np.int64),
        models=np.array(models, np.int64),
        elements=_elements(data),
        two_letter=_two_letter(data),
        occupancies=_occupancies(data),
        positions=_positions(path, data, lines),
        notes=tuple(notes),
    )


def _records(path: Path, text: str) -> tuple[list[str], list[bool], list[int], list[int], list[str]]:
    """(lines, hetero, segments, models) of the atom records, and notes."""
    lines: list[str] = []
    hetero: list[bool] = []
    segments: list[int] = []
    blocks: list[int] = []
    segment = block = n_commented = 0
    in_models: set[int] = set()
    for number, line in enumerate(text.splitlines(), start=1):
        head = line[:6].upper()
        if head.startswith("ATOM") or head == "HETATM":
            if len(line.rstrip()) < 54 or len(line) > _WIDTH:
                _require_one_record(path, line, number)
            lines.append(line)
            hetero.append(head == "HETATM")
            segments.append(segment)
            blocks.append(block)
        elif head.startswith("TER"):
            segment += 1
        elif head.startswith(("MODEL", "END")):
            segment += 1
            block = block + 1 if lines and blocks[-1] == block else block
            if head.startswith("MODEL"):
                in_models.add(block)
        elif head.startswith("#"):
            n_commented += line.lstrip("# ").startswith(("ATOM ", "HETATM"))
        elif head.rstrip() not in _OTHER_RECORDS and _LIKE_AN_ATOM.match(line):
            raise unreadable(
                path, why=f"{line[:60].rstrip()!r} in line {number}", expected="ATOM or HETATM in column 1"
            )
    notes = [f"{format_count(n_commented)} atom records behind a # are left out"] if n_commented else []
    if not in_models.issuperset(blocks) and blocks and blocks[-1]:
        models, on_end = _outside_models(lines, blocks, in_models) if in_models else _after_end(lines, blocks)
        return lines, hetero, segments, models, [*notes, *on_end]
    return lines, hetero, segments, blocks, notes


def _require_one_record(path: Path, line: str, number: int) -> None:
    """Refuse an atom record that ends within its coordinates, or has another one behind it.

    Raises:
        StructureError: truncated, or unreadable.
    """
    if len(line.rstrip()) < 54:
        raise StructureError(
            Reason.TRUNCATED,
            path,
            got=f"line {number} cut short at column {len(line)}",
            expected=_COORDINATES,
            fix="Fetch the file again.",
        )
    if len(line) > _WIDTH and _SECOND_ATOM.search(line, 54):
        raise unreadable(path, why=f"two atom records in line {number}", expected="one record a line")


def _after_end(lines: list[str], blocks: list[int]) -> tuple[list[int], list[str]]:
    """Models of a file with atoms after END or ENDMDL but without MODEL: a repetition is a further model."""
    first = {line[12:27] for line, block in zip(lines, blocks, strict=True) if block == 0}
    models, notes = list(blocks), []
    by_block = defaultdict[int, list[int]](list)
    for i, block in enumerate(blocks):
        by_block[block].append(i)
    for block in range(1, blocks[-1] + 1):
        places = by_block[block]
        n_again = sum(lines[i][12:27] in first for i in places)
        if 2 * n_again >= len(places):
            notes.append(
                f"{format_count(len(places))} atoms after END repeat the first ones and count as another model"
            )
            continue
        notes.append(f"{format_count(len(places))} atoms after END are part of the structure")
        for i in places:
            models[i] = 0
    return models, list(dict.fromkeys(notes))


def _outside_models(lines: list[str], blocks: list[int], in_models: set[int]) -> tuple[list[int], list[str]]:
    """Models of a file with atoms outside its MODEL records: they belong to the first model, unless they repeat it."""
    first = min(block for block in blocks if block in in_models)
    known = {line[12:27] for line, block in zip(lines, blocks, strict=True) if block == first}
    places = [i for i, block in enumerate(blocks) if block not in in_models]
    if 2 * sum(lines[i][12:27] in known for i in places) >= len(places):
        return blocks, []
    models = [block if block in in_models else first for block in blocks]
    return models, [f"{format_count(len(places))} atoms outside MODEL records are part of the structure"]


def _texts(data: NDArray[np.uint8], start: int, end: int) -> NDArray[Any]:
    """(n,) stripped strings of the columns from `start` up to `end`."""
    column = np.ascontiguousarray(data[:, start:end]).view(f"S{end - start}").ravel()
    return np.strings.strip(column.astype(f"U{end - start}"))


def _positions(path: Path, data: NDArray[np.uint8], lines: list[str]) -> NDArray[np.float64]:
    field = np.ascontiguousarray(data[:, 30:54])
    if _PLAIN[field].all():
        try:
            return field.view("S8").astype(np.float64)
        except ValueError:
            pass
    for line in lines:
        if not all(_PLAIN_NUMBER.fullmatch(line[start : start + 8]) for start in (30, 38, 46)):
            raise unreadable(path, why=f"{line[30:54].strip()!r} in {line[:27].strip()!r}", expected=_COORDINATES)
    return field.view("S8").astype(np.float64)


def _occupancies(data: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(n,) occupancies; 1 where the field holds no number."""
    field = np.ascontiguousarray(data[:, 54:60]).view("S6").ravel()
    try:
        return field.astype(np.float64)
    except ValueError:
        return np.array([_number_or_one(text) for text in field.tolist()])


def _number_or_one(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 1.0


def _elements(data: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(n,) atomic numbers of columns 77 and 78.

    Old files have the entry's code and a line number in columns 73 to 80, AutoDock's have types in 78 and 79: digits and
    words that go on are no elements.
    """
    codes, where = np.unique(np.ascontiguousarray(data[:, 75:79]).view("S4").ravel(), return_inverse=True)
    known = np.array([_element(code.decode("ascii").ljust(4)) for code in codes.tolist()], np.int64)
    return known[where] if len(codes) else np.empty(0, np.int64)


def _element(text: str) -> int:
    """The atomic number in the columns 76 to 79."""
    symbol = text[1:3].strip()
    goes_on = (text[0].isalpha() and text[1].isalpha()) or (text[2].isalpha() and text[3].isalpha())
    if not symbol.isalpha() or goes_on:
        return NO_ELEMENT
    return ATOMIC_NUMBERS.get(symbol.upper(), 0)


def _two_letter(data: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether names begin in column 13 and leave column 16 free; false if the file writes all names so."""
    in_first = _LETTER[data[:, 12]] & (data[:, 15] == ord(" "))
    is_backbone = in_first & np.isin(_texts(data, 12, 16), ("CA", "C", "N", "O", "CB", "P")) & (data[:, 17] != ord(" "))
    n_named = np.count_nonzero(data[:, 15] == ord(" "))
    return in_first if 10 * np.count_nonzero(is_backbone) < n_named else np.zeros(len(data), np.bool_)
