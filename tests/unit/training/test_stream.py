import multiprocessing
import pickle
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from compass.batching.sampler import BudgetedBatchSampler
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.records import Affine, BytesLaw
from compass.training.stream import (
    Position,
    Stream,
    _unless_the_other_end_is_gone,
    check_temporary_folder,
    loader,
    reason_of_dead_loader,
)
from compass.workloads.registry import load_workload

LAW = BytesLaw(segments=(("step", Affine(base=0.0, per_unit=(("nodes", 1.0), ("edges", 0.0)))),))


def stream(n=23, batch=4, accumulate=3, n_batches=None, *, epochs=2, n_ranks=1, rank=0):
    sizes = np.stack([np.arange(1, n + 1), np.arange(n)], axis=1)
    sampler = BudgetedBatchSampler(sizes, LAW, float("inf"), max_graphs=batch, n_ranks=n_ranks, rank=rank)
    ids = tuple(f"c{i}" for i in range(n))
    return Stream(sampler, ids, accumulate, n_batches or epochs * len(sampler), rank)


def members(items):
    return [name for item in items for name, _ in item.batch.members]


def test_every_sample_once_an_epoch():
    items = list(stream())
    per_epoch = len(items) // 2
    assert [item.ends_epoch for item in items] == ([False] * (per_epoch - 1) + [True]) * 2
    for half in (items[:per_epoch], items[per_epoch:]):
        assert sorted(members(half)) == sorted(f"c{i}" for i in range(23))
    assert members(items[:per_epoch]) != members(items[per_epoch:])


@given(st.integers(1, 40), st.integers(1, 7), st.integers(1, 5), st.integers(1, 30))
def test_updates_are_whole_and_counted(n, batch, accumulate, n_batches):
    found = stream(n, batch, accumulate, n_batches)
    items = list(found)
    assert len(items) == len(found) == n_batches
    firsts, lasts = ([getattr(item.part, end) for item in items] for end in ("first", "last"))
    assert firsts[0]
    assert lasts[-1]
    assert firsts[1:] == lasts[:-1]
    assert sum(lasts) == found.n_updates
    assert [item.is_final for item in items] == [False] * (n_batches - 1) + [True]


@given(st.integers(2, 40), st.integers(1, 7), st.integers(1, 5))
def test_every_sample_has_the_same_weight(n, batch, accumulate):
    for item in stream(n, batch, accumulate, epochs=1):
        per_sample = item.part.weight / len(item.batch.members)
        n_parts = round(1 / (per_sample * (n / len(stream(n, batch, accumulate, epochs=1)))))
        assert 1 <= n_parts <= accumulate


@pytest.mark.parametrize("behind", [0, 1, 5, 6, 7, 11])
def test_the_stream_is_the_same_from_any_position(behind):
    whole, rest = list(stream()), stream()
    rest.start = whole[behind - 1].next_position if behind else Position()
    assert list(rest) == whole[behind:]
    assert len(rest) == len(whole) - behind


def test_ranks_share_an_epoch():
    one, other = (list(stream(n_ranks=2, rank=rank, epochs=1)) for rank in (0, 1))
    assert len(one) == len(other)
    assert sorted(members(one) + members(other)) == sorted(f"c{i}" for i in range(23))
    assert [item.part.last for item in one] == [item.part.last for item in other]


NOISY = """
import torch

class Noisy:
    features = ("nodes",)

    def __init__(self, config): ...
    def samples(self): return {f"c{i}": (1.0,) for i in range(23)}
    def build(self, knobs): ...
    def loss(self, model, batch): ...
    def collate(self, batch): return torch.rand(2)
"""


@pytest.fixture
def noisy(tmp_path):
    """A loader of a workload from a file, whose batches are drawn at random."""
    (tmp_path / "noisy.py").write_text(NOISY)
    source = f"{tmp_path / 'noisy.py'}:Noisy"

    def make(n_workers, start=None, seed=0):
        config = OptimizerConfig(seed=seed)
        spec = SimpleNamespace(workload=source, config=config, loader_workers=n_workers)
        batches = stream(epochs=1)
        batches.start = start or Position()
        return loader(batches, load_workload(source, config), spec)

    return make


def test_random_numbers_of_loaders_follow_from_the_position(noisy):
    """A resumed run draws the same ones as an uninterrupted run, however many processes load."""
    one, two, rest, other = (
        [drawn for _, drawn in made] for made in (noisy(1), noisy(2), noisy(2, Position(0, 3)), noisy(1, seed=1))
    )
    assert all(map(torch.equal, one, two))
    assert all(map(torch.equal, one[3:], rest))
    assert not any(map(torch.equal, one, other))
    assert len({tuple(drawn.tolist()) for drawn in one}) == len(one)


def test_loader_processes_share_a_folder_for_sockets_that_outlives_them(noisy, monkeypatch, tmp_path):
    """Else a process that ends removes its own, while its thread may still send a batch."""
    settings = multiprocessing.current_process()._config  # which its processes inherit
    monkeypatch.delitem(settings, "tempdir", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    noisy(1)
    assert Path(settings["tempdir"]).parent == tmp_path


def test_a_workload_from_a_file_reaches_spawned_processes(noisy, monkeypatch):
    written = pickle.dumps(noisy(1).dataset)
    monkeypatch.delitem(sys.modules, "compass_workload_noisy")
    again = pickle.loads(written)  # noqa: S301 - our own
    assert again[next(iter(stream()))][1].shape == (2,)


def test_a_path_too_long_for_the_sockets_of_loader_processes_is_refused():
    """Batches would be waited for, for ever: the sockets lie in a folder among the temporary files."""
    check_temporary_folder("/" + "x" * 70)
    with pytest.raises(InputError) as caught:
        check_temporary_folder("/" + "é" * 40)
    assert str(caught.value) == (
        f"folder for temporary files /{'é' * 40}: got a path of 81 bytes; expected at most 71, because loader processes listen "
        "at sockets in it. Set TMPDIR to a shorter one."
    )


def test_a_loader_process_that_died_is_known_from_the_error_or_from_one_raised_on_it():
    died = RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nIt is possible that …")
    raised_on_it = RuntimeError("Please call `iter(combined_loader)` first.")
    raised_on_it.__context__ = died
    assert reason_of_dead_loader(died) == "DataLoader worker (pid 7) is killed by signal: Killed"
    assert reason_of_dead_loader(raised_on_it) == reason_of_dead_loader(died)
    assert reason_of_dead_loader(RuntimeError("shapes do not match")) == ""


def test_a_loader_process_whose_main_process_is_killed_shows_no_traceback(capfd):
    for error in (EOFError(), ConnectionResetError(), ValueError("a batch that is wrong")):
        _unless_the_other_end_is_gone(type(error), error, None)
    assert capfd.readouterr().err == "ValueError: a batch that is wrong\n"
