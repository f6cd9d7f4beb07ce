"""JSON on standard output."""

from __future__ import annotations

import codecs
import re
import sys

import typer

_BEYOND_ASCII = re.compile(r"[^\x00-\x7e]")
_ACTING = re.compile(r"[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What a terminal would act on, and halves of letters: bytes of a path that are no UTF-8. JSON's writers leave these as they are."""


def print_json(text: str) -> None:
    """Print the JSON `text`; letters that the output cannot hold, or that a terminal would act on, are written as JSON's escapes."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    is_unicode = codecs.lookup(encoding).name.startswith("utf")
    typer.echo((_ACTING if is_unicode else _BEYOND_ASCII).sub(_escape, text))


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))
