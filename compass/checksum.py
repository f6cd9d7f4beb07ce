"""Checksums inside files of text.

- in a JSON object, over its values: layout and order of keys do not matter, a changed digit does;
- in each row of a CSV table, over its cells and the names of their columns.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any

CHECKSUM = "checksum"
ROW_CHECKSUM = "crc32"
"""The last column of a table whose rows have a checksum."""


def with_checksum(data: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with its checksum as the last entry."""
    values = {key: value for key, value in data.items() if key != CHECKSUM}
    return {**values, CHECKSUM: _of(values)}


def without_checksum(data: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """(`data` without its checksum, whether it is as it was written). Files of older versions have none, and count as such."""
    values = {key: value for key, value in data.items() if key != CHECKSUM}
    return values, CHECKSUM not in data or data[CHECKSUM] == _of(values)


def json_with_checksum(data: Mapping[str, Any]) -> str:
    """`data` with its checksum, as indented JSON that ends with a line break."""
    return json.dumps(with_checksum(data), indent=2, ensure_ascii=False) + "\n"


def json_without_checksum(text: str) -> str:
    """The JSON in `text` without its checksum.

    Raises:
        ValueError: it is no JSON object, or not as it was written.
    """
    try:
        data = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(data, dict):
        raise ValueError("no JSON object")  # noqa: TRY004 - the text is wrong, not the caller
    values, as_written = without_checksum(data)
    if not as_written:
        raise ValueError("its checksum is not that of its content")
    return json.dumps(values)


def row_with_checksum(row: Mapping[str, object]) -> dict[str, str]:
    """The cells of a row of a table by column, as text, with their checksum as the last one."""
    cells = {name: "" if value is None else str(value) for name, value in row.items() if name != ROW_CHECKSUM}
    text = "\n".join(f"{name}={cell}" for name, cell in cells.items())
    return {**cells, ROW_CHECKSUM: f"{zlib.crc32(text.encode(errors='replace')):08x}"}


def is_row_whole(row: Mapping[str, str]) -> bool:
    """Whether a row is as it was written. Tables of older versions have no checksums, and their rows count as whole."""
    return ROW_CHECKSUM not in row or row == row_with_checksum(row)


def _of(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
