import errno
import signal
import subprocess
import sys
import textwrap
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.errors import InputError
from compass.probe.store import Store, append, default_cache, read_ledger
from compass.records import Status


@pytest.fixture
def path(tmp_path):
    return tmp_path / "cache" / "probes.jsonl"


def fill(path, ask, found, n=3):
    store = Store(path)
    for layers in range(1, n + 1):
        store.add("f1", ask(layers), found(detail=f"answer {layers}"))
    store.close()
    return path.read_bytes()


def answers(store, ask, n=3):
    """The layers whose answers are there."""
    outcomes = [(layers, store.find("f1", ask(layers))) for layers in range(1, n + 1)]
    assert all(outcome is None or outcome.detail == f"answer {layers}" for layers, outcome in outcomes)
    return [layers for layers, outcome in outcomes if outcome is not None]


def assert_left(path, left, ask, found):
    """The answers of the undamaged lines are there, no others, and what is added now stays."""
    store = Store(path)
    assert answers(store, ask) == left
    store.add("f2", ask(9), found())
    store.close()
    again = Store(path)
    assert answers(again, ask) == left
    assert again.find("f2", ask(9)) == found()
    again.close()


def test_survives_a_cut_at_any_byte(path, ask, found):
    whole = fill(path, ask, found)
    ends = [place + 1 for place, byte in enumerate(whole) if byte == ord("\n")]

    @given(st.integers(0, len(whole)) | st.sampled_from([end + shift for end in ends[:-1] for shift in (-1, 0, 1)]))
    def check(cut):
        path.write_bytes(whole[:cut])
        assert_left(path, [layers for layers, end in enumerate(ends, 1) if end <= cut], ask, found)

    check()


def test_survives_any_flipped_bit(path, ask, found):
    whole = fill(path, ask, found)
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]

    @given(st.integers(0, len(whole) - 1) | st.sampled_from(ends), st.integers(0, 7))
    def check(place, bit):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << bit
        path.write_bytes(damaged)
        hit = 1 + sum(end < place for end in ends)
        lost = {hit, hit + 1} if place in ends else {hit}  # without its end a line runs into the next
        assert_left(path, [layers for layers in (1, 2, 3) if layers not in lost], ask, found)

    check()


@given(junk=st.binary(max_size=200))
def test_survives_any_junk(tmp_path_factory, junk):
    path = tmp_path_factory.mktemp("junk") / "probes.jsonl"
    path.write_bytes(junk)
    Store(path).close()
    assert path.read_bytes() == junk[: junk.rfind(b"\n") + 1]


def test_an_older_form_is_passed_over_and_kept(path, ask, found):
    body = b"f1 {}\t{}"
    old = b"%08x %s\n" % (zlib.crc32(body), body)
    whole = fill(path, ask, found)
    path.write_bytes(old + whole)
    store = Store(path)
    assert answers(store, ask) == [1, 2, 3]
    store.close()
    assert path.read_bytes() == old + whole


WRITING = """
    import sys
    from pathlib import Path
    from compass.probe.store import Store
    from compass.records import *

    store = Store(Path(sys.argv[1]))
    for layers in range(1, 1_000_000):
        spec = ProbeSpec(
            knobs=Knobs(layers=layers, channels=16), batches=(Batch(members=(("1ia1", 2),)),), min_steps=2, max_steps=2,
            timeout_s=60.0, runtime=RuntimeSettings(threads=1),
        )
        store.add("f1", spec, Outcome(status=Status.OK, detail=f"answer {layers}"))
        print(layers, flush=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_what_was_added_survives_kill_9(path, ask, found):
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITING), path], stdout=subprocess.PIPE, text=True
    ) as writer:
        for line in writer.stdout:
            if int(line) == 20:
                writer.send_signal(signal.SIGKILL)
                break
        n = max([20, *map(int, writer.stdout)])
    store = Store(path)
    assert answers(store, ask, n) == list(range(1, n + 1))
    store.close()


def test_found_by_fingerprint_and_question(path, ask, found):
    store = Store(path)
    store.add("f1", ask(3), found())
    assert store.find("f1", ask(3)) == found()
    assert store.find("f1", ask(3, timeout_s=1.0)) == found()  # patience is no part of the question
    assert store.find("f1", ask(4)) is None
    assert store.find("f1", ask(3, ceiling_bytes=2**30)) is None
    assert store.find("f2", ask(3)) is None
    store.close()


@pytest.mark.parametrize("enforced", [False, True])
@pytest.mark.parametrize("status", Status)
def test_only_what_lasts_is_believed_again(path, ask, found, status, enforced):
    """Memory that ran out though no ceiling kept it from the process may have been another program's."""
    spec = ask(ceiling_bytes=2**30)
    store = Store(path)
    store.add("f1", spec, found(status, enforced=enforced))
    store.close()
    lasts = status is Status.OK or (status is Status.OUT_OF_MEMORY and enforced)
    again = Store(path)
    assert (again.find("f1", spec) is not None) == lasts
    again.close()


def test_the_last_answer_counts(path, ask, found):
    store = Store(path)
    store.add("f1", ask(), found(Status.TIMED_OUT))
    store.add("f1", ask(), found(detail="at last"))
    store.close()
    again = Store(path)
    assert again.find("f1", ask()).detail == "at last"
    again.close()


@pytest.mark.parametrize("detail", ["two\nlines", "tab\there", "é ☃ \x00 \u2028 \r", ""])
def test_any_text_comes_back(path, ask, found, detail):
    store = Store(path)
    store.add("f1", ask(), found(detail=detail))
    store.close()
    again = Store(path)
    assert again.find("f1", ask()).detail == detail
    again.close()


