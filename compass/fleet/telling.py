"""Messages of kinds that are planned side by side: each names its kind."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from compass.planning.prober import Watch
from compass.records import Progress

_kind: ContextVar[str] = ContextVar("kind", default="")


class _NamesKind(logging.Filter):
    """Puts the kind before a message from its thread."""

    def filter(self, record: logging.LogRecord) -> bool:
        if (name := _kind.get()) and not getattr(record, "names_kind", False):
            record.msg, record.names_kind = f"[{name.replace('%', '%%')}] {record.msg}", True
        return True


_FILTER = _NamesKind()


@contextmanager
def kind_named(name: str) -> Iterator[None]:
    """Name the kind in every message of this thread, while the block runs."""
    token = _kind.set(name)
    for handler in logging.getLogger("compass").handlers:
        handler.addFilter(_FILTER)  # a handler has each filter once
    try:
        yield
    finally:
        _kind.reset(token)


def one_at_a_time(watch: Watch) -> Watch:
    """`watch` for several threads."""
    turn = threading.Lock()

    def watch_in_turn(now: Progress) -> None:
        with turn:
            watch(now)

    return watch_in_turn
