"""Index files: the affinity of each complex, in PDBbind's format, CASF's, or as a table.

A line is `code  resolution  year  binding data  // reference (ligand) remark`; some files have a column with the pK before
the binding data. A file is known by its content: numbers without binding data, such as the R factors of `INDEX_structure`,
are no affinities.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from compass.data.scan.listing import agreed_label, decoded, read_label, related_label, same_label
from compass.data.scan.rows import Label
from compass.data.scan.table_index import TableLine, table_lines
from compass.errors import InputError
from compass.files import MOST_TABLE_BYTES, read_file
from compass.units import format_count

PK_TOLERANCE = 0.05
"""The pK column is rounded to two decimals. A larger difference to the binding data gives a note."""
TABLES = {".csv", ".tsv"}
"""Extensions of index files that are tables with a header, such as LP-PDBBind's."""

_ENTRY = re.compile(r"(\S+)\s+(NMR|[0-9]{0,2}\.[0-9]+|[0-9]{1,2}\.?)\s+((?:19|20)[0-9]{2})\b\s*(.*)", re.IGNORECASE)
_NUMBER = re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?=\s|$)")
_BINDING_DATA = re.compile(r"(\S*?\w\s*[=<>~≤≥≈]+\s*\S+(?:\s*[fpnuµμm]?M\b)?)(?=\s|$)")
_SAYS_PK = re.compile(r"log\s*k|-log|\bpk[adi]?\b|logKd/Ki", re.IGNORECASE)
_SAYS_R_FACTOR = re.compile(r"\bR[ _-]?(factor|free|work|value)", re.IGNORECASE)
_BEHIND_THE_NAME = re.compile(r".*?\([^()]*(?:\([^()]*\)[^()]*)*\)\s*(.*)")
_KNOWN_REMARK = re.compile(r"covalent|incomplete|isomer|[=<>~≤≥≈]\s*\d", re.IGNORECASE)
"""What is told wherever it stands: of the complex, or a second measurement."""
_TYPICAL_PK = (1.5, 15.0)
_LONGEST_LINE = 10_000
"""Characters. Longer lines are no entries, and their numbers are not counted out."""


@dataclass(frozen=True)
class IndexEntry:
    """One complex in an index file."""

    code: str
    label: Label | None
    resolution: float | None
    """Å; None for NMR."""
    year: int | None
    notes: tuple[str, ...] = ()
    split: str | None = None


@dataclass(frozen=True)
class IndexFile:
    """One index file, or several as one."""

    path: Path
    entries: Mapping[str, IndexEntry]
    """By the code in lower case."""
    unread: tuple[tuple[int, str], ...] = ()
    """(line number, line) of lines that are neither entries nor comments."""
    others: tuple[Path, ...] = ()
    """Further files that labels are from."""

    def n_labelled(self, codes: Collection[str]) -> int:
        """How many of `codes` (in lower case) have a label here."""
        return sum(code in codes and entry.label is not None for code, entry in self.entries.items())

    @property
    def has_labels(self) -> bool:
        """Whether any entry has a label."""
        return any(entry.label is not None for entry in self.entries.values())


@dataclass(frozen=True)
class _Line:
    """An entry's parts as text, before it is known which of its numbers are affinities."""

    number: int
    code: str
    resolution: float | None
    year: int | None
    numbers: tuple[str, ...]
    """Bare numbers before the binding data."""
    binding_data: str
    remark: str = ""
    split: str | None = None
    relation: str = ""
    """That of the pK, where a table has a column for it."""


def read_index(path: Path) -> IndexFile:
    """The entries of an index file. Lines that are not UTF-8 are read as Windows-1252.

    Raises:
        InputError: the file cannot be opened, or is a table without the columns of an index.
    """
    try:
        data = read_file(path, MOST_TABLE_BYTES)
    except OSError as error:
        raise InputError(
            f"index {path}",
            got=error.strerror or str(error),
            expected="a PDBbind index file",
            fix="Check the path, or leave it out to search the folder.",
        ) from error
    if path.suffix.lower() in TABLES:
        table = [_of_table(line) for line in table_lines(path, decoded(data))]
        return IndexFile(path, _entries(path, table, has_pk=True))
    lines, unread, says_pk, says_r_factor = [], [], False, False
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        line = decoded(raw).strip()
        if not line or line.startswith("#"):
            says_pk |= bool(_SAYS_PK.search(line))
            says_r_factor |= bool(_SAYS_R_FACTOR.search(line))
            continue
        found = _split_line(line, number) if len(line) <= _LONGEST_LINE else None
        if found is None:
            unread.append((number, line))
        else:
            lines.append(found)
    has_pk = not says_r_factor and _has_pk_column(lines, says_pk=says_pk)
    return IndexFile(path, _entries(path, lines, has_pk=has_pk), tuple(unread))


