"""What a workload does to the worker's process beside training: set right, and put into words.

Printing, changing the folder, forking and starting processes do no harm here, because the worker is a process of its own. In a
training script they would, so they are said.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from compass.units import format_bytes

SHOWN_BYTES = 4096
"""Of what was printed, the most that is passed on to standard error."""
SHOWN_CHARACTERS = 60
GROWTH_BYTES = 1024
"""Left by a step that is not worth a word: a counter, a scalar kept."""

_forks = 0


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - a process has one such number
    _forks += 1


def count_forks() -> None:
    """From now on, every fork of this process is counted."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_count_fork)


def leak(left_bytes: int | None) -> list[str]:
    """The remark on what a step left behind, if it is worth one."""
    if left_bytes is None or left_bytes <= GROWTH_BYTES:
        return []
    return [f"held {format_bytes(left_bytes)} more after a step than before it: something is kept from step to step"]


@contextlib.contextmanager
def watched(remarks: list[str]) -> Iterator[None]:
    """Fill `remarks` with what happens inside the block, and undo what can be undone."""
    folder, n_forks = Path.cwd(), _forks
    children = _children()
    with tempfile.TemporaryFile() as printed:
        _flush()
        os.dup2(printed.fileno(), 1)
        try:
            yield
        finally:
            _flush()
            os.dup2(2, 1)
            remarks += _printed(printed.fileno())
            remarks += _moved(folder)
            remarks += _multiplied(_forks - n_forks, len(_children() - children))


def _flush() -> None:
    """What was printed in Python or in C is on its way to whatever descriptor 1 was when it was printed."""
    for stream in (sys.stdout, sys.__stdout__):
        with contextlib.suppress(ValueError, OSError, AttributeError):
            stream.flush()  # type: ignore[union-attr]
    if sys.platform != "win32":
        ctypes.CDLL(None).fflush(None)


def _printed(descriptor: int) -> list[str]:
    size = os.lseek(descriptor, 0, os.SEEK_END)
    if size == 0:
        return []
    os.lseek(descriptor, max(0, size - SHOWN_BYTES), os.SEEK_SET)
    text = os.read(descriptor, SHOWN_BYTES)
    with contextlib.suppress(OSError):
        os.write(2, text)
    first = text.decode(errors="replace").strip().splitlines()
    shown = first[0][:SHOWN_CHARACTERS] if first else ""
    return [f"printed {size:,} bytes on standard output: {shown!r}"]


def _moved(folder: Path) -> list[str]:
    try:
        now = Path.cwd()
    except OSError:
        now = Path("a folder that is gone")
    if now == folder:
        return []
    os.chdir(folder)
    return [f"changed the working directory to {now}"]


def _multiplied(n_forks: int, n_more: int) -> list[str]:
    said = []
    if n_forks:
        said.append(f"forked {n_forks} time{'s' if n_forks > 1 else ''}")
    if n_more:
        said.append(f"left {n_more} process{'es' if n_more > 1 else ''} running")
    return [", ".join(said)] if said else []


def _children() -> set[int]:
    """Processes that were started from here and go on."""
    with contextlib.suppress(psutil.Error):
        return {
            child.pid for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE
        }
    return set()
