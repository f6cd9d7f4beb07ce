"""PDBbind's index files: the affinity of each complex.

A line is `code  resolution  year  binding data  // reference (ligand)`; files with `_data` in their name have a column
with the pK before the binding data.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from compass.data.scan.listing import agreed_label, decoded, read_label
from compass.data.scan.rows import Label
from compass.errors import InputError
from compass.units import format_count

PK_TOLERANCE = 0.05
"""The pK column is rounded to two decimals. A larger difference to the binding data gives a note."""

_ENTRY = re.compile(r"(\S+)\s+(NMR|\d{1,2}(?:\.\d+)?)\s+((?:19|20)\d\d)\b\s*(.*)", re.IGNORECASE)
_PK = re.compile(r"(-?\d+(?:\.\d+)?)\s+(?=\S)")


@dataclass(frozen=True)
class IndexEntry:
    """One complex in an index file."""

    code: str
    label: Label | None
    resolution: float | None
    """Å; None for NMR."""
    year: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class IndexFile:
    """One index file."""

    path: Path
    entries: Mapping[str, IndexEntry]
    """By the code in lower case."""
    unread: tuple[tuple[int, str], ...] = ()
    """(line number, line) of lines that are neither entries nor comments."""

    def n_labelled(self, codes: Collection[str]) -> int:
        """How many of `codes` (in lower case) have a label here."""
        return sum(code in codes and entry.label is not None for code, entry in self.entries.items())


def read_index(path: Path) -> IndexFile:
    """The entries of an index file. Lines that are not UTF-8 are read as Windows-1252.

    Raises:
        InputError: the file cannot be opened.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"index {path}", got=error.strerror or str(error), expected="a PDBbind index file",
                         fix="Check the path, or leave it out to search the folder.") from error  # fmt: skip
    found: dict[str, list[IndexEntry]] = defaultdict(list)
    unread = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        line = decoded(raw).strip()
        if not line or line.startswith("#"):
            continue
        entry = _read_line(line, where=f"{path.name} line {number}")
        if entry is None:
            unread.append((number, line))
        else:
            found[entry.code.lower()].append(entry)
    return IndexFile(path, {code: _one(entries, path.name) for code, entries in found.items()}, tuple(unread))


def require_entries(index: IndexFile) -> None:
    """Refuse a file that is not an index.

    Raises:
        InputError: it has no entries.
    """
    if not index.entries:
        got = f"{index.unread[0][1][:60]!r} in line {index.unread[0][0]}" if index.unread else "no entries"
        raise InputError(f"index {index.path}", got=got, expected="lines such as '2tpi  2.10  1982  Kd=49uM // 2tpi.pdf'",
                         fix="Give an index file of PDBbind, for example INDEX_general_PL_data.2020.")  # fmt: skip


def choose_index(indices: Sequence[IndexFile], codes: Collection[str]) -> tuple[IndexFile | None, tuple[str, ...]]:
    """The index that labels most of `codes` (in lower case), and warnings.

    A tie goes to the file with PL in its name, then to one with data, then to the first in the alphabet.
    """
    useful = [index for index in indices if index.entries]
    if not useful:
        looked = f" ({', '.join(index.path.name for index in indices)}: no entries)" if indices else ""
        return None, (f"no index file (INDEX…) found{looked}: no complex has a label",)

    def merit(index: IndexFile) -> tuple[int, bool, bool, str]:
        name = index.path.name.lower()
        return -index.n_labelled(codes), "pl" not in name, "data" not in name, str(index.path)

    best, *others = sorted(useful, key=merit)
    warnings = []
    if others:
        left_out = ", ".join(f"{index.path.name} ({format_count(index.n_labelled(codes))})" for index in others)
        warnings.append(f"{len(useful)} index files: {best.path.name} labels most of the complexes "
                        f"({format_count(best.n_labelled(codes))}) and is used; left out: {left_out}")  # fmt: skip
    return best, (*warnings, *index_warnings(best, codes))


def index_warnings(index: IndexFile, codes: Collection[str]) -> tuple[str, ...]:
    """Warnings about the index that is used."""
    lines = []
    if not index.n_labelled(codes):
        lines.append(f"{index.path.name} labels none of the complexes")
    if index.unread:
        number, line = index.unread[0]
        lines.append(f"{index.path.name}: lines that are not entries: {format_count(len(index.unread))}, "
                     f"the first is line {number}: {line[:60]!r}")  # fmt: skip
    return tuple(lines)


def _pk(text: str, *, where: str) -> float | None:
    try:
        return read_label(text, where=where).pk
    except InputError:
        return None


def _read_line(line: str, *, where: str) -> IndexEntry | None:
    match = _ENTRY.fullmatch(line)
    if match is None:
        return None
    code, resolution, year, rest = match.groups()
    entry = IndexEntry(code, None, None if resolution.upper() == "NMR" else float(resolution), int(year))
    data = rest.partition("//")[0].strip()
    column = _PK.match(data)
    given = None if column is None else _pk(column[1], where=where)
    try:
        label = read_label(data[column.end() :] if column else data, where=where)
    except InputError as error:
        if given is None:
            return replace(entry, notes=(f"no label: {error}",))
        return replace(entry, label=Label(pk=given), notes=(f"the label is the pK column's: {error}",))
    if given is not None and abs(given - label.pk) > PK_TOLERANCE:
        note = f"{where}: the pK column says {given:g}, the binding data {label.pk:.2f}, which is used"
        return replace(entry, label=label, notes=(note,))
    return replace(entry, label=label)


def _one(entries: Sequence[IndexEntry], name: str) -> IndexEntry:
    """Merge the entries of one code."""
    if len(entries) == 1:
        return entries[0]
    label, note = agreed_label([entry.label for entry in entries], where=name)
    return replace(entries[0], label=label, notes=(*entries[0].notes, note))