def require_entries(index: IndexFile) -> None:
    """Refuse a file that is not an index.

    Raises:
        InputError: it has no entries, or none with an affinity.
    """
    if index.has_labels:
        return
    got = "no entries" if not index.entries else "entries without affinities"
    if not index.entries and index.unread:
        got = f"{index.unread[0][1][:60]!r} in line {index.unread[0][0]}"
    raise InputError(
        f"index {index.path}",
        got=got,
        expected="lines such as '2tpi  2.10  1982  Kd=49uM // 2tpi.pdf'",
        fix="Give an index file of PDBbind, for example INDEX_general_PL_data.2020.",
    )


def choose_index(indices: Sequence[IndexFile], codes: Collection[str]) -> tuple[IndexFile | None, tuple[str, ...]]:
    """The labels of `codes` (in lower case) from all index files together, and warnings.

    The file that labels most counts first; a tie goes to the file with PL in its name, then to one with data, then to the
    first in the alphabet. The others add the codes that it lacks, such as those of nucleic acids.
    """
    useful = [index for index in indices if index.has_labels]
    without = [index.path.name for index in indices if index.entries and not index.has_labels]
    unused = (f"no affinities in {', '.join(without)}: not used for labels",) if without else ()
    if not useful:
        looked = f" ({', '.join(index.path.name for index in indices)}: no affinities)" if indices else ""
        return None, (f"no index file (INDEX…) found{looked}: no complex has a label",)

    def merit(index: IndexFile) -> tuple[int, bool, bool, str]:
        name = index.path.name.lower()
        return -index.n_labelled(codes), "pl" not in name, "data" not in name, str(index.path)

    best, *others = sorted(useful, key=merit)
    merged, n_added = _merged(best, others, codes)
    warnings = []
    if others:
        counts = {best.path.name: best.n_labelled(codes)} | n_added
        used = ", ".join(f"{name} ({format_count(n)})" for name, n in counts.items() if n or name == best.path.name)
        idle = ", ".join(name for name, n in n_added.items() if not n)
        warnings.append(f"labels are from {used}" + (f"; {idle} would add none" if idle else ""))
    return merged, (*warnings, *unused, *index_warnings(merged, codes))


def index_warnings(index: IndexFile, codes: Collection[str]) -> tuple[str, ...]:
    """Warnings about the index that is used."""
    lines = []
    if not index.n_labelled(codes):
        lines.append(f"{index.path.name} labels none of the complexes")
    if index.unread:
        number, line = index.unread[0]
        lines.append(
            f"{index.path.name}: lines that are not entries: {format_count(len(index.unread))}, "
            f"the first is line {number}: {line[:60]!r}"
        )
    return tuple(lines)


def _merged(best: IndexFile, others: Sequence[IndexFile], codes: Collection[str]) -> tuple[IndexFile, dict[str, int]]:
    """(the entries of `best`, completed for `codes` from the others; labels that each of those adds)."""
    entries = dict(best.entries)
    n_added: dict[str, int] = {}
    for other in others:
        n_added[other.path.name] = 0
        for code, entry in other.entries.items():
            if code not in codes or entry.label is None:
                continue
            known = entries.get(code)
            if known is None or known.label is None:
                entries[code] = entry
                n_added[other.path.name] += 1
            elif not same_label(known.label, entry.label):
                note = f"{other.path.name} gives another label: pK {entry.label.relation}{entry.label.pk:.2f}"
                entries[code] = replace(known, notes=(*known.notes, note))
    used = tuple(other.path for other in others if n_added[other.path.name])
    return replace(best, entries=entries, others=used), n_added


def _split_line(line: str, number: int) -> _Line | None:
    """The parts of a line; None if it is no entry."""
    match = _ENTRY.fullmatch(line)
    if match is None:
        return None
    code, resolution, year, rest = match.groups()
    data, _, reference = rest.partition("//")
    data = data.strip()
    numbers = []
    while column := _NUMBER.match(data):
        numbers.append(column[0])
        data = data[column.end() :].strip()
    binding = _BINDING_DATA.match(data) if "//" not in rest else None  # without //, a target or remark may follow
    behind = data[binding.end() :] if binding else ""
    return _Line(
        number=number,
        code=code,
        resolution=None if resolution.upper() == "NMR" else float(resolution),
        year=int(year),
        numbers=tuple(numbers),
        binding_data=binding[1].strip() if binding else data,
        remark=_remark(reference.strip()) or (behind.strip() if _KNOWN_REMARK.search(behind) else ""),
    )


