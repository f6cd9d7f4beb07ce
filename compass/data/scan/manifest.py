"""Manifests: CSV or Parquet tables with one complex per line, for datasets in other layouts than PDBbind's."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterator, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from compass.data.scan.listing import (
    Listed,
    Listing,
    agreed_label,
    decoded,
    each_id_once,
    read_label,
    rejected,
    related_label,
)
from compass.data.scan.rows import Label, Row
from compass.data.structures.structure_file import Reason, StructureError
from compass.errors import InputError
from compass.files import MOST_TABLE_BYTES, open_file, read_file
from compass.units import format_bytes

REQUIRED = ("id", "protein", "ligand", "label")
COLUMNS = (*REQUIRED, "split", "relation")
SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test"}

DELIMITERS = ",;\t"
"""Separators between cells; the most frequent one in the header counts. Spreadsheets write semicolons under locales with
decimal commas."""

NO_VALUE = {"", "nan", "none", "null", "na", "n/a"}
"""Cells that mean "no value"."""

_MOST_LINES = 1_000_000
"""Of a manifest: all entries of the PDB with their ligands are fewer."""
_AT_ONCE = 1_000
"""Lines of a Parquet file that are read at once."""
_LONGEST_CELL = 10_000
"""Characters."""

Line = tuple[int, dict[str, str]]
"""(line number, column in lower case → cell)."""


def list_manifest(path: Path) -> Listing:
    """The complexes of a manifest. Its paths are relative to the manifest's folder.

    Raises:
        InputError: it cannot be read, lacks a column, or lists nothing.
    """
    lines = list(_parquet(path) if path.suffix.lower() == ".parquet" else _csv(path))
    if not lines:
        raise InputError(
            f"manifest {path}",
            got="no lines below the header",
            expected="one complex per line",
            fix="Add the complexes.",
        )
    by_id: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        by_id[line[1]["id"]].append(line)
    found = [candidate for id_, same in by_id.items() for candidate in _candidates(id_, same, path.name)]
    return Listing(path.parent, each_id_once(found), labels=str(path))


def _csv(path: Path) -> Iterator[Line]:
    try:
        text = decoded(read_file(path, MOST_TABLE_BYTES))
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    head = text.partition("\n")[0]
    # Strict: otherwise an unclosed quote swallows all following lines.
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=max(DELIMITERS, key=head.count), strict=True)
    try:
        names = _columns(path, reader.fieldnames or ())
        for cells in reader:
            _require_few_lines(path, reader.line_num)
            if any(cells.pop(None, ())):
                raise InputError(
                    f"manifest {path}",
                    got=f"more cells than columns in line {reader.line_num}",
                    expected="one cell per column",
                    fix=f'Put what holds a {reader.reader.dialect.delimiter!r} into "quotes".',
                )
            yield reader.line_num, {column: (cells[name] or "").strip() for column, name in names.items()}
    except csv.Error as error:
        raise _unreadable(path, str(error)) from error


def _parquet(path: Path) -> Iterator[Line]:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"manifest {path}",
            got="a Parquet file, but no pyarrow to read it with",
            expected="pyarrow",
            fix="Run `pip install 'compass-optimizer[parquet]'`, or give a CSV file.",
        ) from error
    try:
        with open_file(path) as file:
            about = parquet.read_metadata(file)
            _require_few_lines(path, about.num_rows)
            table = parquet.ParquetFile(file, metadata=about, read_dictionary=_texts_of(path, about))
            names = _columns(path, table.schema_arrow.names)
            number = 0
            for batch in table.iter_batches(batch_size=_AT_ONCE, columns=list(names.values())):
                _require_short_cells(path, batch)
                for cells in batch.to_pylist():
                    number += 1
                    yield number, {column: _text(cells[name]) for column, name in names.items()}
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    except (pa.ArrowException, ValueError) as error:  # a ValueError: text that is not UTF-8
        raise _unreadable(path, " ".join(str(error).split())) from error


def _require_few_lines(path: Path, n_lines: int) -> None:
    """Refuse a table that is no list of complexes: a Parquet file of some kilobytes may hold a billion lines."""
    if n_lines > _MOST_LINES:
        raise _unreadable(path, f"more than {_MOST_LINES:,} lines")


def _texts_of(path: Path, about: Any) -> list[str]:
    """The columns of text, which are read as they are packed: each different text once.

    Raises:
        InputError: the columns would unpack to more than a table may have.
    """
    n_bytes = sum(about.row_group(i).total_byte_size for i in range(about.num_row_groups))
    if n_bytes > MOST_TABLE_BYTES:
        raise _unreadable(path, f"{format_bytes(n_bytes)} when unpacked")
    columns = [about.schema.column(i) for i in range(about.num_columns)]
    return [column.path for column in columns if column.physical_type == "BYTE_ARRAY"]


def _require_short_cells(path: Path, batch: Any) -> None:
    """Refuse a batch of lines with a text that is no name and no path."""
    for column in batch.columns:
        texts = getattr(column, "dictionary", None)
        if (
            texts is not None
            and max((len(one) for one in texts.to_pylist() if one is not None), default=0) > _LONGEST_CELL
        ):
            raise _unreadable(path, f"a cell of more than {_LONGEST_CELL:,} characters")
    if batch.get_total_buffer_size() > _AT_ONCE * _LONGEST_CELL:
        raise _unreadable(path, f"cells of more than {_LONGEST_CELL:,} characters")


def _text(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _columns(path: Path, found: Sequence[str]) -> dict[str, str]:
    """Column name in lower case → its name in the file; of names that differ only in case the first counts."""
    names = {name.strip().lower(): name for name in reversed(found)}
    missing = [column for column in REQUIRED if column not in names]
    if missing:
        raise InputError(
            f"manifest {path}",
            got=f"the columns {', '.join(found)}" if found else "no columns",
            expected=f"{', '.join(REQUIRED)} and perhaps split and relation",
            fix=f"Add {' and '.join(missing)}; a label's cell may be empty. A table of labels alone goes to --index beside a folder.",
        )
    return {column: names[column] for column in COLUMNS if column in names}


def _unreadable(path: Path, why: str) -> InputError:
    return InputError(
        f"manifest {path}",
        got=why,
        expected="a CSV or Parquet file that can be read",
        fix="Check the path and the file.",
    )


def _candidates(id_: str, same: Sequence[Line], name: str) -> Iterator[Listed]:
    """The complex of one or more lines with the same id. Later lines with other files are rejected, named by their number."""
    if id_.lower() in NO_VALUE:
        for number, _ in same:
            yield rejected(
                Row(id=f"line {number}", status="ok"),
                StructureError(
                    Reason.NO_ID,
                    f"{name} line {number}",
                    got="no id",
                    expected="a name for each complex",
                    fix="Give it one.",
                ),
            )
        return
    (number, cells), *again = same
    read = [_label(line, name) for line in same]
    label, notes = read[0]
    if again:
        label, note = agreed_label([label for label, _ in read], where=name)
        notes = (*notes, note)
    split, on_split = _split(cells.get("split", ""), f"{name} line {number}")
    row = Row(id=id_, status="ok", label=label, split=split, notes=(*notes, *on_split))
    yield _candidate(row, cells, f"{name} line {number}")
    for other, repeated in again:
        if any(repeated[column] != cells[column] for column in ("protein", "ligand")):
            yield rejected(
                Row(id=f"{id_} (line {other})", status="ok"),
                StructureError(
                    Reason.DUPLICATE,
                    f"{name} line {other}",
                    got=f"{id_}, which line {number} gives with other files",
                    expected="each id once",
                    fix="Give one of them another id.",
                ),
            )


def _candidate(row: Row, cells: dict[str, str], where: str) -> Listed:
    for column in ("protein", "ligand"):
        if cells[column].lower() in NO_VALUE:
            return rejected(
                row,
                StructureError(
                    Reason.MISSING,
                    where,
                    got=f"no {column} for {row.id}",
                    expected=f"the path of its {column} file",
                    fix="Fill it in, or remove the line.",
                ),
            )
    return Listed(row, (cells["protein"],), (cells["ligand"],))


def _label(line: Line, name: str) -> tuple[Label | None, tuple[str, ...]]:
    number, cells = line
    if cells["label"].lower() in NO_VALUE:
        return None, ()
    where, sign = f"{name} line {number}", cells.get("relation", "")
    try:
        label = read_label(cells["label"], where=where)
        return (related_label(label, sign, where=where) if sign.lower() not in NO_VALUE else label), ()
    except InputError as error:
        return None, (f"no label: {error}",)


def _split(text: str, where: str) -> tuple[str | None, tuple[str, ...]]:
    if text.lower() in NO_VALUE:
        return None, ()
    known = SPLITS.get(text.lower())
    return known, () if known else (f"{where}: the split {text!r} is not one of train, val and test and is ignored",)
