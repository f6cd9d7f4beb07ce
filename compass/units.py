"""Bytes and seconds, from what people write and to what people read."""

from __future__ import annotations

import math
import re

from compass.errors import InputError

KIB, MIB, GIB = 1024, 1024**2, 1024**3

_BYTES_PER_UNIT = {
    "": 1,
    "b": 1,
    "k": KIB,
    "kib": KIB,
    "kb": 1000,
    "m": MIB,
    "mib": MIB,
    "mb": 1000**2,
    "g": GIB,
    "gib": GIB,
    "gb": 1000**3,
    "t": 1024**4,
    "tib": 1024**4,
    "tb": 1000**4,
}
_SECONDS_PER_UNIT = {"": 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
_SIZE = re.compile(r"\s*(-?[0-9]{1,30}(?:\.[0-9]{1,30})?)\s*([a-zA-Z]{0,9})\s*")


def parse_bytes(text: str, *, where: str) -> int:
    """Bytes in a size such as `6GiB`, `512 MB` or `1073741824`; `where` names the field in the error.

    Raises:
        InputError: not a size, or not above zero.
    """
    match = _SIZE.fullmatch(text)
    factor = _BYTES_PER_UNIT.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise InputError(
            where, got=repr(text), expected="a size such as 6GiB, 512MB or 1073741824", fix="Write a number and a unit."
        )
    if not match[2] and 0 < float(match[1]) < MIB:
        raise InputError(
            where,
            got=f"{text!r}, which would be bytes",
            expected="a size such as 6GiB, 512MB or 1073741824",
            fix=f"Write a unit: {match[1]}GiB?",
        )
    n_bytes = int(float(match[1]) * factor)
    if n_bytes <= 0:
        raise InputError(where, got=repr(text), expected="a size above zero", fix="Give the memory that may be used.")
    return n_bytes


def parse_seconds(text: str, *, where: str) -> float:
    """Seconds in a time such as `90s`, `20min` or `1.5h`; a bare number is seconds.

    Raises:
        InputError: not a time, or not above zero.
    """
    match = _SIZE.fullmatch(text)
    factor = _SECONDS_PER_UNIT.get(match[2].lower()) if match else None
    if match is None or factor is None or float(match[1]) * factor <= 0:
        raise InputError(
            where,
            got=repr(text),
            expected="a time above zero such as 90s, 20min or 1.5h",
            fix="Write a number and a unit.",
        )
    return float(match[1]) * factor


def format_bytes(n_bytes: float) -> str:
    """`n_bytes` in the largest binary unit that keeps at least one whole digit, e.g. `3.42 GiB`."""
    n_bytes = _finite_or_infinite(n_bytes)
    for unit, size in (("TiB", 1024**4), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
        if abs(n_bytes) >= size:
            return f"{n_bytes / size:.2f} {unit}"
    return f"{n_bytes:.0f} B"


def format_seconds(seconds: float) -> str:
    """`seconds` in the unit that reads best: `840 ms`, `12.3 s`, `21.4 min`, `3.1 h`."""
    seconds = _finite_or_infinite(seconds)
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def format_duration(seconds: float) -> str:
    """`seconds` as a person says them: `40 s`, `21 min`, `1.1 h`, `4.6 days`."""
    seconds = _finite_or_infinite(seconds)
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else format_seconds(seconds)
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days" if seconds < 100 * 86400 else f"{seconds / 86400:,.0f} days"


def format_count(count: float) -> str:
    """A count with thousands separators, e.g. `1,502`."""
    count = _finite_or_infinite(count)
    return f"{count:,.0f}"


def _finite_or_infinite(value: float) -> float:
    """`value`, or infinity for a whole number beyond all floats: a damaged file may hold one of hundreds of digits."""
    try:
        return value if math.isfinite(value) else float(value)
    except OverflowError:
        return math.copysign(math.inf, value > 0 or -1)
