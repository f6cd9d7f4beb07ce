"""The catalogue: what goes in comes out, and nothing half-done is taken for a scan."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.data.scan.catalogue import About, Catalogue, ScanStore
from compass.data.scan.reading import PackedAtoms, Reading, ReadResult
from compass.data.scan.rows import Label, Row
from compass.data.structures.complexes import Complex
from compass.errors import InputError

SIZES = (("nodes", 3.0), ("edges", 9.0))


def make_complex(name="a", n=3):
    return Complex(name, np.arange(6, 6 + n), np.arange(3 * n, dtype=np.float32).reshape(n, 3) / 7, np.arange(n) > 0)


def about(**changes):
    return About(**{"source": "/data", "rules": "r", "n_read": 2, "n_known": 0, "took_s": 0.5, **changes})


def reading(key, **changes):
    return Reading(key, ReadResult(status="ok", **changes), PackedAtoms.of(make_complex()))


def write(path, *rows, **changes):
    with ScanStore(path) as store:
        store.add((row, reading(row.key) if row.usable else None) for row in rows)
        store.finish(about(**changes))
    return Catalogue.open(path)


def ok(name="a", **changes):
    return Row(**{"id": name, "status": "ok", "sizes": SIZES, "key": f"k{name}", **changes})


NO = Row(id="b", status="rejected", reason="no_3d", detail="flat", key="kb")


def test_rows_by_id_and_the_usable_ones(tmp_path):
    catalogue = write(tmp_path / "c.sqlite", ok("c", status="repaired"), NO, ok("a"))
    assert [row.id for row in catalogue.rows] == ["a", "b", "c"]
    assert [row.id for row in catalogue.usable] == ["a", "c"]
    assert catalogue.rows[1] == NO
    assert catalogue.about == about()


def test_atoms_come_back_as_they_were(tmp_path):
    catalogue, made = write(tmp_path / "c.sqlite", ok("a")), make_complex()
    again = catalogue.complex("a")
    assert again.name == "a"
    for field in ("elements", "positions", "is_ligand"):
        np.testing.assert_array_equal(getattr(again, field), getattr(made, field))
        assert getattr(again, field).dtype == getattr(made, field).dtype
        getattr(again, field)[:1] = 0  # its own memory


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_atoms_and_their_bytes(n, seed):
    rng = np.random.default_rng(seed)
    made = Complex("x", rng.integers(1, 119, n), rng.normal(size=(n, 3)).astype(np.float32), rng.random(n) < 0.5)
    again = PackedAtoms.of(made).named("y")
    assert (again.name, again.n_atoms) == ("y", n)
    for field in ("elements", "positions", "is_ligand"):
        np.testing.assert_array_equal(getattr(again, field), getattr(made, field))


@pytest.mark.parametrize("name", ["b", "nobody"])
def test_no_atoms_of_what_cannot_be_used(tmp_path, name):
    catalogue = write(tmp_path / "c.sqlite", ok("a"), NO)
    with pytest.raises(InputError) as caught:
        catalogue.complex(name)
    assert str(caught.value) == (
        f"catalogue {tmp_path}/c.sqlite: got {name!r}; expected the id of a usable complex. "
        "`compass scan --report FOLDER` lists every complex."
    )


def test_the_digest_says_what_is_trained_on(tmp_path):
    def digest_of(*rows, **changes):
        return write(tmp_path / "c.sqlite", *rows, **changes).digest

    one = digest_of(ok("a"), ok("c"), NO)
    assert digest_of(ok("c"), ok("a")) == one  # neither order nor what is rejected
    assert digest_of(ok("a"), ok("c"), took_s=9.0, source="/moved") == one
    others = [
        digest_of(ok("a")),
        digest_of(ok("a"), ok("c", key="other")),
        digest_of(ok("a"), ok("c", label=Label(pk=6.0))),
        digest_of(ok("a"), ok("c", label=Label(pk=6.0, relation="<"))),
        digest_of(ok("a"), ok("c", split="test")),
        digest_of(ok("a"), ok("c"), rules="other"),
    ]
    assert len({one, *others}) == 7


# ---------------------------------------------------------------------------------------------------- what is refused


def refused(path):
    with pytest.raises(InputError) as caught:
        Catalogue.open(path)
    return str(caught.value).removeprefix(f"catalogue {path}: ")


def test_no_catalogue(tmp_path):
    assert refused(tmp_path / "c") == "got no such file; expected a finished scan. Run `compass scan`."
    (tmp_path / "c").write_text("not a database, but long enough to look at its head" * 9)
    assert refused(tmp_path / "c") == "got file is not a database; expected a finished scan. Run `compass scan` again."
    with closing(sqlite3.connect(tmp_path / "d")) as db:
        db.execute("CREATE TABLE rows (id)")
    assert refused(tmp_path / "d") == (
        "got a file that is no catalogue; expected a finished scan. Give the file that `compass scan` names."
    )


def test_another_version(tmp_path):
    write(tmp_path / "c", ok())
    with closing(sqlite3.connect(tmp_path / "c")) as db:
        db.execute("PRAGMA user_version = 99")
    assert refused(tmp_path / "c") == (
        "got one of version 99, not 2; expected a finished scan. Run `compass scan` again."
    )


def test_a_row_that_cannot_be_read(tmp_path):
    write(tmp_path / "c", ok())
    with closing(sqlite3.connect(tmp_path / "c")) as db, db:
        db.execute("UPDATE rows SET row = '{'")
    assert refused(tmp_path / "c").endswith("expected a finished scan. Run `compass scan` again.")


def test_no_flipped_bit_gives_other_rows_or_atoms(tmp_path):
    """Each is refused or harmless, and the next scan reads what is damaged anew."""
    rows, path = (ok("a", notes=("one",)), ok("c", label=Label(pk=6.5)), NO), tmp_path / "c"
    expected = write(path, *rows)
    whole, atoms = path.read_bytes(), [expected.complex(name) for name in "ac"]
    outcome = reading("ka").outcome
    n_refused, draw = 0, random.Random(7)
    for place in draw.sample(range(8 * len(whole)), 600):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = Catalogue.open(path)
            again = [found.complex(name) for name in "ac"]
        except InputError:
            n_refused += 1
        else:
            assert (found.rows, found.about) == (expected.rows, expected.about)
            for one, other in zip(atoms, again, strict=True):
                np.testing.assert_array_equal(one.positions, other.positions)
                np.testing.assert_array_equal(one.elements, other.elements)
                np.testing.assert_array_equal(one.is_ligand, other.is_ligand)
        with ScanStore(path) as store:
            assert all(store.outcome(key) == outcome for key in store.known())
        path.with_suffix(".damaged").unlink(missing_ok=True)
    assert n_refused > 5


def test_a_flipped_bit_in_the_schema_or_the_version_of_the_file_sets_it_aside(tmp_path):
    """sqlite3 calls it an operational error, as a full disk, or fails to decode its own message."""
    path = tmp_path / "c"
    write(path, ok())
    whole = path.read_bytes()
    schema = whole.index(b"CREATE TABLE about")
    for place in (
        8 * 47,
        *range(8 * schema + 7, 8 * (schema + 48), 8),
    ):  # the schema's format; the top bit of each letter
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with ScanStore(path) as store:
            assert store.warnings[0].startswith("the cache of earlier scans was damaged (")
            assert store.warnings[0].isascii()
        path.with_suffix(".damaged").unlink()


def test_a_scan_that_did_not_finish(tmp_path):
    with ScanStore(tmp_path / "c") as store:
        store.add([(ok(), reading("ka"))])
    assert refused(tmp_path / "c") == (
        "got an unfinished scan; expected a finished scan. Run `compass scan` again: it continues where it stopped."
    )


# ------------------------------------------------------------------------------------------------ while a scan runs


def test_an_interrupted_scan_keeps_its_readings_and_the_scan_before(tmp_path):
    before = write(tmp_path / "c", ok("a"))

    def interrupted():
        with ScanStore(tmp_path / "c") as store:
            store.add([(ok("z"), reading("kz", repairs=("r",)))])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert Catalogue.open(tmp_path / "c").rows == before.rows
    with ScanStore(tmp_path / "c") as store:
        assert store.known() == {"ka", "kz"}
        assert store.outcome("kz") == ReadResult(status="ok", repairs=("r",))


def test_a_catalogue_stays_whole_while_the_next_scan_runs(tmp_path):
    before = write(tmp_path / "c", ok("a"))
    with ScanStore(tmp_path / "c") as store:
        store.add([(ok("z"), reading("kz"))])
        assert Catalogue.open(tmp_path / "c").rows == before.rows
        store.finish(about())
    assert [row.id for row in Catalogue.open(tmp_path / "c").rows] == ["z"]
    assert before.complex("a").n_atoms == 3  # whoever trains on the old one goes on


def test_two_scans_at_once(tmp_path):
    with ScanStore(tmp_path / "c") as one, ScanStore(tmp_path / "c") as other:
        for store in (one, other):
            store.add([(ok("a"), reading("ka")), (ok("c"), reading("kc"))])
        one.finish(about())
        other.finish(about(n_read=3))
    assert Catalogue.open(tmp_path / "c").about.n_read == 3
    assert [row.id for row in Catalogue.open(tmp_path / "c").rows] == ["a", "c"]


def test_what_may_come_out_differently_is_not_kept(tmp_path):
    with ScanStore(tmp_path / "c") as store:
        store.add([(NO, Reading("kb", ReadResult(status="rejected"), lasting=False))])
        store.finish(about())
        assert store.known() == frozenset()
    assert Catalogue.open(tmp_path / "c").rows == (NO,)


@pytest.mark.parametrize("cut", ["head", "middle"])
def test_a_damaged_cache_is_set_aside(tmp_path, cut):
    path = tmp_path / "c.sqlite"
    write(path, *(ok(f"a{i}") for i in range(200)))
    data = bytearray(path.read_bytes())
    start = 0 if cut == "head" else len(data) // 2 // 4096 * 4096
    data[start : start + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    with ScanStore(path) as store:
        assert store.known() == frozenset()
        (warning,) = store.warnings
    assert warning.startswith("the cache of earlier scans was damaged (")
    assert warning.endswith("); it is now c.damaged")
    assert (tmp_path / "c.damaged").read_bytes() == data
    assert write(path, ok("a")).rows == (ok("a"),)


def test_an_empty_file_is_a_new_one(tmp_path):
    (tmp_path / "c").touch()
    assert write(tmp_path / "c", ok("a")).rows == (ok("a"),)


def test_a_cache_that_cannot_be_written(tmp_path):
    (tmp_path / "scans").write_text("a file where the folder should be")
    with pytest.raises(InputError) as caught:
        ScanStore(tmp_path / "scans" / "c")
    assert str(caught.value) == (
        f"catalogue {tmp_path}/scans/c: got File exists; expected a file in a writable folder. Choose another --cache."
    )


def test_a_cache_that_is_in_the_way(tmp_path):
    (tmp_path / "c").mkdir()
    with pytest.raises(InputError) as caught:
        ScanStore(tmp_path / "c")
    assert str(caught.value) == (
        f"catalogue {tmp_path}/c: got unable to open database file; expected a file in a writable folder. "
        "Choose another --cache."
    )


def test_reading_a_catalogue_loads_nothing_heavy(tmp_path):
    write(tmp_path / "c", ok("a"))
    code = (
        "import sys; from pathlib import Path; from compass.data.scan.catalogue import Catalogue; "
        "print(Catalogue.open(Path(sys.argv[1])).digest); "
        "sys.exit(bool({'scipy', 'rdkit', 'gemmi', 'vesin', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "c")], check=True, capture_output=True)
