"""What a scan found, in one SQLite file: readings by content, kept for the next scan, and the rows of the last finished one.

Importing this loads nothing that reads structures, because the deciding process does.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from compass.data.scan.reading import Atoms, Outcome, Reading
from compass.data.scan.rows import Row
from compass.errors import InputError
from compass.records import Record, digest

if TYPE_CHECKING:
    from compass.data.structures.complexes import Complex

VERSION = 1
"""Of the file's layout and of the records in it."""
_APPLICATION_ID = 0x434D5053
"""SQLite's own place for saying whose file it is: "CMPS"."""
_SCHEMA = (
    "CREATE TABLE results (key TEXT PRIMARY KEY, outcome TEXT NOT NULL, elements BLOB, positions BLOB, is_ligand BLOB)",
    "CREATE TABLE rows (id TEXT PRIMARY KEY, row TEXT NOT NULL)",
    "CREATE TABLE about (about TEXT NOT NULL)",
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {VERSION}",
)
_PATIENCE_S = 60.0
"""For another scan of the same dataset to finish writing."""
_AGAIN = "Run `compass scan` again"


class About(Record):
    """A finished scan as a whole."""

    source: str
    """The folder or manifest, as an absolute path."""
    labels: str = ""
    """The file that the labels are from."""
    warnings: tuple[str, ...] = ()
    rules: str
    """Digest of what the structures were read by."""
    n_read: int
    n_known: int
    """Complexes whose files had not changed since an earlier scan: not read."""
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
            InputError: no such file, not a catalogue, one of another version, or of a scan that did not finish.
        """
        if not path.is_file():
            raise _unusable(path, "no such file", f"{_AGAIN.removesuffix(' again')}.")
        try:
            with closing(_connected(path)) as db:
                if not _is_ours(db):
                    raise _unusable(path, "a file that is none", "Give the file that `compass scan` names.")
                (version,) = db.execute("PRAGMA user_version").fetchone()
                if version != VERSION:
                    raise _unusable(path, f"one of version {version}, not {VERSION}", f"{_AGAIN}.")
                about = db.execute("SELECT about FROM about").fetchone()
                if about is None:
                    raise _unusable(path, "a scan that did not finish", f"{_AGAIN}: it goes on where it stopped.")
                rows = [Row.model_validate_json(row) for (row,) in db.execute("SELECT row FROM rows ORDER BY id")]
                return cls(path, About.model_validate_json(about[0]), tuple(rows))
        except (sqlite3.Error, ValueError) as error:
            raise _unusable(path, " ".join(str(error).split()), f"{_AGAIN}.") from error

    @property
    def root(self) -> Path:
        """The folder that rows name their files from."""
        source = Path(self.about.source)
        return source if source.is_dir() else source.parent

    @cached_property
    def usable(self) -> tuple[Row, ...]:
        """The complexes that are not rejected, sorted by id."""
        return tuple(row for row in self.rows if row.usable)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that change with the content of the usable complexes, their labels, their splits and the rules."""
        return digest(self.about.rules, *((row.id, row.key, row.label, row.split) for row in self.usable))

    def complex(self, id: str) -> Complex:  # noqa: A002 - as the row calls it
        """The atoms of the usable complex `id`, cleaned and cut.

        Raises:
            InputError: there is none of that id.
        """
        key = self._keys.get(id)
        with closing(_connected(self.path)) as db:  # not kept: a connection must not cross into a forked loader
            found = db.execute("SELECT elements, positions, is_ligand FROM results WHERE key = ?", (key,)).fetchone()
        if found is None:
            raise InputError(f"catalogue {self.path}", got=f"{id!r}", expected="the id of a usable complex",
                             fix="`compass scan` says what became of each.")  # fmt: skip
        return Atoms(*found).named(id)

    @cached_property
    def _keys(self) -> dict[str, str]:
        return {row.id: row.key for row in self.usable}


