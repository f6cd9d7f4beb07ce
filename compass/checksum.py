"""A checksum inside a JSON object, over its values: layout and order of keys do not matter, a changed digit does."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

CHECKSUM = "checksum"


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


def _of(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
