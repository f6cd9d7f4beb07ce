"""What a run may not change in its middle, and how far along one with a time is."""

import os
import time

import pytest
import torch

from compass.errors import InputError
from compass.optimizer_config import TrainingRules
from compass.records import Variant
from compass.training import run_spec
from compass.training.module import Module
from compass.training.run_spec import ORDER, Amount, await_run_spec, this_start, write_run_spec
from compass.training.schedule import rate_factor


@pytest.mark.parametrize(("max_time_s", "gone"), [(None, 0.0), (100.0, 0.25), (10.0, 1.0)])
def test_how_much_of_its_time_is_gone(max_time_s, gone):
    assert Amount(max_time_s=max_time_s).gone(25.0) == gone


@pytest.mark.parametrize(
    ("n_done", "share", "update"), [(0, 0.0, 0), (30, 0.0, 30), (30, 0.2, 30), (30, 0.9, 90), (0, 0.95, 95)]
)
def test_the_rate_follows_what_ends_the_run_sooner(n_done, share, update):
    """Also at the first update after a resumption."""
    rules = TrainingRules()
    module = Module(torch.nn.Linear(2, 1), Variant(), rules, learning_rate=0.1, n_updates=100)
    module.n_updates_done, module.time_share = n_done, share
    assert module.rate == 0.1 * rate_factor(update, 100, rules)


def test_what_batches_follow_from_may_not_change(spec):
    """The law packs them only where they are budgeted, or shared out among ranks."""
    wiser = spec.plan.model_copy(update={"bytes_law": spec.plan.bytes_law.model_copy(update={"footprint_ratio": 1.7})})
    batch = spec.config.batch.model_copy(update={"effective_batch": 7})
    for changed in (
        {"n_devices": 4},
        {"n_nodes": 2},
        {"config": spec.config.model_copy(update={"batch": batch})},
        {"amount": Amount(epochs=3)},
    ):
        assert spec.model_copy(update=changed).identity != spec.identity
    assert spec.model_copy(update={"plan": wiser}).identity == spec.identity
    for changed in ({"batching": "batch_budget"}, {"n_devices": 2}):
        before = spec.model_copy(update=changed)
        assert before.model_copy(update={"plan": wiser}).identity != before.identity


def test_an_order_from_before_torchrun_started_is_another_starts(spec, tmp_path, monkeypatch):
    """Under an address of its own, torchrun is called the same every time."""
    monkeypatch.setattr(run_spec, "PATIENCE_S", 0.3)
    write_run_spec(spec.model_copy(update={"started_by": this_start()}), tmp_path)
    assert await_run_spec(tmp_path).plan == spec.plan
    long_ago = time.time() - 365 * 24 * 3600
    os.utime(tmp_path / ORDER, (long_ago, long_ago))
    with pytest.raises(InputError, match="got no order; expected one from the first process of this machine"):
        await_run_spec(tmp_path)
