"""The settings that must not change within a run, and the elapsed share of its time."""

import os
import time

import pytest
import torch

from compass.errors import InputError
from compass.optimizer_config import TrainingRules
from compass.records import Variant
from compass.records.training import RUN_SPEC
from compass.training import run_spec
from compass.training.module import Module
from compass.training.run_spec import Amount, await_run_spec, this_start, write_run_spec
from compass.training.schedule import rate_factor


@pytest.mark.parametrize(("max_time_s", "share"), [(None, 0.0), (100.0, 0.25), (10.0, 1.0)])
def test_the_elapsed_share_of_a_given_time(max_time_s, share):
    assert Amount(max_time_s=max_time_s).elapsed_share(25.0) == share


@pytest.mark.parametrize(
    ("n_done", "share", "update"), [(0, 0.0, 0), (30, 0.0, 30), (30, 0.2, 30), (30, 0.9, 90), (0, 0.95, 95)]
)
def test_the_learning_rate_follows_updates_or_clock_whichever_is_ahead(n_done, share, update):
    """Also at the first update after resuming."""
    rules = TrainingRules()
    module = Module(object(), torch.nn.Linear(2, 1), Variant(), rules, learning_rate=0.1, n_updates=100)
    module.n_updates_done, module.time_share = n_done, share
    assert module.rate == 0.1 * rate_factor(update, 100, rules)


def test_settings_that_decide_batches_must_not_change(spec):
    """The laws decide only if batches are budgeted, or divided among ranks."""
    wiser = spec.plan.model_copy(update={"bytes_law": spec.plan.bytes_law.model_copy(update={"footprint_ratio": 1.7})})
    batch = spec.config.batch.model_copy(update={"effective_batch": 7})
    for changed in (
        {"n_devices": 4},
        {"n_nodes": 2},
        {"config": spec.config.model_copy(update={"batch": batch})},
    ):
        assert spec.model_copy(update=changed).identity != spec.identity
    assert spec.model_copy(update={"plan": wiser}).identity == spec.identity
    for changed in ({"batching": "batch_budget"}, {"n_devices": 2}):
        before = spec.model_copy(update=changed)
        assert before.model_copy(update={"plan": wiser}).identity != before.identity


@pytest.mark.parametrize(
    ("began", "asked", "goes_on"),
    [
        (Amount(epochs=10), Amount(), Amount(epochs=10)),
        (Amount(), Amount(), Amount()),
        (Amount(epochs=10), Amount(epochs=10), Amount(epochs=10)),
        (Amount(epochs=10), Amount(epochs=12), Amount(epochs=12)),
        (Amount(cycles=0.5), Amount(cycles=2), Amount(cycles=2)),
        (Amount(max_time_s=60), Amount(max_time_s=90), Amount(max_time_s=90)),
        (Amount(), Amount(epochs=150), Amount(epochs=150)),
    ],
)
def test_a_resumed_run_goes_on_with_what_it_was_asked_for_or_more(began, asked, goes_on):
    assert began.continued(asked, 100) == goes_on


@pytest.mark.parametrize(
    ("began", "asked", "got", "had"),
    [
        (Amount(epochs=10), Amount(epochs=9), "--epochs 9", "--epochs 10"),
        (Amount(), Amount(epochs=50), "--epochs 50", "--epochs 100"),
        (Amount(epochs=10), Amount(cycles=3), "--cycles 3", "--epochs 10"),
        (Amount(max_time_s=60), Amount(max_time_s=30), "--max-time 30", "--max-time 60"),
    ],
)
def test_a_resumed_run_is_not_shortened(began, asked, got, had):
    with pytest.raises(InputError) as caught:
        began.continued(asked, 100)
    assert str(caught.value) == (
        f"--resume: got {got}; expected at least the {had} that the run was started with. "
        "Leave it out to go on with the same, give more of it, or pass --allow-changes."
    )


@pytest.mark.parametrize(
    ("change", "same"), [({"few_updates": 9}, True), ({"evaluated_train": 9}, True), ({"clip_norm": 9.0}, False)]
)
def test_settings_that_change_no_weight_may_change(spec, change, same):
    training = spec.config.training.model_copy(update=change)
    changed = spec.model_copy(update={"config": spec.config.model_copy(update={"training": training})})
    assert (changed.identity == spec.identity) == same


def test_a_file_older_than_torchrun_belongs_to_another_start(spec, tmp_path, monkeypatch):
    """With a fixed address, every start of torchrun has the same name."""
    monkeypatch.setattr(run_spec, "SPEC_PATIENCE_S", 0.3)
    write_run_spec(spec.model_copy(update={"started_by": this_start()}), tmp_path)
    assert await_run_spec(tmp_path).plan == spec.plan
    long_ago = time.time() - 365 * 24 * 3600
    os.utime(tmp_path / RUN_SPEC, (long_ago, long_ago))
    with pytest.raises(InputError, match=r"got no run\.json; expected one from the first process on this machine"):
        await_run_spec(tmp_path)
