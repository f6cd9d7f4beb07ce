"""Ctrl-C while an interpreter starts: it waits, or is kept away, because the interpreter would show a traceback.

A blocked signal stays blocked in a process that starts, and in one that replaces this one. Windows has no such thing.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait for the end of the block.

    A process that starts in the block never receives it, and is ended by its parent. A process that replaces this one in the
    block receives it when it calls `take_interrupts`.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_interrupts() -> None:
    """Raise `KeyboardInterrupt` for a Ctrl-C that waited, and for each one from now on."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