def _remark(reference: str) -> str:
    """The words behind the ligand's name in brackets; all of them if they hold a known remark elsewhere."""
    behind = _BEHIND_THE_NAME.fullmatch(reference)
    if behind and behind[1].strip():
        return behind[1].strip()
    return reference if _KNOWN_REMARK.search(reference) else ""


def _has_pk_column(lines: Sequence[_Line], *, says_pk: bool) -> bool:
    """Whether the number before the binding data is a pK.

    So it is if a comment says so, if it agrees with binding data, or if there is one number alone that looks like a pK.
    R factors and free R factors are none of these.
    """
    with_both = [line for line in lines if line.numbers and "M" in line.binding_data]
    if with_both or says_pk:
        return True
    alone = [float(line.numbers[0]) for line in lines if len(line.numbers) == 1]
    return 2 * len(alone) > len(lines) and _TYPICAL_PK[0] <= median(alone) <= _TYPICAL_PK[1]


def _entries(path: Path, lines: Iterable[_Line], *, has_pk: bool) -> dict[str, IndexEntry]:
    found: dict[str, list[IndexEntry]] = defaultdict(list)
    for line in lines:
        found[line.code.lower()].append(_entry(line, where=f"{path.name} line {line.number}", has_pk=has_pk))
    return {code: _one(entries, path.name) for code, entries in found.items()}


def _entry(line: _Line, *, where: str, has_pk: bool) -> IndexEntry:
    entry = IndexEntry(line.code, None, line.resolution, line.year, split=line.split)
    if line.remark:
        entry = replace(entry, notes=(f"{where}: {line.remark}",))
    given = _pk(line.numbers[0], where=where) if has_pk and line.numbers else None
    if given is not None and line.relation not in {"", "="}:
        return _related(entry, line, given, where)
    if not line.binding_data and given is not None:
        more = (f"{where}: {' '.join(line.numbers[1:])} is no binding data; the pK column counts",)
        return replace(entry, label=Label(pk=given), notes=entry.notes + (more if len(line.numbers) > 1 else ()))
    try:
        label = read_label(line.binding_data or " ".join(line.numbers) or "", where=where, bare_pk=False)
    except InputError as error:
        if given is None:
            return replace(entry, notes=(*entry.notes, f"no label: {error}"))
        return replace(entry, label=Label(pk=given), notes=(*entry.notes, f"the label is the pK column's: {error}"))
    if given is not None and abs(given - label.pk) > PK_TOLERANCE:
        note = f"{where}: the pK column gives {given:g}, the binding data {label.pk:.2f}, which is used"
        return replace(entry, label=label, notes=(*entry.notes, note))
    return replace(entry, label=label)


def _related(entry: IndexEntry, line: _Line, pk: float, where: str) -> IndexEntry:
    """An entry of a table that has a column for the relation of the pK."""
    try:
        return replace(entry, label=related_label(_stated(line, where) or Label(pk=pk), line.relation, where=where))
    except InputError as error:
        return replace(entry, notes=(*entry.notes, f"no label: {error}"))


def _stated(line: _Line, where: str) -> Label | None:
    """The label in the binding data, if there is one."""
    try:
        return read_label(line.binding_data, where=where, bare_pk=False)
    except InputError:
        return None


def _pk(text: str, *, where: str) -> float | None:
    try:
        return read_label(text, where=where).pk
    except InputError:
        return None


def _one(entries: Sequence[IndexEntry], name: str) -> IndexEntry:
    """Merge the entries of one code."""
    if len(entries) == 1:
        return entries[0]
    label, note = agreed_label([entry.label for entry in entries], where=name)
    return replace(entries[0], label=label, notes=(*entries[0].notes, note))


def _of_table(line: TableLine) -> _Line:
    return _Line(
        number=line.number,
        code=line.code,
        resolution=line.resolution,
        year=line.year,
        numbers=(line.pk,) if line.pk else (),
        binding_data=line.binding_data,
        remark=line.remark,
        split=line.split,
        relation=line.relation,
    )
