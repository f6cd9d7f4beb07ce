"""Probes of two real ranks, with gloo, and what is left of them when one fails: nothing."""

import logging
import os
import sys
import time

import psutil
import pytest

from compass.records import Status

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


def test_two_ranks_each_under_a_ceiling(toys, ask):
    outcome = toys.probe(ask("fine", fresh=True, ranks=2, ceiling_bytes=2048 * MIB))
    assert outcome.ok
    assert outcome.enforced
    assert outcome.footprint_bytes < 2048 * MIB


def test_one_rank_out_of_memory(toys, ask):
    outcome = toys.probe(ask("rank 1 eats", fresh=True, ranks=2, ceiling_bytes=2048 * MIB))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.enforced
    assert outcome.detail.startswith("rank 1 of 2: ")


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


def test_one_rank_hangs(toys, ask, notes):
    outcome = toys.probe(ask("rank 1 hangs", fresh=True, ranks=2, timeout_s=3.0))
    assert outcome.status is Status.TIMED_OUT
    assert not psutil.pid_exists(int(notes.read_text().splitlines()[-1]))


def test_a_killed_rank_is_named(toys, ask, caplog):
    caplog.set_level(logging.ERROR)
    outcome = toys.probe(ask("fine", ranks=2, fresh=True, min_steps=2, max_steps=2))
    assert outcome.ok
    assert os.environ.get("RANK") is None  # only the workers' environment has it
