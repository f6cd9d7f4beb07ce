"""One reader, one input, one verdict: what a fuzzed reader is, and the rules that it must keep."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from compass.errors import CompassError, WorkerError, printable

MIB = 1 << 20
MOST_S = 10.0
"""Processor seconds. More is a hang."""
MOST_WAITING_S = 60.0
"""Seconds after which a reader that computes nothing waits for ever; it has as long if other programs keep the machine busy."""
MOST_BYTES = 500 * MIB
"""Most memory that reading may add."""
MOST_LETTERS = 2_000
"""Of a message: it is one line on a terminal."""
VERDICTS = ("read", "refused", "raw", "made up", "message", "hung", "memory", "died")
"""`read`: values, all of which stand in the input. `refused`: one of Compass's own errors. The others are faults: an exception
of another kind, a value that does not stand in the input, a message of several lines or of pages, more than 10 s of the
processor, more than 500 MiB, and the end of the process."""
GOOD = frozenset({"read", "refused"})
Change = Callable[[bytes, Random], bytes]
Judge = Callable[[bytes, Any], str]


def nothing_to_judge(_data: bytes, _value: Any) -> str:
    """For readers whose values have a form of their own, so that none can be found in the text."""
    return ""


@dataclass(frozen=True)
class FuzzedReader:
    """A reader of Compass, and how its inputs are made."""

    name: str
    seeds: Sequence[bytes]
    """Good inputs, which are damaged."""
    read: Callable[[bytes], Any]
    """Takes an input as its user's file or word would hold it."""
    change: Change
    invented: Judge = nothing_to_judge
    """What a value has that does not stand in the input; empty if all of it does."""
    special: Sequence[Callable[[], bytes]] = ()
    """Inputs that no change makes: bombs and the like. They come first."""
    path: Path | None = None
    """Where its file lies. Other things than files are put there too."""
    read_place: Callable[[], Any] | None = None
    """Reads what lies at `path`."""
    weight: float = 1.0
    """Its share of the inputs."""


class Hung(BaseException):
    """Reading took too long. No reader's own `except Exception` may catch it."""


@dataclass
class Meter:
    """Watches one input after another: the clock ends a hang, the kernel's high-water mark shows memory."""

    started_s: float = 0.0
    base_bytes: int = 0
    _mark: int = field(default_factory=lambda: os.open("/proc/self/clear_refs", os.O_WRONLY))

    def __post_init__(self) -> None:
        signal.signal(signal.SIGALRM, _on_alarm)
        signal.signal(signal.SIGPROF, _on_alarm)

    def start(self) -> None:
        """Begin an input."""
        os.pwrite(self._mark, b"5", 0)  # the kernel's mark falls to the present size
        self.base_bytes = _peak_bytes()
        self.started_s = time.monotonic()
        signal.setitimer(signal.ITIMER_PROF, MOST_S)
        signal.setitimer(signal.ITIMER_REAL, MOST_WAITING_S)

    def stop(self) -> int:
        """End it; returns the bytes that reading added at its peak."""
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        return _peak_bytes() - self.base_bytes


def _on_alarm(_signal: int, _frame: FrameType | None) -> None:
    raise Hung


def _peak_bytes() -> int:
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def verdict_on(reader: FuzzedReader, read: Callable[[], Any], data: bytes | None, meter: Meter) -> tuple[str, str]:
    """(verdict, detail) of one reading; `data` is None where no input's bytes are known."""
    value, kind, detail = None, "read", ""
    meter.start()
    try:
        value = read()
    except CompassError as error:
        # A worker's own traceback is passed on as it is.
        kind, detail = ("refused", "") if isinstance(error, WorkerError) else _of_message(str(error))
    except Hung:
        kind = "hung"
    except MemoryError:
        kind = "memory"
    except Exception as error:  # noqa: BLE001 - that is what is looked for
        kind, detail = "raw", f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{_place(error)}"
    grown_bytes = meter.stop()
    if grown_bytes > MOST_BYTES and kind in GOOD:
        return "memory", f"{grown_bytes // MIB} MiB"
    if kind == "read" and data is not None and (extra := reader.invented(data, value)):
        return "made up", extra[:200]
    return kind, detail


def _of_message(text: str) -> tuple[str, str]:
    if len(text) <= MOST_LETTERS and printable(text) == text:
        return "refused", ""
    return "message", f"{len(text)} letters: {text[:120]!r}"


def _place(error: BaseException) -> str:
    """The innermost line of Compass on the way to the error."""
    found, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if f"{os.sep}compass{os.sep}" in name:
            found = f" [{Path(name).name}:{trace.tb_lineno}]"
        trace = trace.tb_next
    return found
