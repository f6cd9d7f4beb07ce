"""Where Optuna's study is kept: a journal file by default, any storage that Optuna knows by its URL."""

from __future__ import annotations

import errno
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from compass.errors import InputError
from compass.files import replacing
from compass.records import Outcome, ProbeSpec
from compass.search.study import Frame, fill_studies
from compass.temporary import TemporaryFolder

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

JOURNAL = "optuna_journal.log"
"""Beside the probe store, unless another storage is asked for."""
_FIRST = b'{"op_code":0,"worker_id":"'
"""How the first line of any journal of Optuna's begins: a study is created."""


def write_study(probes: Iterable[tuple[ProbeSpec, Outcome]], frame: Frame, storage: str | Path) -> int:
    """Rebuild the machine's studies in `storage`, a URL or a journal's path; returns the number of probes shown.

    A journal is replaced atomically, so the state of the old one does not matter. In a database the machine's own studies are
    replaced and other studies are left alone.

    Raises:
        InputError: `storage` cannot be written.
    """
    with quiet():
        if _is_url(storage):
            with _explained(str(storage)):
                return fill_studies(probes, frame, _database(str(storage)))
        return _write_journal(probes, frame, Path(storage))


def check_storage(storage: str | Path) -> None:
    """Make sure that `write_study` can write to the `storage` that the user named.

    Raises:
        InputError: it cannot be opened, or is a file that is not Compass's own journal.
    """
    if _is_url(storage):
        with quiet(), _explained(str(storage)):
            _database(str(storage))
        return
    path = Path(storage)
    try:
        if path.exists() and not _is_ours(path):
            raise InputError(
                f"storage {path}",
                got="a file that Compass did not write",
                expected="a new file, or the journal of an earlier run",
                fix="Choose another --storage.",
            )
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise _unwritable(path, error) from error


def _is_url(storage: str | Path) -> bool:
    return isinstance(storage, str) and "://" in storage


def _is_ours(path: Path) -> bool:
    """Whether the journal is one of ours, perhaps cut off."""
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    with path.open("rb") as file:
        line = file.readline(10_000)
    if not line.endswith(b"\n"):
        return line.startswith(_FIRST) or _FIRST.startswith(line)
    try:
        first = json.loads(line)
    except ValueError:
        return False
    return isinstance(first, dict) and str(first.get("study_name", "")).startswith("compass/")


def _write_journal(probes: Iterable[tuple[ProbeSpec, Outcome]], frame: Frame, path: Path) -> int:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

    try:
        folder = TemporaryFolder()  # what a killed process leaves of it goes with the next one
        try:
            new = folder.path / path.name
            storage = JournalStorage(JournalFileBackend(str(new), lock_obj=JournalFileOpenLock(str(new))))
            n_shown = fill_studies(probes, frame, storage)
            with replacing(path) as file:
                file.write(new.read_bytes())
        finally:
            folder.remove()
    except OSError as error:
        raise _unwritable(path, error) from error
    return n_shown


def _database(url: str) -> BaseStorage:
    from optuna.storages import RDBStorage

    return RDBStorage(url)


@contextmanager
def _explained(url: str) -> Iterator[None]:
    """Turn any error of a database or its driver into one line without the password."""
    try:
        yield
    except Exception as error:
        text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(
            f"storage {_masked(url)}",
            got=_masked(text),
            expected="a database that Optuna can open",
            fix="For example --storage sqlite:///study.db, or the path of a journal file.",
        ) from error


def _masked(text: str) -> str:
    return re.sub(r"://([^:/@\s]*):[^@\s]*@", r"://\1:***@", text)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna from announcing every study and every trial on stderr."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"storage {path}",
        got=error.strerror or str(error),
        expected="a file in a writable folder",
        fix="Choose another --storage.",
    )
