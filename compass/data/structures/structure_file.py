"""Structure files as text, and the reasons why they cannot be used."""

from __future__ import annotations

import codecs
import functools
import gzip
import io
import os
import zlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import numpy as np

from compass.errors import InputError
from compass.files import open_file
from compass.units import MIB, format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from numpy.typing import NDArray


MOST_BYTES = 64 * MIB
"""Largest text of a structure: 800,000 atoms in PDB columns. A gzipped file of 1 MB may unpack to 1 GB of blanks."""
MOST_COORDINATE = 10_000.0
"""Å. The columns of PDB files end here, and a neighbour search divides space into cells up to the farthest atom."""
_MOST_LINES = 2_000_000
"""Readers take a microsecond for each, also for an empty one."""
_MEMBER = b"\x1f\x8b\x08"
"""How a member of a gzip stream begins."""
_MOST_MEMBERS = 20_000
"""Of a gzip stream. Those of bgzip hold up to 64 KiB each; a million empty ones take ten seconds."""
_CELL_ANGSTROM = 3.0
_MOST_PAIRS = 30_000_000
"""Of atoms in one cell. 800,000 atoms of a protein with hydrogens have 8 million, twenty models over each other 12 million."""
_PLAIN = bytes(byte if 32 <= byte < 127 or byte in b"\t\r\n" else ord("?") for byte in range(256))
"""Each byte of a text in ASCII; other bytes, and control characters that some readers take for line ends, become question marks."""


class Reason(StrEnum):
    """Why a complex cannot be used. The values are stable: dataset scans count and filter by them."""

    MISSING = "missing"
    WRONG_EXTENSION = "wrong_extension"
    EMPTY = "empty"
    BINARY = "binary"
    TRUNCATED = "truncated"
    UNREADABLE = "unreadable"
    NO_LIGAND = "no_ligand"
    NO_3D = "no_3d"
    NO_ATOMS = "no_atoms"
    EMPTY_POCKET = "empty_pocket"
    TOO_MANY_ATOMS = "too_many_atoms"
    UNKNOWN_ELEMENT = "unknown_element"
    OVERLAPPING = "overlapping"
    # Faults of an entry rather than of a file.
    NO_FILES = "no_files"
    NO_ID = "no_id"
    DUPLICATE = "duplicate"
    CRASHED = "crashed"


class StructureError(InputError):
    """A structure file that cannot be used: an error message with a typed reason."""

    def __init__(self, reason: Reason, where: Path | str, *, got: str, expected: str, fix: str) -> None:
        super().__init__(str(where), got=got, expected=expected, fix=fix)
        self.reason = reason

    def __reduce__(self) -> tuple[Callable[[], StructureError], tuple[()]]:
        # Exceptions pickle by positional arguments; a scan in worker processes needs the keywords too.
        again = functools.partial(
            StructureError, self.reason, self.where, got=self.got, expected=self.expected, fix=self.fix
        )
        return again, ()


@dataclass(frozen=True, eq=False)
class Atoms:
    """Atoms as a file gives them, hydrogens and unreadable elements (0) included."""

    elements: NDArray[np.int64]
    """(n,) atomic numbers; 0 where the element could not be read."""
    positions: NDArray[np.float64]
    """(n, 3) Å."""
    residues: NDArray[np.int64]
    """(n,) number of each atom's residue; any numbering."""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.elements)

    def where(self, keep: NDArray[np.bool_]) -> Atoms:
        """The atoms for which `keep` (n,) is true, in their order."""
        return Atoms(self.elements[keep], self.positions[keep], self.residues[keep], self.notes)


def read_text(path: Path, formats: Mapping[str, str], *, what: str) -> tuple[str, str]:
    """The format and the text of a structure file, plain or gzipped.

    Args:
        path: the file; its extension, apart from a final `.gz`, determines the format. Case does not matter.
        formats: extension → format.
        what: the expected content, for the error.

    Returns:
        (format, text).

    Raises:
        StructureError: missing, wrong_extension, empty, binary, truncated (gzip) or unreadable.
    """
    name = path.name.lower()
    gzipped = name.endswith(".gz")
    extension = "." + name.removesuffix(".gz").rpartition(".")[2] if "." in name.removesuffix(".gz") else ""
    if extension not in formats:
        *others, last = formats
        raise StructureError(
            Reason.WRONG_EXTENSION,
            path,
            got=f"the extension {extension!r}" if extension else "no extension",
            expected=f"{', '.join(others)} or {last}, plain or followed by .gz",
            fix="Convert the file, or rename it if it is in one of these formats.",
        )
    data = _read_bytes(path, what=what)
    if gzipped and data:
        data = _gunzip(path, data)
    if max(data.count(b"\n"), data.count(b"\r")) > _MOST_LINES:
        raise _too_large(path, f"more than {_MOST_LINES:,} lines", f"at most {_MOST_LINES:,}")
    if not data.strip():
        raise StructureError(
            Reason.EMPTY, path, got="an empty file", expected=what, fix="Fetch or export the file again."
        )
    if b"\0" in data or data.startswith(b"\x1f\x8b"):
        raise StructureError(
            Reason.BINARY,
            path,
            got="binary data",
            expected=f"{what} as text",
            fix="If the file is gzipped, end its name with .gz; otherwise export it again as text.",
        )
    # Names in old entries are not always UTF-8. Columns count bytes, so every byte stays one character.
    return formats[extension], data.removeprefix(codecs.BOM_UTF8).translate(_PLAIN).decode("ascii")


