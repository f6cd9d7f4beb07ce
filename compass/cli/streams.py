"""Standard output and standard error of the `compass` command: whatever is at their other end, a command ends in an orderly way.

Text that the encoding lacks is written with plain letters. Control sequences are written as escapes, except for those that colour a
terminal's text and move its cursor, so that no name of a file can set a title, a clipboard or a direction of writing. If the reader of the output has gone (`compass scan … | head -1`), the command
ends silently, with the exit code of a process that SIGPIPE ended. If the output cannot be written (a full disk), it ends with an error.
Messages that standard error does not take are dropped: hours of work must not end because nobody listens.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from typing import BinaryIO, TextIO

from compass.cli.plain_text import PLAIN, PLAIN_ASCII, register
from compass.errors import InputError, printable

BROKEN_PIPE = 141
"""The exit code when the reader of the output has gone: 128 and the number of SIGPIPE."""
_STANDARD = (0, 1, 2)
_ALLOWED = re.compile(r"(\x1b\[[0-9;?]*[A-Za-z]|[\n\r\t])")


def prepare_streams() -> None:
    """Put streams that bear any text and any end in the place of `sys.stdout` and `sys.stderr`.

    A standard descriptor that is closed is opened on the null device: otherwise the next file that is opened would get its number,
    and with it the output of libraries and child processes.
    """
    register()
    _fill_descriptors()
    sys.stdout = _Output(*_settings(sys.stdout, 1), line_buffering=os.isatty(1))
    sys.stderr = _Messages(*_settings(sys.stderr, 2), line_buffering=True)


class _Output(io.TextIOWrapper):
    """Standard output; see the module."""

    def write(self, text: str) -> int:
        try:
            return super().write(tamed(text))
        except OSError as error:
            raise _ended(error) from error

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            raise _ended(error) from error


class _Messages(io.TextIOWrapper):
    """Standard error; see the module."""

    def write(self, text: str) -> int:
        try:
            return super().write(tamed(text))
        except OSError:
            _to_null(2)
            return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError:
            _to_null(2)


def tamed(text: str) -> str:
    """`text` with its control characters as escapes, except for line ends and what colours text and moves the cursor."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(part if _ALLOWED.fullmatch(part) else printable(part) for part in _ALLOWED.split(text))


def _ended(error: OSError) -> BaseException:
    """What to raise when standard output takes no more; from now on it goes nowhere, so that the interpreter can end."""
    _to_null(1)
    if isinstance(error, BrokenPipeError):
        return SystemExit(BROKEN_PIPE)
    return InputError(
        "standard output",
        got=error.strerror or str(error),
        expected="an output that can be written",
        fix="Make room, or send it elsewhere.",
    )


def _fill_descriptors() -> None:
    for number in _STANDARD:
        try:
            os.fstat(number)
        except OSError:
            _to_null(number)


def _to_null(number: int) -> None:
    """Let the descriptor `number` lead to the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)


def _settings(stream: TextIO | None, number: int) -> tuple[BinaryIO, str, str]:
    """(the file of the descriptor, the encoding of `stream`, the error handler) for a stream in its place."""
    encoding = "utf-8" if stream is None else stream.encoding
    if codecs.lookup(encoding).name == "ascii":
        encoding = PLAIN_ASCII
    return open(number, "wb", closefd=False), encoding, PLAIN
