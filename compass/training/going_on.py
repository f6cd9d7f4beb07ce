"""Files that a run cannot write do not end it: it warns, trains on, and tries again with the next one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from compass.errors import InputError

CHECKPOINT = "the last checkpoint"
log = logging.getLogger(__name__)


class Unwritten:
    """What a run could not write, so that its end can tell.

    Attributes:
        reasons: by the name of the file or table, the reason of its last failure; a later success removes it.
    """

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    @contextmanager
    def going_on(self, what: str) -> Iterator[None]:
        """Warn, and go on, if the block cannot write `what`."""
        try:
            yield
        except (OSError, InputError) as error:
            reason = error.got if isinstance(error, InputError) else error.strerror or str(error)
            is_known = self.reasons.get(what) == reason  # a table has a row a minute
            log.log(
                logging.DEBUG if is_known else logging.WARNING,
                "%s was not written (%s); the run goes on, and tries again with the next one",
                what,
                reason,
            )
            self.reasons[what] = reason
        else:
            self.reasons.pop(what, None)


def forgive(writer: Any, methods: Sequence[str], what: str, warned: set[str]) -> None:
    """Let `methods` of `writer` fail without an end of the run, if the file system is the reason.

    The first failure is warned of, unless `what` is in `warned`.
    """

    def forgiving(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return method(*args, **kwargs)
            except OSError as error:
                if what not in warned:
                    warned.add(what)
                    log.warning("%s cannot be written (%s); the run goes on without", what, error.strerror or error)
                return None

        return call

    for name in methods:
        setattr(writer, name, forgiving(getattr(writer, name)))