@pytest.mark.parametrize(
    ("place", "why"),
    [("file/probes.jsonl", "File exists"), ("file/below/probes.jsonl", "Not a directory"), ("", "Is a directory")],
)
def test_a_place_that_cannot_be_written(tmp_path, place, why):
    (tmp_path / "file").write_text("")
    path = tmp_path / place
    with pytest.raises(InputError) as caught:
        Store(path)
    assert str(caught.value) == (
        f"ledger {path}: got {why}; expected a file in a writable folder. Choose another --cache."
    )


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on a file's size")
@pytest.mark.parametrize(("room", "why"), [(0, "File too large"), (10, "No space left on device")])
def test_a_full_disk(path, ask, found, room, why):
    """A line that did not fit is an error, and does no harm to those before it."""
    import resource

    whole = fill(path, ask, found)
    store = Store(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + room, limits[1]))
    try:
        with pytest.raises(InputError) as caught:
            store.add("f1", ask(4), found())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert caught.value.got == why
    store.close()
    assert_left(path, [1, 2, 3], ask, found)


# --------------------------------------------------------------------------------------------- several at a time


def test_what_another_process_appended_stays(path, ask, found):
    fill(path, ask, found)
    ours = Store(path)
    append(path, "f1", ask(4), found(detail="answer 4"))
    ours.add("f1", ask(5), found(detail="answer 5"))
    ours.close()
    again = Store(path)
    assert answers(again, ask, 5) == [1, 2, 3, 4, 5]
    again.close()


@pytest.mark.parametrize("left", [b"0", b"1234abcd f1 {", b"\x00" * 5000])
def test_half_a_line_of_a_dead_process_costs_no_line_of_another_process(path, ask, found, left):
    whole = fill(path, ask, found)
    ours = Store(path)
    with path.open("ab") as file:
        file.write(left)
    ours.add("f1", ask(4), found(detail="answer 4"))
    ours.close()
    assert path.read_bytes().startswith(whole)
    again = Store(path)
    assert answers(again, ask, 4) == [1, 2, 3, 4]
    again.close()


def test_half_a_line_is_all_there_is(path, ask, found):
    path.parent.mkdir()
    path.write_bytes(b"0123")
    append(path, "f1", ask(1), found(detail="answer 1"))
    store = Store(path)
    assert answers(store, ask) == [1]
    store.close()


def test_a_new_answer_is_the_last(path, ask, found):
    fill(path, ask, found)
    append(path, "f1", ask(1), found(detail="later"))
    store = Store(path)
    assert [outcome.detail for _, outcome in store.under("f1")] == ["answer 2", "answer 3", "later"]
    store.close()


APPENDING = """
    import sys
    from pathlib import Path
    from compass.probe.store import Store, append
    from compass.records import *

    path, first = Path(sys.argv[1]), int(sys.argv[2])
    for layers in range(first, first + 50):
        spec = ProbeSpec(
            knobs=Knobs(layers=layers, channels=16), batches=(Batch(members=(("1ia1", 2),)),), min_steps=2, max_steps=2,
            timeout_s=60.0, runtime=RuntimeSettings(threads=1),
        )
        append(path, "f1", spec, Outcome(status=Status.OK, detail=f"answer {layers}"))
        Store(path).close()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_two_processes_that_write_and_open_it_lose_nothing(path, ask):
    writers = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(APPENDING), path, str(first)]) for first in (1, 51)
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    store = Store(path)
    assert answers(store, ask, 100) == list(range(1, 101))
    store.close()


def test_a_file_system_without_locks(path, ask, found, monkeypatch):
    def none(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    fill(path, ask, found)
    store = Store(path)
    assert answers(store, ask) == [1, 2, 3]
    store.close()


def test_reading_leaves_a_damaged_ledger_as_it_is(path, ask, found):
    whole = fill(path, ask, found)
    lines = whole.splitlines(keepends=True)
    older = b"f0 {}\t{}"
    damaged = lines[0] + b"%08x %s\n" % (zlib.crc32(older), older) + lines[1] + b"x" + lines[2] + lines[0]
    path.write_bytes(damaged)
    read = read_ledger(path)
    assert [(owner, spec.key) for owner, spec, _ in read.entries] == [("f1", ask(n).key) for n in (1, 2, 1)]
    assert (read.n_older, read.n_damaged) == (1, 1)
    assert path.read_bytes() == damaged


def test_a_user_without_a_home(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", nowhere)
    with pytest.raises(InputError) as caught:
        default_cache()
    assert str(caught.value) == (
        "cache: got no home folder for this user; expected HOME or XDG_CACHE_HOME in the environment. Set one, or give --cache."
    )


OLD_LEDGER = Path(__file__).with_name("ledger_0.1.0.jsonl")
"""Written by Compass 0.1.0: three micro-probes, a certificate that ran out of memory, and a cycle of training."""
OLD_KEYS = ["d19b977dc42477f0", "38ff768a52b51105", "67c5a8f5e9a77bcd", "2d22def9c20a868f", "b69fb7c0db55bd84"]


def test_a_ledger_of_0_1_0_is_read_and_its_questions_are_found_again(path):
    content = read_ledger(OLD_LEDGER)
    assert (content.n_older, content.n_damaged) == (0, 0)
    assert [spec.key for _, spec, _ in content.entries] == OLD_KEYS
    assert {outcome.source for _, _, outcome in content.entries} == {"probe", "training"}
    path.parent.mkdir()
    path.write_bytes(OLD_LEDGER.read_bytes())
    store = Store(path)
    for fingerprint, spec, outcome in content.entries:
        assert store.find(fingerprint, spec) == outcome
    store.close()
    assert path.read_bytes() == OLD_LEDGER.read_bytes()
