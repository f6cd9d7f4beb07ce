"""A model is built on one thread, whatever training runs on."""

from types import SimpleNamespace

import pytest
import torch

from compass.records import Knobs
from compass.workloads.building import build


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_one_thread_builds_and_the_others_come_back():
    workload = SimpleNamespace(build=lambda knobs: (knobs.layers, torch.get_num_threads()))
    assert build(workload, Knobs(layers=3, channels=8)) == (3, 1)
    assert torch.get_num_threads() == 2


def test_the_others_come_back_after_a_failure():
    def fails(knobs):
        raise ValueError(knobs.layers)

    with pytest.raises(ValueError, match="3"):
        build(SimpleNamespace(build=fails), Knobs(layers=3, channels=8))
    assert torch.get_num_threads() == 2
