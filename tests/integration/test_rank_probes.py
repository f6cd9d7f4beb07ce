"""Probes of two real ranks, with gloo, and what is left of them when one fails: nothing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from compass.device import available_cores
from compass.optimizer import Request, optimize
from compass.profile import read_profile
from compass.records import Batch, RankLoad, Status

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="torch has no gloo with a file store there"),
]
MIB = 1024**2


@pytest.fixture(autouse=True)
def no_orphans():
    """Every process that a probe starts ends with it."""
    yield
    deadline = time.monotonic() + 10
    while (left := _workers()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []


def _workers():
    """This process's children that are workers of ranks."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "WORLD_SIZE" in child.environ() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child.pid)
        except psutil.Error:
            continue
    return found


def test_two_ranks_make_the_steps_of_one(toys, ask):
    alone = toys.probe(ask("fine", fresh=True, min_steps=5, max_steps=5, profile=True))
    together = toys.probe(ask("fine", fresh=True, min_steps=5, max_steps=5, profile=True, ranks=2))
    assert (together.status, together.detail) == (Status.OK, "")
    assert together.losses == pytest.approx(alone.losses)  # both ranks have the same batch
    assert together.live_bytes == alone.live_bytes
    assert 0 < together.joined_bytes < 256 * MIB
    assert 0 < together.latency_s <= together.sync_s
    assert (alone.joined_bytes, alone.sync_s, alone.latency_s) == (None, None, None)


@pytest.mark.harness
def test_two_ranks_each_under_a_ceiling(toys, ask):
    outcome = toys.probe(ask("fine", fresh=True, ranks=2, ceiling_bytes=2048 * MIB))
    assert outcome.ok
    assert outcome.enforced
    assert outcome.footprint_bytes < 2048 * MIB


@pytest.mark.harness
def test_two_ranks_with_batches_and_ceilings_of_their_own(toys, ask):
    """The second has less memory, and the sample that would not fit there is the first one's."""

    def load(sample, mib):
        batch = Batch(members=((sample, 1),))
        return RankLoad(batches=(batch, batch), timed=Batch(members=(("fine", 1),)), ceiling_bytes=mib * MIB)

    each = (load("torch", 6144), load("fine", 1536))
    outcome = toys.probe(ask("fine", fresh=True, ranks=2, each=each))
    assert (outcome.status, outcome.detail) == (Status.OK, "")
    assert outcome.enforced
    swapped = toys.probe(ask("fine", fresh=True, ranks=2, each=(load("fine", 3072), load("torch", 1536))))
    assert swapped.status is Status.OUT_OF_MEMORY
    assert swapped.detail.startswith("rank 1 of 2: ")


def test_one_rank_out_of_memory(toys, ask):
    outcome = toys.probe(ask("rank 1 eats", fresh=True, ranks=2, ceiling_bytes=2048 * MIB))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.enforced
    assert outcome.detail.startswith("rank 1 of 2: ")


@pytest.mark.harness
@pytest.mark.parametrize(
    ("sample", "status", "detail"),
    [
        ("rank 1 exits", Status.CRASHED, "rank 1 of 2: ended with exit code 3"),
        ("rank 1 raises", Status.INVALID, "rank 1 of 2: "),
        (
            "rank 1 goes its own way",
            Status.INVALID,
            "rank 0 of 2: the ranks disagree: after the same updates the norm of",
        ),
    ],
)
def test_one_rank_fails(toys, ask, sample, status, detail):
    outcome = toys.probe(ask(sample, fresh=True, ranks=2))
    assert (outcome.status, outcome.detail[: len(detail)]) == (status, detail)


@pytest.mark.harness
def test_one_rank_hangs(toys, ask, notes):
    outcome = toys.probe(ask("rank 1 hangs", fresh=True, ranks=2, timeout_s=3.0))
    assert outcome.status is Status.TIMED_OUT
    assert not psutil.pid_exists(int(notes.read_text().splitlines()[-1]))


PARENT = """
import sys
from compass.optimizer_config import OptimizerConfig
from compass.probe.local import LocalRunner
from compass.records import ProbeSpec, RuntimeSettings

spec = ProbeSpec.model_validate_json(sys.argv[2])
LocalRunner(OptimizerConfig(), RuntimeSettings(threads=1), workload=sys.argv[1], device="cpu").probe(spec)
"""


@pytest.mark.harness
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing ends a worker with its parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_ranks_end_with_their_parent(toys_file, notes, ask, number):
    n_before = len(notes.read_text().splitlines())
    spec = ask("hangs", fresh=True, ranks=2, timeout_s=200.0)
    command = [sys.executable, "-c", PARENT, f"{toys_file}:Toy", spec.model_dump_json()]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as parent:
        deadline = time.monotonic() + 120
        while len(notes.read_text().splitlines()) < n_before + 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        parent.send_signal(number)
    ranks = [int(line) for line in notes.read_text().splitlines()[n_before:]]
    assert len(ranks) == 2
    deadline = time.monotonic() + 10
    while any(map(psutil.pid_exists, ranks)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(psutil.pid_exists, ranks))


@pytest.mark.harness
def test_a_real_plan_for_two_ranks(tmp_path):
    """From the command to the certificate, with two processes and gloo."""
    asked = Request(
        workload=f"{Path(__file__).parent / 'sequences.py'}:Honest",
        stages=("smoke_test",),
        dataset_size=2_000,
        memory_limit_bytes=3 * 1024 * MIB,
        n_devices=2,
        out=tmp_path / "p.json",
        cache=tmp_path,
    )
    if available_cores() < 2:
        pytest.skip("two ranks need two cores")
    profile = optimize(asked)
    plan = profile.plans["smoke_test"]
    assert plan.certificate.enforced
    assert plan.certificate.ceiling_bytes == profile.hardware.budget_bytes <= 1536 * MIB
    assert 0 < plan.ranks.costs.host_bytes < 256 * MIB
    bound = plan.certificate.footprint_bound_bytes
    assert 0.8 * bound <= plan.measured.footprint_bytes <= bound  # of so small a model, most is the process itself
    assert plan.runtime.threads == max(1, available_cores() // 2)
    assert read_profile(asked.out).plans["smoke_test"].ranks.n_devices == 2
