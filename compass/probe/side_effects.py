"""Side effects of a workload on the worker's process: undone where possible, and reported as remarks.

Printing, changing the working directory, forking and starting processes do no harm in a worker, which is a process of its own.
In a training script they would, so they are reported.
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
"""The most of the printed output that goes on to standard error."""
SHOWN_CHARACTERS = 60
"""The most of the printed output that a remark quotes."""
GROWTH_BYTES = 1024
"""Live bytes that a step may leave behind without a remark: a counter, a scalar."""

_forks = 0


def _count_fork() -> None:
    global _forks  # noqa: PLW0603 - a process has one such number
    _forks += 1


def count_forks() -> None:
    """Count every fork of this process from now on."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(before=_count_fork)


def leak_remarks(left_bytes: int | None) -> list[str]:
    """The remark on live bytes that a step left behind; none if they are few or unknown."""
    if left_bytes is None or left_bytes <= GROWTH_BYTES:
        return []
    return [
        f"held {format_bytes(left_bytes)} more after a step than before it: something is kept from one step to the next"
    ]


@contextlib.contextmanager
def watched(remarks: list[str]) -> Iterator[None]:
    """Append a remark to `remarks` for each side effect inside the block; undo those that can be undone."""
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
    """Flush output buffered by Python and C to the present descriptor 1, before that changes."""
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
        now = Path("a folder that no longer exists")
    if now == folder:
        return []
    os.chdir(folder)
    return [f"changed the working directory to {now}"]


def _multiplied(n_forks: int, n_more: int) -> list[str]:
    remarks = []
    if n_forks:
        remarks.append(f"forked {n_forks} time{'s' if n_forks > 1 else ''}")
    if n_more:
        remarks.append(f"left {n_more} process{'es' if n_more > 1 else ''} running")
    return [", ".join(remarks)] if remarks else []


def _children() -> set[int]:
    """Numbers of the running processes that this one started."""
    with contextlib.suppress(psutil.Error):
        return {
            child.pid for child in psutil.Process().children(recursive=True) if child.status() != psutil.STATUS_ZOMBIE
        }
    return set()