class ScanStore:
    """The same file while a scan fills it. Nothing of an earlier scan is lost before this one has finished."""

    def __init__(self, path: Path) -> None:
        """Open `path`, creating it if need be. A damaged file is set aside: whatever it held can be read again.

        Raises:
            InputError: it cannot be written.
        """
        self.path = path
        self.warnings: tuple[str, ...] = ()
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = _writable(path)
            except _DamagedError as error:
                aside = path.with_suffix(".damaged")
                path.replace(aside)
                self.warnings = (f"the cache of earlier scans was damaged ({error}); it is now {aside.name}",)
                self._db = _writable(path)
            # Rows wait here, so that the last finished scan stays readable until this one replaces it whole.
            self._db.execute("CREATE TEMP TABLE new_rows (id TEXT PRIMARY KEY, row TEXT NOT NULL)")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def known(self) -> frozenset[str]:
        """The keys of all readings that are kept."""
        with self._writing():
            return frozenset(key for (key,) in self._db.execute("SELECT key FROM results"))

    def outcome(self, key: str) -> Outcome:
        """What the reading of a known `key` gave."""
        with self._writing():
            (outcome,) = self._db.execute("SELECT outcome FROM results WHERE key = ?", (key,)).fetchone()
        return Outcome.model_validate_json(outcome)

    def add(self, found: Iterable[tuple[Row, Reading | None]]) -> None:
        """Take in complexes of this scan, each with its reading if its files were looked at; on disk before this returns."""
        rows, results = [], []
        for row, reading in found:
            rows.append((row.id, row.model_dump_json(exclude_defaults=True)))
            if reading is not None and reading.outcome is not None and reading.lasting:
                atoms = reading.atoms
                blobs = (None, None, None) if atoms is None else (atoms.elements, atoms.positions, atoms.is_ligand)
                results.append((reading.key, reading.outcome.model_dump_json(exclude_defaults=True), *blobs))
        # Results of files that have changed since stay: an open catalogue of an earlier scan may still ask for them.
        with self._writing(), self._db:
            self._db.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?)", results)
            self._db.executemany("INSERT INTO new_rows VALUES (?, ?)", rows)

    def finish(self, about: About) -> None:
        """Make this scan's rows those of the catalogue, all at once."""
        with self._writing(), self._db:
            self._db.execute("DELETE FROM rows")
            self._db.execute("INSERT INTO rows SELECT id, row FROM new_rows")
            self._db.execute("DELETE FROM about")
            self._db.execute("INSERT INTO about VALUES (?)", (about.model_dump_json(),))

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise InputError(f"catalogue {self.path}", got=str(getattr(error, "strerror", None) or error),
                             expected="a file in a writable folder", fix="Choose another --cache.") from error  # fmt: skip


class _DamagedError(Exception):
    """The file is no database, or a broken one."""


def _connected(path: Path, mode: str = "rw") -> sqlite3.Connection:
    # Not `ro`: a reader must be able to roll back what a killed scan left half-written.
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=_PATIENCE_S)


def _is_ours(db: sqlite3.Connection) -> bool:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    return bool(application == _APPLICATION_ID)


def _writable(path: Path) -> sqlite3.Connection:
    """A connection to a sound database with our tables."""
    db = _connected(path, "rwc")
    verdict = "ok"
    try:
        (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if verdict == "ok":
            with db:
                db.execute("BEGIN IMMEDIATE")
                for statement in () if _is_ours(db) else _SCHEMA:
                    db.execute(statement)
            return db
    except sqlite3.OperationalError:  # locked, no room: nothing is wrong with the file
        db.close()
        raise
    except sqlite3.DatabaseError as error:
        verdict = str(error)
    db.close()
    raise _DamagedError(verdict)


def _unusable(path: Path, got: str, fix: str) -> InputError:
    return InputError(f"catalogue {path}", got=got, expected="a finished scan", fix=fix)
