"""Folders for temporary files that go with a process, however it ends.

PyTorch Geometric leaves the modules that it generates in the temporary folder (`…_propagate_….py`), and other libraries leave files of
their own. A process that builds models gets a folder to itself. A lock, which ends with the process, says that the folder is in
use; what a process left that was killed is removed when the next folder is made.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.util import Finalize
from pathlib import Path

from compass.errors import InputError
from compass.files import failed_by_machine

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows, where what a killed process left stays
    fcntl = None  # type: ignore[assignment]

PREFIX = "compass-"
_LOCK = "in_use"
_OF_MULTIPROCESSING = "pymp-*"
_LAST = -1000
"""Priority of the removal among what multiprocessing does at the end; it removes its own folder at -100."""
_LONGEST = 107 - len("/pymp-12345678/listener-12345678")
"""Bytes: the path of a socket has at most 107 (unix(7)), and multiprocessing fails with a longer one."""
_YOUNG_S = 60.0
"""A folder that is younger may not be locked yet."""
_NO_NAME = re.compile(r'[\\/:*?"<>|]')
_KERNELS = "TORCHINDUCTOR_CACHE_DIR"


class TemporaryFolder:
    """A folder of one process.

    Attributes:
        path: the folder.
        variables: the environment in which a process uses it; none where its path leaves too little for the names of sockets.
    """

    def __init__(self) -> None:
        """Make the folder, and remove those whose process was killed.

        Raises:
            InputError: no temporary folder can be written.
        """
        try:
            parent = Path(tempfile.gettempdir())
            self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent))
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise failed_by_machine(error) or InputError(
                "temporary folder",
                got=error.strerror or str(error),
                expected="a folder that can be written",
                fix="Set TMPDIR to one, or make room.",
            ) from error
        if fcntl is not None:
            with suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self.variables = {"TMPDIR": str(self.path), _KERNELS: os.environ.get(_KERNELS) or _kernel_cache(parent)}
        if len(os.fsencode(self.path)) > _LONGEST:
            self.variables = {}
        _remove_abandoned(parent)

    def remove(self) -> None:
        """Remove the folder with its files. May be called twice."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@contextmanager
def own_temporary_folder() -> Iterator[Path]:
    """Let this process, and those that it starts, put temporary files into a folder that is removed at the end of the block.

    If Python's multiprocessing has put its sockets there, which it keeps until the process ends, so does the folder.
    """
    folder = TemporaryFolder()
    before = {name: os.environ.get(name) for name in folder.variables}
    os.environ.update(folder.variables)
    default, tempfile.tempdir = tempfile.tempdir, folder.variables.get("TMPDIR", tempfile.tempdir)
    try:
        yield folder.path
    finally:
        tempfile.tempdir = default
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if any(folder.path.glob(_OF_MULTIPROCESSING)):
            Finalize(None, folder.remove, exitpriority=_LAST)
        else:
            folder.remove()


def _kernel_cache(parent: Path) -> str:
    """Where torch keeps compiled kernels by default: below the temporary folder. They are to outlive the process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = f"uid_{os.getuid()}" if hasattr(os, "getuid") else "unknown_user"
    return str(parent / ("torchinductor_" + _NO_NAME.sub("_", user)))


def _remove_abandoned(parent: Path) -> None:
    if fcntl is None:  # pragma: no cover
        return
    for lock in parent.glob(f"{PREFIX}*/{_LOCK}"):
        with suppress(OSError):  # of another user, or removed meanwhile
            if time.time() - lock.stat().st_mtime < _YOUNG_S:
                continue
            handle = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.parent, ignore_errors=True)
            finally:
                os.close(handle)
