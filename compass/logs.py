"""Two channels for what happens: the console by level, and a file that keeps everything.

Rooms write to `logging.getLogger("compass.<room>")`: stages and decisions at INFO, each probe at DEBUG.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compass.errors import CompassError, InputError

if TYPE_CHECKING:
    from rich.console import Console

LOG_NAME = "hardware_optimizer.log"
LEVELS = ("debug", "info", "warning", "error")
_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class PlainFormatter(logging.Formatter):
    """Timestamp, level and message, without the colour codes a worker's last words may hold."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%dT%H:%M:%S%z")

    def format(self, record: logging.LogRecord) -> str:
        """One record as plain text."""
        return _ANSI.sub("", super().format(record))


@contextmanager
def logging_to(file: Path, *, level: str = "info", console: Console | None = None) -> Iterator[logging.Logger]:
    """Log to `file`, everything, and to the console from `level` up; what ends the block early is in `file` too.

    `console` is where a live display is drawn: on a terminal, lines are printed above it.

    Raises:
        InputError: no such level, or `file` cannot be written. Nothing has happened by then.
    """
    threshold = _threshold(level)
    keeper = _keeper(file)
    speaker = _speaker(console)
    speaker.setLevel(threshold)
    logger = logging.getLogger("compass")
    before = logger.level, logger.propagate
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(keeper)
    logger.addHandler(speaker)
    try:
        yield logger
    except BaseException as error:
        keeper.handle(_last_record(error))
        raise
    finally:
        for handler in (keeper, speaker):
            logger.removeHandler(handler)
            handler.close()
        logger.level, logger.propagate = before


def _threshold(level: str) -> int:
    if level.lower() not in LEVELS:
        raise InputError("--log-level", got=repr(level), expected=f"one of {', '.join(LEVELS)}", fix="Choose one.")
    return logging.getLevelNamesMapping()[level.upper()]


def _keeper(file: Path) -> logging.Handler:
    try:
        keeper = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise InputError(f"log {file}", got=error.strerror or str(error), expected="a file in a writable folder",
                         fix="Choose another --out.") from error  # fmt: skip
    keeper.setFormatter(PlainFormatter())
    return keeper


def _speaker(console: Console | None) -> logging.Handler:
    if console is not None and console.is_terminal:
        from rich.highlighter import NullHighlighter
        from rich.logging import RichHandler

        return RichHandler(console=console, show_path=False, log_time_format="%H:%M:%S", highlighter=NullHighlighter())
    speaker = logging.StreamHandler(sys.stderr)
    speaker.setFormatter(PlainFormatter())
    return speaker


def _last_record(error: BaseException) -> logging.LogRecord:
    """Why the run ended: one line for what a person can act on, the traceback for a bug."""
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
