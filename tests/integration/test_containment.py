"""Whatever a model does to its worker, the parent lives, learns what it was, and leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest

from compass.errors import InputError
from compass.probe.process import WorkerProcess
from compass.records import Load, RuntimeSettings, Status
from compass.units import GIB, MIB

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process groups, RLIMIT_DATA and /proc")
RUNTIME = RuntimeSettings(threads=1)
ROOM_BYTES = 160 * MIB
"""Over what the worker holds: enough for the toys' steps and what torch loads for the first, for none of their feasts."""
LATE_PAGES_BYTES = 16 * MIB
"""Of libraries, read in after the ceiling was set: it does not hold for them."""


def is_alive(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def assert_gone(*pids, within_s=5.0):
    deadline = time.monotonic() + within_s
    while any(is_alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert [pid for pid in pids if is_alive(pid)] == []


@pytest.fixture
def noted(notes):
    """The processes that toys have written down since the test began."""
    notes.write_text("")

    def read(n):
        deadline = time.monotonic() + 60
        while len(pids := notes.read_text().split()) < n and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(pids) == n
        return [int(pid) for pid in pids]

    return read


def children():
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize(
    ("does", "detail"),
    [
        ("exits politely", "ended with exit code 4 without any output"),
        ("segfault", "died of SIGSEGV: Segmentation fault (toys.py, line "),
        ("closes everything", "ended with exit code 1: "),
    ],
)
def test_a_crash_is_an_outcome_and_the_next_probe_works(toys, ask, does, detail):
    outcome = toys.probe(ask(does))
    assert outcome.status is Status.CRASHED
    assert outcome.detail.startswith(detail)
    assert outcome.footprint_bytes > 50 * MIB  # seen from outside
    assert not toys._lasting[RUNTIME].is_alive
    assert toys.probe(ask("fine")).ok


def test_a_fork_is_named_and_its_child_does_not_outlive_the_worker(toys, ask, noted):
    outcome = toys.probe(ask("leaves a child", min_steps=1, max_steps=1))
    assert outcome.ok
    assert outcome.remarks == ("forked 1 time, left 1 process running",)
    pids = noted(1)
    assert is_alive(pids[0])
    assert toys.probe(ask("fine")).remarks == ()
    toys.close()
    assert_gone(*pids)


def test_a_child_that_comes_back_does_not_answer(toys, ask):
    outcome = toys.probe(ask("comes back twice"))
    assert outcome.ok
    assert outcome.remarks[0].startswith("forked 3 times")  # whether they have ended yet is theirs
    assert toys.probe(ask("fine")).ok


def test_a_crash_is_not_hidden_by_a_child_that_lives_on(toys, ask, noted):
    outcome = toys.probe(ask("exits, its child does not"))
    assert outcome.detail == "ended with exit code 3 without any output"
    assert_gone(*noted(1))


def test_a_kill_from_outside_counts_as_memory_and_says_so(toys, ask):
    outcome = toys.probe(ask("is killed"))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.detail == "killed by the kernel (SIGKILL), as it does when memory runs out"
    under = toys.probe(ask("is killed", ceiling_bytes=8 * GIB))
    assert (under.status, under.enforced) == (Status.OUT_OF_MEMORY, False)  # no ceiling kills: it is asked again


def test_a_worker_killed_while_idle_is_no_probes_fault(toys, ask):
    toys.describe()
    pid = toys._lasting[RUNTIME]._process.pid
    os.kill(pid, signal.SIGKILL)
    assert_gone(pid)
    assert toys.probe(ask("fine")).ok


def test_so_is_one_that_was_made_ready(toys, ask):
    spec = ask("fine", fresh=True)
    toys.prepare([spec])
    worker = toys._fresh[RUNTIME]._process
    worker.kill()
    worker.wait()
    assert toys.probe(spec).ok


def test_a_poisoned_device_costs_its_worker_and_no_more(toys, ask):
    """What a failed kernel leaves behind on an accelerator: every later call fails, in this process."""
    toys.describe()
    worker = toys._lasting[RUNTIME]._process.pid
    outcome = toys.probe(ask("poisons the device"))
    assert outcome.status is Status.INVALID
    assert "device-side assert" in outcome.detail
    assert not psutil.pid_exists(worker)
    assert toys.probe(ask("fine")).ok


def test_a_hang_is_ended_with_everything_it_started(toys, ask, noted):
    toys.describe()
    worker = toys._lasting[RUNTIME]._process.pid
    outcome = toys.probe(ask("hangs with children", timeout_s=3.0))
    assert (outcome.status, outcome.detail, outcome.wall_s) == (Status.TIMED_OUT, "no answer in 3.0 s", 3.0)
    assert_gone(worker, *noted(2))


def test_a_fresh_worker_leaves_nothing_behind(toys, ask):
    toys.describe()
    others = children() - {toys._lasting[RUNTIME]._process.pid}
    outcome = toys.probe(ask("fine", fresh=True, profile=True))
    assert outcome.ok
    assert children() - {toys._lasting[RUNTIME]._process.pid} == others
    assert toys.probe(ask("fine", fresh=True, ceiling_bytes=8 * 1024**3)).ok
    assert children() == others  # under a ceiling it is alone: the lasting worker ended too
    assert outcome.segments == toys.probe(ask("fine", profile=True)).segments


def test_an_interrupt_escapes_and_takes_the_worker_with_it(toys, ask, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    toys.describe()
    others = children() - {toys._lasting[RUNTIME]._process.pid}
    monkeypatch.setattr(WorkerProcess, "_watch", interrupt)
    with pytest.raises(KeyboardInterrupt):
        toys.probe(ask("hangs"))
    assert children() == others
    with pytest.raises(KeyboardInterrupt):
        toys.describe()  # while a new one starts
    assert children() == others


PARENT = """
    import sys
    from compass.optimizer_config import OptimizerConfig
    from compass.probe.local import LocalRunner
    from compass.records import *

    runtime = RuntimeSettings(threads=1)
    runner = LocalRunner(OptimizerConfig(), runtime, workload=sys.argv[1] + ":Toy", device="cpu")
    batch = Batch(members=(("hangs", 1),))
    runner.probe(ProbeSpec(
        knobs=Knobs(layers=2, channels=4), batches=(batch,), min_steps=1, max_steps=1, timeout_s=600, runtime=runtime,
    ))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_worker_dies_with_its_parent(toys_file, noted, number):
    code = textwrap.dedent(PARENT)
    with subprocess.Popen([sys.executable, "-c", code, toys_file], stderr=subprocess.DEVNULL) as parent:
        (worker,) = noted(1)
        assert is_alive(worker)
        parent.send_signal(number)
    assert_gone(worker)


# ------------------------------------------------------------------------------------------------------ the ceiling


@pytest.mark.parametrize(
    ("does", "sign"),
    [
        ("torch", "CPU allocator: DefaultCPUAllocator: can't allocate memory"),
        ("slowly", "CPU allocator: DefaultCPUAllocator: can't allocate memory"),
        ("numpy", "NumPy: Unable to allocate 8.00 GiB for an array"),
        ("python", "Python: MemoryError"),
        ("threads", "thread creation: can't start new thread"),
    ],
)
def test_memory_beyond_the_ceiling(toys, ask, does, sign):
    """In the lasting worker, which goes on afterwards with its ceiling lifted."""
    held_bytes = toys.probe(ask("fine")).footprint_bytes
    worker = toys._lasting[RUNTIME]._process.pid
    outcome = toys.probe(ask(does, ceiling_bytes=held_bytes + ROOM_BYTES))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.detail.startswith(sign)
    assert outcome.enforced
    assert outcome.load == Load(graphs=1, sizes=(("rows", 8.0),))
    assert held_bytes / 2 < outcome.footprint_bytes < held_bytes + ROOM_BYTES + LATE_PAGES_BYTES
    assert toys._lasting[RUNTIME]._process.pid == worker
    assert toys.probe(ask("fine")).ok


def test_within_the_ceiling(toys, ask):
    """In a fresh process, as a certificate is; the profiler's own memory is outside."""
    idle_bytes = toys.describe().baseline_bytes
    ceiling_bytes = idle_bytes + ROOM_BYTES
    outcome = toys.probe(ask("fine", fresh=True, ceiling_bytes=ceiling_bytes, profile=True))
    assert outcome.ok
    assert outcome.enforced
    assert outcome.footprint_bytes <= ceiling_bytes
    assert outcome.live_bytes > 0


@pytest.mark.parametrize("fresh", [False, True])
def test_a_ceiling_below_what_the_worker_holds(toys, ask, fresh):
    """The user's to change, so it is no outcome; in the lasting worker, an answer like any other."""
    toys.describe()
    before = children()
    left = before - {toys._lasting[RUNTIME]._process.pid} if fresh else before
    with pytest.raises(InputError) as caught:
        toys.probe(ask("fine", ceiling_bytes=50 * MIB, fresh=fresh))
    assert re.fullmatch(
        r"memory limit: got 50\.00 MiB; expected more than the \d+\.\d\d MiB that the idle worker already holds\. "
        r"Raise the limit\.",
        str(caught.value),
    )
    assert children() == left
