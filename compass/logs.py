"""Two log channels: the console from a chosen level up, and a file with every message.

Packages log to `logging.getLogger("compass.<package>")`: stages and decisions at INFO, each probe at DEBUG.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from compass.errors import CompassError, InputError, printable

if TYPE_CHECKING:
    from rich.console import Console

LOG_NAME = "hardware_optimizer.log"
LEVELS = ("debug", "info", "warning", "error")
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class PlainFormatter(logging.Formatter):
    """Timestamp, level and message, without the colour codes that a worker's output may hold."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z")

    def format(self, record: logging.LogRecord) -> str:
        """`record` as plain text; a message has one line, a traceback several."""
        lines = _ANSI.sub("", super().format(record)).splitlines()
        return "\n".join(map(printable, lines))


class _LogFile(logging.FileHandler):
    """The file of a run's messages. If it cannot be written any more, the console says so once, and the run goes on."""

    is_lost = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """A message was not written."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.is_lost:
            self.is_lost = True
            logging.getLogger(__name__).warning(
                "%s misses messages from here on: %s", self.baseFilename, error.strerror or error
            )


@contextmanager
def logging_to(file: Path, *, level: str = "info", console: Console | None = None) -> Iterator[logging.Logger]:
    """Log every message to `file`, and those from `level` up to the console. An exception of the block is logged to `file` too.

    `console` is the console of a live display: on a terminal, messages are printed above it.

    Raises:
        InputError: no such level, or `file` cannot be written. The block has not run.
    """
    threshold = _threshold(level)
    file_handler = _file_handler(file)
    console_handler = _console_handler(console)
    console_handler.setLevel(threshold)
    try:
        with _only(file_handler, console_handler) as logger:
            yield logger
    except BaseException as error:
        file_handler.handle(_last_record(error))
        raise
    finally:
        with suppress(OSError):  # what a full disk did not take was reported
            file_handler.close()


@contextmanager
def logging_to_console() -> Iterator[None]:
    """Log every message to stderr. A `logging_to` within the block takes its place."""
    with _only(_console_handler(None)):
        yield


@contextmanager
def _only(*handlers: logging.Handler) -> Iterator[logging.Logger]:
    """Log to `handlers` and nothing else while the block runs."""
    logger = logging.getLogger("compass")
    before = logger.level, logger.propagate, logger.handlers
    logger.setLevel(logging.DEBUG)
    logger.propagate, logger.handlers = False, list(handlers)
    try:
        yield logger
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1:]


def _threshold(level: str) -> int:
    if level.lower() not in LEVELS:
        raise InputError("--log-level", got=repr(level), expected=f"one of {', '.join(LEVELS)}", fix="Choose one.")
    return logging.getLevelNamesMapping()[level.upper()]


def _file_handler(file: Path) -> logging.Handler:
    try:
        file_handler = _LogFile(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(
            f"log {file}",
            got=error.strerror or str(error),
            expected="a file in a writable folder",
            fix="Choose another --out.",
        ) from error
    file_handler.setFormatter(PlainFormatter())
    return file_handler


def _console_handler(console: Console | None) -> logging.Handler:
    if console is not None and console.is_terminal:
        from rich.highlighter import NullHighlighter
        from rich.logging import RichHandler

        return RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S", highlighter=NullHighlighter())
    console_handler = logging.StreamHandler(sys.stderr)
    console_handler.setFormatter(PlainFormatter())
    return console_handler


def _last_record(error: BaseException) -> logging.LogRecord:
    """The reason for the end of a run: one line for an error that the user can act on, a traceback for a bug."""
    foreseen = isinstance(error, (CompassError, KeyboardInterrupt))
    return logging.makeLogRecord(
        {
            "name": "compass",
            "levelno": logging.ERROR,
            "levelname": "ERROR",
            "msg": "ended early: %s",
            "args": (str(error) or type(error).__name__,),
            "exc_info": None if foreseen else (type(error), error, error.__traceback__),
        }
    )
