"""The results of a scan in one SQLite file: readings by file content, and the rows of the last finished scan.

Readings are kept for the next scan. Every entry has a checksum, because SQLite checks none: of 400 flipped bits, 91 gave other
atoms. A damaged reading is read anew. Importing this module loads no structure reader, because the planning process imports it.
"""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from compass.data.scan.reading import PackedAtoms, Reading, ReadResult
from compass.data.scan.rows import Row
from compass.errors import InputError
from compass.records import Record, digest
from compass.records.base import Printable

if TYPE_CHECKING:
    from compass.data.structures.complexes import Complex

CATALOGUE_VERSION = 2
"""Version of the file's layout and of the records in it."""
_APPLICATION_ID = 0x434D5053
"""SQLite's application id, "CMPS": it marks a file as a Compass catalogue."""
_SCHEMA = (
    """CREATE TABLE results
    (key TEXT PRIMARY KEY, outcome TEXT NOT NULL, elements BLOB, positions BLOB, is_ligand BLOB, crc INTEGER NOT NULL)""",
    "CREATE TABLE rows (id TEXT PRIMARY KEY, row TEXT NOT NULL, crc INTEGER NOT NULL)",
    "CREATE TABLE about (about TEXT NOT NULL, crc INTEGER NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {CATALOGUE_VERSION}",
)
_PATIENCE_S = 60.0
"""Seconds to wait while another scan of the same dataset writes."""
_OF_THE_MACHINE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
"""Kinds of errors that say nothing of the file's content."""
_AGAIN = "Run `compass scan` again"


class About(Record):
    """A finished scan as a whole."""

    source: str
    """The folder or manifest, as an absolute path."""
    labels: str = ""
    """Source file of the labels."""
    warnings: tuple[Printable, ...] = ()
    rules: str
    """Digest of the reading rules."""
    n_read: int
    n_known: int
    """Complexes that were not read, because their files had not changed since an earlier scan."""
    took_s: float


@dataclass(frozen=True)
class Catalogue:
    """A finished scan, read-only."""

    path: Path
    about: About
    rows: tuple[Row, ...]
    """Every complex, sorted by id."""

    @classmethod
    def open(cls, path: Path) -> Catalogue:
        """The catalogue in `path`.

        Raises:
            InputError: no such file, not a catalogue, another version, or an unfinished scan.
        """
        if not path.is_file():
            raise _unusable(path, "no such file", f"{_AGAIN.removesuffix(' again')}.")
        try:
            with closing(_connected(path)) as db:
                if not _is_ours(db):
                    raise _unusable(path, "a file that is no catalogue", "Give the file that `compass scan` names.")
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version != CATALOGUE_VERSION:
                    raise _unusable(path, f"one of version {version}, not {CATALOGUE_VERSION}", f"{_AGAIN}.")
                about = db.execute("SELECT about, crc FROM about").fetchone()
                if about is None:
                    raise _unusable(path, "an unfinished scan", f"{_AGAIN}: it continues where it stopped.")
                found = db.execute("SELECT id, row, crc FROM rows ORDER BY id").fetchall()
                if not all(_is_whole(*entry) for entry in (about, *found)):
                    raise _unusable(path, "a damaged entry", f"{_AGAIN}.")
                rows = tuple(Row.model_validate_json(row) for _, row, _ in found)
                return cls(path, About.model_validate_json(about[0]), rows)
        except (sqlite3.Error, ValueError, OverflowError) as error:
            raise _unusable(path, " ".join(str(error).split()), f"{_AGAIN}.") from error

    @property
    def root(self) -> Path:
        """The folder that the file names in rows are relative to."""
        source = Path(self.about.source)
        return source if source.is_dir() else source.parent

    @cached_property
    def usable(self) -> tuple[Row, ...]:
        """The complexes that are not rejected, sorted by id."""
        return tuple(row for row in self.rows if row.usable)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits; they change with the usable complexes' content, labels, splits and the rules."""
        return digest(self.about.rules, *((row.id, row.key, row.label, row.split) for row in self.usable))

    def complex(self, id: str) -> Complex:  # noqa: A002 - as the row calls it
        """The atoms of the usable complex `id`, cleaned and cut.

        Raises:
            InputError: no usable complex has that id, or its entry is damaged.
        """
        key = self._keys.get(id)
        try:
            with closing(_connected(self.path)) as db:  # not kept: a connection must not cross into a forked loader
                found = db.execute("SELECT * FROM results WHERE key = ?", (key,)).fetchone()
        except (sqlite3.Error, ValueError) as error:
            raise _unusable(self.path, " ".join(str(error).split()), f"{_AGAIN}.") from error
        if key is not None and (found is None or not _is_whole(*found)):
            raise _unusable(self.path, f"a damaged entry of {id}", f"{_AGAIN}: it reads that complex anew.")
        if found is None:
            raise InputError(
                f"catalogue {self.path}",
                got=f"{id!r}",
                expected="the id of a usable complex",
                fix="`compass scan --report FOLDER` lists every complex.",
            )
        return PackedAtoms(*found[2:5]).named(id)

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {row.id: row.key for row in self.usable}


