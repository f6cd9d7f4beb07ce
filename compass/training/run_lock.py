"""One run, one folder: the process of a run holds a lock on it, which the system releases when the process ends, however it ends.

The lock is taken before anything is written, and handed on by its file descriptor: `compass train` becomes the run's process.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from compass.errors import InputError
from compass.files import read_record, unwritable

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where runs are not locked
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"
DESCRIPTOR = "COMPASS_RUN_LOCK"
"""The environment variable by which a process hands its lock on."""
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
"""Errors of file systems without locks, as some network file systems are."""


def lock_run(folder: Path) -> int:
    """Lock the run in `folder`, which is created if necessary, until this process and those that it hands the lock to have ended.

    On a file system without locks, the note of who holds it decides.

    Returns:
        The descriptor of the lock; -1 where there are no locks at all.

    Raises:
        InputError: another process holds it, or the folder cannot be written.
    """
    path = folder / LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritable(folder, error) from error
    if fcntl is None:  # pragma: no cover
        return -1
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        held = error.errno not in _NO_LOCKS or _lives(_holder(path))
        if held:
            os.close(descriptor)
            raise _held(folder, _holder(path)) from error
    try:
        _note(descriptor)
    except OSError as error:  # the disk is full
        os.close(descriptor)
        raise unwritable(folder, error) from error
    return descriptor


def hand_on(descriptor: int) -> dict[str, str]:
    """The environment variable that gives the lock to a process that inherits the descriptor."""
    if descriptor < 0:
        return {}
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional alone
    return {DESCRIPTOR: str(descriptor)}


def keep_lock(folder: Path) -> int:
    """The lock on `folder` that this process was handed or, without one, that it takes itself.

    Raises:
        InputError: another process holds it.
    """
    given = os.environ.pop(DESCRIPTOR, "")
    try:
        if given and os.path.samestat(os.fstat(int(given)), (folder / LOCK).stat()):
            os.set_inheritable(int(given), False)  # noqa: FBT003
            with suppress(OSError):  # a full disk: the lock holds without its note
                _note(int(given))
            return _noted_until_the_end(int(given), folder)
    except (OSError, ValueError):
        pass  # a stranger's variable
    return _noted_until_the_end(lock_run(folder), folder)


def _noted_until_the_end(descriptor: int, folder: Path) -> int:
    """Take the note away when this process ends, so that it holds nothing where only the note counts.

    Its forks let go of the lock at once: a loader process outlives a killed run by seconds, and would lock out the next one.
    """
    if descriptor >= 0:
        atexit.register(_take_note_away, descriptor, folder / LOCK)
        os.register_at_fork(after_in_child=partial(_let_go, descriptor, os.fstat(descriptor)))
    return descriptor


def _let_go(descriptor: int, of: os.stat_result) -> None:
    with suppress(OSError):  # it was closed
        if os.path.samestat(os.fstat(descriptor), of):
            os.close(descriptor)


def _take_note_away(descriptor: int, path: Path) -> None:
    with suppress(OSError):  # it was closed; its number may be another file's by now
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            os.ftruncate(descriptor, 0)


def _note(descriptor: int) -> None:
    """Write down who holds the lock."""
    me = {"host": socket.gethostname(), "pid": os.getpid(), "since": psutil.Process().create_time()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(me).encode(), 0)


def _holder(path: Path) -> dict[str, object]:
    try:
        found = json.loads(read_record(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _lives(holder: dict[str, object]) -> bool:
    """Whether the process of this note may be running. A process on another host cannot be looked at, and counts as running."""
    if not holder or holder.get("host") != socket.gethostname():
        return bool(holder)
    try:
        return bool(psutil.Process(int(str(holder.get("pid")))).create_time() == holder.get("since"))
    except (psutil.Error, ValueError):
        return False


def _held(folder: Path, holder: dict[str, object]) -> InputError:
    who = f"process {holder['pid']} on {holder.get('host')}" if holder.get("pid") else "another process"
    return InputError(
        f"run folder {folder}",
        got=f"one in which {who} trains",
        expected="a folder that no other run uses",
        fix=f"Wait for it, stop it, or choose another --out. If it has ended, delete {folder / LOCK}.",
    )
