"""Whether what a reader returns stands in its input. Shares no code with any reader: bytes, columns and words alone."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from typing import Any

import numpy as np

_NUMBER = re.compile(rb"(?<![0-9.])[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAMES = (
    "X H HE LI BE B C N O F NE NA MG AL SI P S CL AR K CA SC TI V CR MN FE CO NI CU "
    "ZN GA GE AS SE BR KR RB SR Y ZR NB MO TC RU RH PD AG CD IN SN SB TE I XE CS BA LA CE PR "
    "ND PM SM EU GD TB DY HO ER TM YB LU HF TA W RE OS IR PT AU HG TL PB BI PO AT RN FR RA AC "
    "TH PA U NP PU AM CM BK CF ES FM MD NO LR RF DB SG BH HS MT DS RG CN NH FL MC LV TS OG "
)
_SYMBOLS = _NAMES.split()
"""Of the elements, by atomic number."""
_UNITS = {
    b"fM": -15,
    b"pM": -12,
    b"nM": -9,
    b"uM": -6,
    b"\xc2\xb5M": -6,
    b"\xce\xbcM": -6,
    b"\xb5M": -6,
    b"mM": -3,
    b"M": 0,
}
_MOLAR = re.compile(rb"(?<![0-9])([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)\s*((?:[fpnum]|\xc2\xb5|\xce\xbc|\xb5)?M)")
_BLANK = re.compile(rb"\xe2\x80[\x80-\x8a\xa8\xa9\xaf]|\xc2[\x85\xa0]|\xe3\x80\x80|[\x1c-\x1f]")
_OTHER_BASE = re.compile(r"0x[0-9a-f]{1,16}|0o[0-7]{1,20}|0b[01]{1,60}")
_ALIASES = {"H": ("D", "T"), "CL": ("CLA",), "K": ("POT",), "NA": ("SOD",), "ZN": ("ZN",)}
"""Letters that name an element beside its symbol."""


def symbol(number: int) -> str:
    """The symbol of an atomic number."""
    return _SYMBOLS[number] if 0 <= number < len(_SYMBOLS) else f"?{number}"


def unpacked(data: bytes) -> bytes:
    """The text of a gzipped file, as far as it goes."""
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error):
        return b""


def pdb_columns(data: bytes) -> dict[tuple[float, ...], set[bytes]]:
    """(x, y, z) in columns 31 to 54 → the bytes of the atom lines that hold them."""
    found: dict[tuple[float, ...], set[bytes]] = {}
    for line in re.split(rb"[\r\n]", data.removeprefix(b"\xef\xbb\xbf")):
        if line[:6].strip().upper()[:6].startswith((b"ATOM", b"HETATM")):
            try:
                place = tuple(float(line[start : start + 8]) for start in (30, 38, 46))
            except ValueError:
                continue
            found.setdefault(place, set()).add(line.upper())
    return found


def invented_in_pdb(data: bytes, atoms: tuple[Any, Any]) -> str:
    """An atom (of elements, positions) that no line of the file holds in its columns."""
    lines = pdb_columns(data)
    for number, place in zip(*(part.tolist() for part in atoms), strict=True):
        of = lines.get(tuple(place))
        if of is None:
            return f"coordinates {place}"
        names = (symbol(number), *_ALIASES.get(symbol(number), ()))
        if number > 0 and not any(name.encode() in line[12:21] + line[75:80] for name in names for line in of):
            return f"element {symbol(number)} at {place}"
    return ""


def invented_in_words(data: bytes, atoms: tuple[Any, Any]) -> str:
    """A coordinate or an element that is no word of the file."""
    data = re.sub(rb"-\r?\nM  V30 ", b"", data)  # a V3000 statement goes on in the next line
    numbers = np.array([float(word) for word in _NUMBER.findall(data)] or [math.nan])
    elements, positions = atoms
    odd = ~np.isin(positions, numbers)
    if odd.any():
        return f"the coordinate {positions[odd][0]}"
    text = data.upper()
    for number in set(elements.tolist()):
        names = (symbol(number), *_ALIASES.get(symbol(number), ()))
        if number > 0 and not any(name.encode() in text for name in names):
            return f"the element {symbol(number)}"
    return ""


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def invented_labels(data: bytes, rows: list[tuple[str, float | None]]) -> str:
    """An id that is no part of the file, or a pK that is neither one of its numbers nor −log10 of a concentration in it."""
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:  # UTF-16, or not, whatever it begins with
        data += b"\n" + data.decode("utf-16", "replace").encode()
    elif not _is_utf8(data):
        data += b"\n" + data.decode("latin-1").encode()
    data = _BLANK.sub(b" ", data)  # between a number and its unit any blank will do
    numbers = {round(float(word), 9) for word in _NUMBER.findall(data)}
    for value, unit in _MOLAR.findall(data):
        if 0 < float(value) < math.inf:
            numbers.add(round(-math.log10(float(value)) - _UNITS[unit], 9))
    folded = re.sub(rb"[^a-z0-9]", b"", data.lower())
    for name, pk in rows:
        if pk is not None and round(pk, 9) not in numbers and not any(abs(pk - one) < 1e-8 for one in numbers):
            return f"the pK {pk} of {name!r}"
        ascii_only = re.sub(rb"[^a-z0-9]", b"", re.sub(r"\\[ux][0-9a-f]+", "", name.lower()).encode("utf-8", "replace"))
        if ascii_only not in folded:
            return f"the id {name!r}"
    return ""


def invented_leaves(data: bytes, leaves: list[tuple[str, Any]]) -> str:
    """A setting (key, value) whose value is no word of the text; durations and sizes count with their units."""
    text = " ".join(data.decode("utf-8", "replace").lower().split())  # YAML folds the lines of a text into one
    numbers = {float(word) for word in _NUMBER.findall(data.replace(b"_", b""))}
    numbers |= {float(int(word, 0)) for word in _OTHER_BASE.findall(text.replace("_", ""))}  # TOML writes integers so
    for key, value in leaves:
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, int) and str(abs(value)) in text:
            continue
        if isinstance(value, (int, float)):
            if not any(
                value in {sign * one * unit for sign in (1, -1) for unit in (1, 60, 3600, 86400)} for one in numbers
            ):
                return f"{key} = {value!r}"
        elif (
            isinstance(value, str)
            and value.isascii()
            and value.isprintable()
            and "\\" not in text
            and " ".join(value.lower().split()) not in text
        ):
            return f"{key} = {value!r}"
    return ""
