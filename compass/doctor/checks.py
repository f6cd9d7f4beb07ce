"""What a check found, and how checks are run: side by side, each with a time limit, none able to end the program."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

Answer = TypeVar("Answer")
CheckLevel = Literal["ok", "warn", "fail"]
"""`warn`: Compass works, but slower, with less memory, or not on the intended device. `fail`: something does not work."""


@dataclass(frozen=True)
class CheckResult:
    """The result of one check."""

    check: str
    """Its name, such as `memory`."""
    level: CheckLevel
    says: str
    """What was found, without a full stop."""
    remedy: str = ""
    """What to do about it, in sentences; empty if there is nothing to do."""


@dataclass(frozen=True)
class Check:
    """A check with its inputs, ready to run."""

    name: str
    run: Callable[[], CheckResult]


def run_checks(checks: Sequence[Check], *, limit_s: float) -> tuple[CheckResult, ...]:
    """The result of each check, in order. All run at once.

    A check that raises an exception, or has not answered after `limit_s` seconds, is a warning: a file system that hangs or
    a driver that cannot be asked must not hide the other results.
    """
    until = time.monotonic() + limit_s
    answers = [_started(check.run) for check in checks]
    return tuple(_result(check.name, answer, until, limit_s) for check, answer in zip(checks, answers, strict=True))


def within(limit_s: float, call: Callable[[], Answer]) -> Answer | None:
    """The result of `call`, or None if it takes longer than `limit_s` seconds. Its exceptions are raised here."""
    try:
        result, error = _started(call).get(timeout=limit_s)
    except queue.Empty:
        return None
    if error is not None:
        raise error
    return result


def _started(call: Callable[[], Answer]) -> queue.Queue[tuple[Answer | None, Exception | None]]:
    """A queue that receives (result, None) or (None, exception). The thread ends with the program even if it hangs."""
    answer: queue.Queue[tuple[Answer | None, Exception | None]] = queue.Queue()

    def run() -> None:
        try:
            answer.put((call(), None))
        except Exception as error:  # noqa: BLE001 - whatever a check meets is a result
            answer.put((None, error))

    threading.Thread(target=run, daemon=True).start()
    return answer


def _result(
    name: str, answer: queue.Queue[tuple[CheckResult | None, Exception | None]], until: float, limit_s: float
) -> CheckResult:
    try:
        found, error = answer.get(timeout=max(0.0, until - time.monotonic()))
    except queue.Empty:
        return CheckResult(
            name,
            "warn",
            f"no answer within {limit_s:g} s",
            "Something that it asks hangs, such as a network file system.",
        )
    if found is not None:
        return found
    what = " ".join(str(error).split())
    return CheckResult(
        name,
        "warn",
        f"could not be checked: {type(error).__name__}{f': {what}' if what else ''}",
        "Please report this as a bug of `compass doctor`.",
    )
