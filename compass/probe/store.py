r"""The ledger on disk: one checksummed line for each probe. It survives a cut at any byte.

A line is `<checksum> <fingerprint key> <spec JSON>\t<outcome JSON>`. Damaged lines are skipped. An incomplete line at the end
is cut off on opening, so that the next line is appended to a complete one.

Several processes may have the file open: training appends while an optimization runs. Each process locks the file while it
cuts or writes, and first cuts off an incomplete line that a process left when it died.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path

from compass.errors import InputError
from compass.files import read_file
from compass.records import Outcome, ProbeSpec, Status

LEDGER = "probes.jsonl"
"""File name of the ledger in its folder."""
LedgerEntry = tuple[str, ProbeSpec, Outcome]
"""(fingerprint key, spec, outcome)."""
_MOST_LINE_BYTES = 1 << 20
"""Of an entry. Real ones have some kilobytes."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""Errors of file systems without locks. There, only one process at a time should write."""


def default_cache() -> Path:
    """The folder that keeps probes and scans between runs.

    Raises:
        InputError: the user's home folder is unknown.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compass"
    except RuntimeError as error:
        raise InputError(
            "cache",
            got="no home folder for this user",
            expected="HOME or XDG_CACHE_HOME in the environment",
            fix="Set one, or give --cache.",
        ) from error


def append(path: Path, fingerprint: str, spec: ProbeSpec, outcome: Outcome) -> None:
    """Append a line to the ledger at `path` without reading the file; it is on disk when this returns.

    Raises:
        InputError: the file cannot be written.
    """
    with _open(path) as file:
        _write(path, file, fingerprint, spec, outcome)


class Store:
    """Finished probes by fingerprint and spec, in memory and on disk. Several threads may share one."""

    def __init__(self, path: Path) -> None:
        """Open the ledger at `path`; create it if there is none.

        Raises:
            InputError: the file cannot be written.
        """
        self._known: dict[str, dict[str, tuple[ProbeSpec, Outcome]]] = {}
        """By fingerprint and key of the probe, in the order of the outcomes."""
        self._path = path
        self._turn = threading.Lock()
        """Held while a line is written and remembered: the file's own lock is this process's as a whole."""
        self._file = _open(path)
        try:
            with _locked(self._file):
                self._file.truncate(self._take_in(read_file(path)))
        except OSError as error:
            raise _unwritable(path, error) from error

    def find(self, fingerprint: str, spec: ProbeSpec) -> Outcome | None:
        """The outcome of the same spec under the same fingerprint; None if there is none or if the probe should be repeated.

        Repeated are timeouts and crashes, and out of memory without an enforced ceiling: another program may have held the
        memory.
        """
        _, outcome = self._known.get(fingerprint, {}).get(spec.key, (spec, None))
        if outcome is None:
            return None
        hit_ceiling = outcome.status is Status.OUT_OF_MEMORY and outcome.enforced
        return outcome if outcome.ok or hit_ceiling else None

    def under(self, fingerprint: str) -> list[tuple[ProbeSpec, Outcome]]:
        """Every probe under `fingerprint`: each spec with its latest outcome, in the order of the outcomes."""
        with self._turn:
            return list(self._known.get(fingerprint, {}).values())

    def add(self, fingerprint: str, spec: ProbeSpec, outcome: Outcome) -> None:
        """Keep `outcome`; it is on disk when this returns.

        Raises:
            InputError: the file can no longer be written.
        """
        with self._turn:
            _write(self._path, self._file, fingerprint, spec, outcome)
            self._remember(fingerprint, spec, outcome)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _remember(self, fingerprint: str, spec: ProbeSpec, outcome: Outcome) -> None:
        known, key = self._known.setdefault(fingerprint, {}), spec.key
        known.pop(key, None)  # the latest outcome goes to the end
        known[key] = spec, outcome

    def _take_in(self, content: bytes) -> int:
        """Remember the lines in `content`. Returns where the last complete one ends."""
        for entry in _read(content).entries:
            self._remember(*entry)
        return content.rfind(b"\n") + 1


def _open(path: Path) -> FileIO:
    """The file, unbuffered, so that a written line is in the file and closing has nothing left to write."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab+", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write(path: Path, file: FileIO, fingerprint: str, spec: ProbeSpec, outcome: Outcome) -> None:
    """Append a complete line to `file`, or raise an error and leave the file as it was."""
    body = f"{fingerprint} {spec.model_dump_json()}\t{outcome.model_dump_json()}".encode()
    line = b"%08x %s\n" % (zlib.crc32(body), body)
    try:
        with _locked(file):
            end = _cut_incomplete_line(file)
            if file.write(line) < len(line):
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - a short write has no errno of its own
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def _cut_incomplete_line(file: FileIO) -> int:
    """Cut off the incomplete line that a process left when it died while writing. Returns the new end."""
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return 0
    file.seek(end - 1)
    if file.read(1) == b"\n":
        return end
    file.seek(0)
    end = file.read().rfind(b"\n") + 1
    file.truncate(end)
    return end


@contextmanager
def _locked(file: FileIO) -> Iterator[None]:
    """Lock `file` against other processes that cut or write it; on a file system without locks, do nothing."""
    if sys.platform == "win32":
        yield
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_UN)


@dataclass(frozen=True)
class LedgerContent:
    """The content of a ledger that is only read."""

    entries: tuple[LedgerEntry, ...]
    """In the order in which they were written."""
    n_older: int
    """Lines in a format that this version cannot read."""
    n_damaged: int
    """Lines whose checksum is wrong."""


def read_ledger(path: Path) -> LedgerContent:
    """The content of the ledger at `path`. The file is not changed, even if it is damaged.

    Raises:
        OSError: the file cannot be read.
    """
    return _read(read_file(path))


def _read(content: bytes) -> LedgerContent:
    """Read every line; a damaged line does not affect the others."""
    entries, n_older, n_damaged = list[LedgerEntry](), 0, 0
    for line in BytesIO(content):
        checksum, _, body = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or len(line) > _MOST_LINE_BYTES or checksum != b"%08x" % zlib.crc32(body):
            n_damaged += 1
            continue
        try:
            fingerprint, _, rest = body.decode().partition(" ")
            question, _, answer = rest.partition("\t")
            entry = fingerprint, ProbeSpec.model_validate_json(question), Outcome.model_validate_json(answer)
        except ValueError:
            n_older += 1
        else:
            entries.append(entry)
    return LedgerContent(tuple(entries), n_older, n_damaged)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"ledger {path}",
        got=error.strerror or str(error),
        expected="a file in a writable folder",
        fix="Choose another --cache.",
    )
