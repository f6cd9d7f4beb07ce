"""Index files that are tables: LP-PDBBind's CSV, lists of CleanSplit, and tables of one's own."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING

from compass.data.scan.listing import PLAIN_NUMBER
from compass.data.scan.manifest import DELIMITERS, NO_VALUE, SPLITS
from compass.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_COLUMNS = {
    "code": (
        "id",
        "pdb",
        "pdbid",
        "pdb_id",
        "pdb_code",
        "pdbcode",
        "code",
        "complex",
        "name",
        "entry",
        "system_id",
        "",
    ),
    "pk": (
        "label",
        "pk",
        "value",
        "pkd",
        "pki",
        "affinity",
        "log_kd_ki",
        "-logkd/ki",
        "neglogk",
        "pk_value",
        "logka",
        "y",
    ),
    "binding_data": ("kd/ki", "binding_data", "binding data", "affinity_data", "measurement", "ka"),
    "resolution": ("resolution", "resl", "res"),
    "year": ("year", "date", "release_date", "release year", "release_year"),
    "split": ("new_split", "split", "set", "subset", "cleansplit", "partition"),
    "covalent": ("covalent", "is_covalent"),
    "relation": ("relation", "pk_relation", "operator", "qualifier", "sign"),
}
"""Our name of each column → names that tables give it, in the order in which they count."""
_YEAR = re.compile(r"(?:19|20)[0-9]{2}")


@dataclass(frozen=True)
class TableLine:
    """One complex of the table; empty or None where a cell is."""

    number: int
    code: str
    pk: str
    binding_data: str
    resolution: float | None
    year: int | None
    split: str | None
    remark: str
    relation: str


def table_lines(path: Path, text: str) -> Iterator[TableLine]:
    """The complexes of a table.

    Raises:
        InputError: it has no column of ids, or none of labels or splits, or cannot be parsed.
    """
    head = text.partition("\n")[0]
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=max(DELIMITERS, key=head.count), strict=True)
    try:
        columns = _named(path, reader.fieldnames or ())
        for cells in reader:
            line = _line(reader.line_num, {ours: (cells[name] or "").strip() for ours, name in columns.items()})
            if line.code:
                yield line
    except csv.Error as error:
        raise InputError(
            f"index {path}", got=str(error), expected="a CSV file that can be read", fix="Check the file."
        ) from error


def _named(path: Path, found: Sequence[str]) -> dict[str, str]:
    """Our name of each column → the table's."""
    names = {name.strip().lower(): name for name in reversed(found)}
    columns = {
        ours: names[theirs[0]]
        for ours, spellings in _COLUMNS.items()
        if (theirs := [name for name in spellings if name in names])
    }
    if "code" not in columns or not columns.keys() & {"pk", "binding_data", "split"}:
        raise InputError(
            f"index {path}",
            got=f"the columns {', '.join(found)}" if found else "no columns",
            expected="a column of ids (id, pdb_id …) and one of labels (label, value, kd/ki …) or splits",
            fix="Rename its columns.",
        )
    return columns


def _line(number: int, cells: Mapping[str, str]) -> TableLine:
    known = {name: "" if cell.lower() in NO_VALUE else cell for name, cell in cells.items()}
    year = _YEAR.search(known.get("year", ""))
    covalent = known.get("covalent", "").lower() in {"1", "true", "yes"}
    return TableLine(
        number=number,
        code=known["code"],
        pk=known.get("pk", ""),
        binding_data=known.get("binding_data", "").partition("//")[0].strip(),
        resolution=_number(known.get("resolution", "")),
        year=int(year[0]) if year else None,
        split=SPLITS.get(known.get("split", "").lower()),
        remark="covalent complex" if covalent else "",
        relation=known.get("relation", ""),
    )


def _number(text: str) -> float | None:
    return float(text) if PLAIN_NUMBER.fullmatch(text) else None
