"""A disk that is full or read-only while a run writes: one line, instead of a traceback through three libraries."""

from __future__ import annotations

import errno
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compass.commands import command
from compass.errors import CompassError, InputError
from compass.training.checkpoints import Checkpoints

log = logging.getLogger(__name__)

_OF_DISKS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG}


@contextmanager
def one_line_for_disk_errors(folder: Path) -> Iterator[None]:
    """Turn an error of the disk, while a run in `folder` writes, into one that the user can act on.

    Loggers write in threads of their own, and once more when the process ends: their errors of this kind are a warning, or nothing.

    Raises:
        InputError: the disk is full, or may not be written.
    """
    of_threads = threading.excepthook
    threading.excepthook = _of_thread
    try:
        yield
    except CompassError:
        raise
    except Exception as error:
        if (number := _disk_error_behind(error)) is None:
            raise
        _silence_last_writes()
        kept, flag = Checkpoints(folder / "checkpoints", keep_last=1).kept
        again = command("train", {"--out": str(folder)}, [flag])
        raise InputError(
            f"run folder {folder}",
            got=os.strerror(number),
            expected="room for the run's files, and the right to write them",
            fix=f"Make room. {kept} with `{again}`.",
        ) from error
    finally:
        threading.excepthook = of_threads


def _disk_error_behind(error: BaseException | None) -> int | None:
    """The number of the disk's error that `error` is or was raised on: Lightning raises a ValueError on a logger's errors."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_DISKS:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _of_thread(found: threading.ExceptHookArgs) -> None:
    if isinstance(found.exc_value, OSError) and found.exc_value.errno in _OF_DISKS:
        log.warning("a logger can no longer write its curves: %s", os.strerror(found.exc_value.errno))
    else:
        threading.__excepthook__(found)


def _silence_last_writes() -> None:
    """Let handlers that run when the process ends fail without a traceback, if the disk is why."""
    before = sys.unraisablehook

    def hook(found: sys.UnraisableHookArgs) -> None:
        if not (isinstance(found.exc_value, OSError) and found.exc_value.errno in _OF_DISKS):
            before(found)

    sys.unraisablehook = hook