class ScanStore:
    """The catalogue file while a scan writes it. The last finished scan stays readable until this one finishes."""

    def __init__(self, path: Path) -> None:
        """Open or create `path`. A damaged file is renamed: its readings can be repeated.

        Raises:
            InputError: it cannot be written.
        """
        self.path = path
        self.warnings: tuple[str, ...] = ()
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db, self._known = _opened(path)
            except _DamagedError as error:
                aside = path.with_suffix(".damaged")
                path.replace(aside)
                self.warnings = (f"the cache of earlier scans was damaged ({error}); it is now {aside.name}",)
                self._db, self._known = _opened(path)
            # Rows wait here, so that the last finished scan stays readable until this one replaces it whole.
            self._db.execute(
                "CREATE TEMP TABLE new_rows (id TEXT PRIMARY KEY, row TEXT NOT NULL, crc INTEGER NOT NULL)"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def known(self) -> frozenset[str]:
        """The keys of all stored readings that are whole."""
        return self._known

    def outcome(self, key: str) -> ReadResult:
        """The stored result of a known `key`."""
        with self._writing():
            (outcome,) = self._db.execute("SELECT outcome FROM results WHERE key = ?", (key,)).fetchone()
        return ReadResult.model_validate_json(outcome)

    def add(self, found: Iterable[tuple[Row, Reading | None]]) -> None:
        """Store complexes of this scan with their readings, if any. They are on disk when this returns."""
        rows, results = [], []
        for row, reading in found:
            rows.append(_with_checksum(row.id, row.model_dump_json(exclude_defaults=True)))
            if reading is not None and reading.outcome is not None and reading.lasting:
                atoms = reading.atoms
                blobs = (None, None, None) if atoms is None else (atoms.elements, atoms.positions, atoms.is_ligand)
                outcome = reading.outcome.model_dump_json(exclude_defaults=True)
                results.append(_with_checksum(reading.key, outcome, *blobs))
        # Results of changed files stay: an open catalogue of an earlier scan may still read them.
        with self._writing(), self._db:
            self._db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?)", results)
            self._db.executemany("INSERT INTO new_rows VALUES (?, ?, ?)", rows)

    def finish(self, about: About) -> None:
        """Replace the catalogue's rows by this scan's in one transaction."""
        with self._writing(), self._db:
            self._db.execute("DELETE FROM rows")
            self._db.execute("INSERT INTO rows SELECT id, row, crc FROM new_rows")
            self._db.execute("DELETE FROM about")
            self._db.execute("INSERT INTO about VALUES (?, ?)", _with_checksum(about.model_dump_json()))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise InputError(
                f"catalogue {self.path}",
                got=str(getattr(error, "strerror", None) or error),
                expected="a file in a writable folder",
                fix="Choose another --cache.",
            ) from error


class _DamagedError(Exception):
    """The file is not a database, or a damaged one."""


def _connected(path: Path, mode: str = "rw") -> sqlite3.Connection:
    # Not `ro`: a reader must be able to roll back the unfinished transaction of a killed scan.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_PATIENCE_S)


def _is_ours(db: sqlite3.Connection) -> bool:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    return bool(application == _APPLICATION_ID)


def _with_checksum(*values: str | bytes | None) -> tuple[str | bytes | int | None, ...]:
    """An entry of a table: `values`, then their checksum."""
    crc = 0
    for value in values:
        data = value.encode() if isinstance(value, str) else value or b""
        crc = zlib.crc32(data, zlib.crc32(f"{type(value).__name__} {len(data)} ".encode(), crc))
    return (*values, crc)


def _is_whole(*entry: Any) -> bool:
    """Whether an entry is as it was written."""
    values, crc = entry[:-1], entry[-1]
    return (
        all(value is None or isinstance(value, str | bytes) for value in values) and _with_checksum(*values)[-1] == crc
    )


def _opened(path: Path) -> tuple[sqlite3.Connection, frozenset[str]]:
    """A connection to the catalogue in `path`, and the keys of the readings in it that are whole.

    Raises:
        _DamagedError: it is not a database, or a damaged one.
    """
    db = _writable(path)
    try:
        return db, frozenset(entry[0] for entry in db.execute("SELECT * FROM results") if _is_whole(*entry))
    except (sqlite3.DatabaseError, ValueError, OverflowError) as error:
        db.close()
        if _is_of_the_machine(error):
            raise
        raise _DamagedError(ascii(str(error))[1:-1]) from error


def _tables(db: sqlite3.Connection) -> set[str]:
    """The statements that made its tables."""
    return {sql for (sql,) in db.execute("SELECT sql FROM sqlite_master WHERE type = 'table'")}


def _writable(path: Path) -> sqlite3.Connection:
    """A connection to an undamaged database with the tables of a catalogue."""
    db = _connected(path, "rwc")
    verdict = "ok"
    try:
        (verdict,) = db.execute("PRAGMA integrity_check(1)").fetchone()
        with db:
            db.execute("BEGIN IMMEDIATE")
            for statement in () if _tables(db) else _SCHEMA:
                db.execute(statement)
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if verdict == "ok" and (not _is_ours(db) or version != CATALOGUE_VERSION or not _tables(db) <= {*_SCHEMA}):
            verdict = "its header is not that of a catalogue"
        if verdict == "ok":
            return db
    except (sqlite3.DatabaseError, ValueError, OverflowError) as error:
        db.close()
        if _is_of_the_machine(error):
            raise
        raise _DamagedError(ascii(str(error))[1:-1]) from error
    db.close()
    raise _DamagedError(verdict)


def _is_of_the_machine(error: Exception) -> bool:
    """Whether the machine is the reason of `error`, so that the file may be sound. All others come from a damaged file.

    sqlite3 raises an `OperationalError` for both, and a `UnicodeDecodeError` if its message quotes damaged text.
    """
    code = getattr(error, "sqlite_errorcode", None)  # extended: its last byte is the kind
    return code is not None and code & 0xFF in _OF_THE_MACHINE


def _unusable(path: Path, got: str, fix: str) -> InputError:
    return InputError(f"catalogue {path}", got=got, expected="a finished scan", fix=fix)