def require_finite(path: Path, positions: NDArray[np.float64]) -> None:
    """Refuse coordinates (n, 3) that are not finite, or so far away that no structure has them.

    Raises:
        StructureError: unreadable.
    """
    far = np.flatnonzero((np.abs(positions) > MOST_COORDINATE).any(axis=1))
    if len(far):
        raise StructureError(
            Reason.UNREADABLE,
            path,
            got=f"a coordinate of {np.abs(positions[far[0]]).max():,.0f} Å for atom {far[0] + 1}",
            expected=f"coordinates up to {MOST_COORDINATE:,.0f} Å",
            fix="Fetch or export the file again.",
        )
    bad = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    if len(bad):
        raise StructureError(
            Reason.UNREADABLE,
            path,
            got=f"no coordinates for atom {bad[0] + 1}",
            expected="three numbers for every atom",
            fix="Fetch or export the file again.",
        )


def require_room(path: Path, positions: NDArray[np.float64]) -> None:
    """Refuse atoms (n, 3) so crowded that looking for neighbours would take minutes and gigabytes: no structure has them.

    Raises:
        StructureError: overlapping.
    """
    cells = np.floor(positions / _CELL_ANGSTROM).astype(np.int64)
    place, of = (cells - cells.min(axis=0, initial=0)).T, 2**20  # coordinates end at 10,000 Å
    _, crowds = np.unique((place[0] * of + place[1]) * of + place[2], return_counts=True)
    if int((crowds**2).sum()) > _MOST_PAIRS:
        raise StructureError(
            Reason.OVERLAPPING,
            path,
            got=f"{crowds.max():,} atoms within {_CELL_ANGSTROM:g} Å",
            expected="atoms apart from each other",
            fix="Fetch or export the file again.",
        )


def unreadable(path: Path, *, why: Any, expected: str) -> StructureError:
    """The error for a file that its parser refuses; `why` becomes one line."""
    return StructureError(
        Reason.UNREADABLE,
        path,
        got=" ".join(str(why).split()),
        expected=expected or f"at most {format_bytes(MOST_BYTES)}, which is {MOST_BYTES // 81:,} atoms",
        fix="Fetch or export the file again.",
    )


def _read_bytes(path: Path, *, what: str) -> bytes:
    try:
        with open_file(path) as file:
            n_bytes = os.fstat(file.fileno()).st_size
            if n_bytes > MOST_BYTES:
                raise _too_large(path, f"{format_bytes(n_bytes)} of text")
            return file.read()
    except FileNotFoundError:
        raise StructureError(Reason.MISSING, path, got="no such file", expected=what, fix="Check the path.") from None
    except IsADirectoryError:
        raise StructureError(
            Reason.MISSING, path, got="a folder", expected=what, fix="Give the file inside it."
        ) from None
    except OSError as error:
        raise StructureError(
            Reason.UNREADABLE,
            path,
            got=f"a file that cannot be opened ({error.strerror})",
            expected=what,
            fix="Check the file's permissions and its disk.",
        ) from None


def _too_large(path: Path, got: str, expected: str = "") -> StructureError:
    return StructureError(
        Reason.TOO_MANY_ATOMS,
        path,
        got=got,
        expected=expected or f"at most {format_bytes(MOST_BYTES)}, which is {MOST_BYTES // 81:,} atoms",
        fix="Cut the structure to the chains around the ligand.",
    )


def _gunzip(path: Path, data: bytes) -> bytes:
    if data.count(_MEMBER) > _MOST_MEMBERS:
        raise StructureError(
            Reason.UNREADABLE,
            path,
            got=f"a gzip stream of more than {_MOST_MEMBERS:,} parts",
            expected="a gzipped file",
            fix="Unpack the file and pack it again.",
        )
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            text = file.read(MOST_BYTES + 1)
    except EOFError:
        raise StructureError(
            Reason.TRUNCATED,
            path,
            got="a gzip stream that ends early",
            expected="a complete file",
            fix="Fetch the file again.",
        ) from None
    except (gzip.BadGzipFile, zlib.error):
        raise StructureError(
            Reason.UNREADABLE,
            path,
            got="data that is not gzip",
            expected="a gzipped file, as its name says",
            fix="Take .gz off the name if the file is plain; otherwise fetch it again.",
        ) from None
    if len(text) > MOST_BYTES:
        raise _too_large(path, f"a gzip stream of more than {format_bytes(MOST_BYTES)}")
    return text
