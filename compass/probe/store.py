r"""The ledger on disk: one checksummed line a probe, the truth that survives a cut at any byte.

A line is `<checksum> <fingerprint key> <spec JSON>\t<outcome JSON>`. A damaged one is passed over; half a line at the end is cut
off on opening, so that what follows is appended to a good end.

Several processes may have it open: training appends while an optimization runs. Each holds the file's lock while it cuts
or writes, and cuts off whatever half a line another one left when it died.
"""

from __future__ import annotations

import errno
import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO, FileIO
from pathlib import Path

from compass.errors import InputError
from compass.records import Outcome, ProbeSpec, Status

LEDGER = "probes.jsonl"
"""The store's name in its folder."""
Entry = tuple[str, ProbeSpec, Outcome]
"""Whose fingerprint, the question, the answer."""
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system without locks says. There only one process at a time should write."""


def default_cache() -> Path:
    """Where probes and scans are kept between runs.

    Raises:
        InputError: nobody says where the user's home is.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "compass"
    except RuntimeError as error:
        raise InputError("cache", got="no home folder for this user", expected="HOME or XDG_CACHE_HOME in the environment",
                         fix="Set one, or give --cache.") from error  # fmt: skip


def append(path: Path, fingerprint: str, spec: ProbeSpec, outcome: Outcome) -> None:
    """Write to the ledger at `path` without reading what is in it: on disk when this returns.

    Raises:
        InputError: it cannot be written.
    """
    with _open(path) as file:
        _write(path, file, fingerprint, spec, outcome)


class Store:
    """Finished probes, kept by fingerprint and question."""

    def __init__(self, path: Path) -> None:
        """Open `path`, creating it if need be.

        Raises:
            InputError: it cannot be written.
        """
        self._known: dict[tuple[str, str], tuple[ProbeSpec, Outcome]] = {}
        self._path = path
        self._file = _open(path)
        try:
            with _locked(self._file):
                self._file.truncate(self._take_in(path.read_bytes()))
        except OSError as error:
            raise _unwritable(path, error) from error

    def find(self, fingerprint: str, spec: ProbeSpec) -> Outcome | None:
        """The outcome of the same question under the same fingerprint, if it says something lasting.

        A hang or a crash is tried again, and so is what ran out of memory that no ceiling kept from it: another program may have held it.
        """
        _, outcome = self._known.get((fingerprint, spec.key), (spec, None))
        if outcome is None:
            return None
        is_own_doing = outcome.status is Status.OUT_OF_MEMORY and outcome.enforced
        return outcome if outcome.ok or is_own_doing else None

    def under(self, fingerprint: str) -> list[tuple[ProbeSpec, Outcome]]:
        """Every probe made under `fingerprint`, each question with its last answer, in the order of these."""
        return [known for (owner, _), known in self._known.items() if owner == fingerprint]

    def add(self, fingerprint: str, spec: ProbeSpec, outcome: Outcome) -> None:
        """Keep `outcome`, on disk before this returns.

        Raises:
            InputError: it cannot be written any more.
        """
        _write(self._path, self._file, fingerprint, spec, outcome)
        self._remember(fingerprint, spec, outcome)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _remember(self, fingerprint: str, spec: ProbeSpec, outcome: Outcome) -> None:
        question = fingerprint, spec.key
        self._known.pop(question, None)  # a new answer takes its place at the end
        self._known[question] = spec, outcome

    def _take_in(self, content: bytes) -> int:
        """Remember what the lines say; returns where the last whole one ends."""
        for entry in _read(content).entries:
            self._remember(*entry)
        return content.rfind(b"\n") + 1


def _open(path: Path) -> FileIO:
    """The file, unbuffered: a line is there or not when it was written, and nothing is left to write on closing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("ab+", buffering=0)
    except OSError as error:
        raise _unwritable(path, error) from error


def _write(path: Path, file: FileIO, fingerprint: str, spec: ProbeSpec, outcome: Outcome) -> None:
    """A whole line at the end of `file`, or an error and nothing."""
    body = f"{fingerprint} {spec.model_dump_json()}\t{outcome.model_dump_json()}".encode()
    line = b"%08x %s\n" % (zlib.crc32(body), body)
    try:
        with _locked(file):
            end = _cut_half_a_line(file)
            if file.write(line) < len(line):
                file.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # noqa: TRY301 - the system will say no more
            os.fsync(file.fileno())
    except OSError as error:
        raise _unwritable(path, error) from error


def _cut_half_a_line(file: FileIO) -> int:
    """Cut off what a process that died while writing left at the end; returns where that is."""
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
    """No other process cuts or writes `file` meanwhile; where there are no locks, nothing keeps it from that."""
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
class Found:
    """What a ledger holds, for whoever only reads it."""

    entries: tuple[Entry, ...]
    """In the order they were made."""
    n_older: int
    """Lines of a form that is read no more."""
    n_damaged: int
    """Lines that are not what was once written."""


def read_ledger(path: Path) -> Found:
    """The ledger in `path`, which is left as it is, damaged or not.

    Raises:
        OSError: it cannot be read.
    """
    return _read(path.read_bytes())


def _read(content: bytes) -> Found:
    """What every line says; one that is damaged takes no other with it."""
    entries, n_older, n_damaged = list[Entry](), 0, 0
    for line in BytesIO(content):
        checksum, _, body = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
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
    return Found(tuple(entries), n_older, n_damaged)


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"probe store {path}", got=error.strerror or str(error), expected="a file in a writable folder",
                      fix="Choose another --cache.")  # fmt: skip
