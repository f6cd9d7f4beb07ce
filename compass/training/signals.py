"""Signals during a run: stop after the present weight update, or save a checkpoint."""

from __future__ import annotations

import signal
from types import FrameType

_SAVE_SIGNALS = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()


class Signals:
    """The requests that reached this process: SIGTERM and SIGINT ask to stop, SIGUSR1 asks to save.

    Attributes:
        stop: the number of the signal that asked to stop; None: no signal did.
        save: whether a signal asked to save.
    """

    def __init__(self) -> None:
        self.stop: int | None = None
        self.save = False

    def install(self) -> None:
        """Install the handlers after Lightning's own, which restores those before them once the loaders have ended.

        Until then, an interrupt that was not taken here could be raised where a loader is deleted, and be lost in a traceback.
        """
        for number in (signal.SIGTERM, signal.SIGINT, *_SAVE_SIGNALS):
            signal.signal(number, self._receive)

    def _receive(self, number: int, _: FrameType | None) -> None:
        if number in _SAVE_SIGNALS:
            self.save = True
        elif self.stop is not None:  # the second request does not wait for the update
            raise KeyboardInterrupt
        else:
            self.stop = number
