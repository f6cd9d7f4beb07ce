"""The atoms of one molecule in a ligand file, and the fault of a record that cannot be read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_DIGITS = 9
"""Of a count. Python refuses to read numbers of thousands of digits with an error of its own."""
_PLAIN_NUMBER = re.compile(r"\s*[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?\s*")


@dataclass(frozen=True, eq=False)
class FileMolecule:
    """n atoms, hydrogens included."""

    elements: NDArray[np.int64]
    """(n,) atomic numbers; 0 where the element is unknown."""
    positions: NDArray[np.float64]
    """(n, 3) Å."""
    notes: tuple[str, ...] = ()


class MoleculeFault(Exception):  # noqa: N818 - a fault of a file, not of the program
    """A record that cannot be read."""

    def __init__(self, why: str, *, truncated: bool = False) -> None:
        super().__init__(why)
        self.truncated = truncated


def is_count(text: str) -> bool:
    """Whether `text` is a number of atoms or bonds: so many digits as any file needs, and no others."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


def plain_number(text: str, line: str) -> float:
    """`text` as a number.

    Raises:
        MoleculeFault: it is none, or is followed by anything but blanks. A part of it never counts for the whole.
    """
    if not _PLAIN_NUMBER.fullmatch(text):
        raise MoleculeFault(f"{text.strip()!r} as a coordinate in {line.strip()[:60]!r}")
    return float(text)
