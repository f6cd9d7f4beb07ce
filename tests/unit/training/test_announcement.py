"""What a run says before its first batch."""

import logging

import pytest

from compass.config_files import load_config
from compass.training.announcement import announce, expected_times, few_updates_warning
from compass.training.run_spec import Amount
from compass.training.time_plan import make_time_plan
from compass.units import format_seconds

NAMES = tuple(f"c{i:02d}" for i in range(40))
PLENTY = "training.few_updates=1"


@pytest.mark.parametrize(
    ("amount", "limited_by"),
    [
        (Amount(epochs=3), "batches"),
        (Amount(epochs=3, max_time_s=1.0), "time"),
        (Amount(epochs=3, max_time_s=1e6), "batches"),
        (Amount(cycles=1, max_time_s=1e6), "batches"),
        (Amount(max_time_s=1e6), "time"),
    ],
)
def test_the_announced_time_is_that_of_the_first_limit(opened, data_of, amount, limited_by):
    run = opened(data_of(*NAMES), amount=amount)
    in_all_s = amount.max_time_s if limited_by == "time" else run.batch_s * run.stream.n_batches
    assert f" {format_seconds(in_all_s)} in all (" in expected_times(run, make_time_plan(run))


def test_validations_and_the_last_evaluation_are_announced(opened, data_of, caplog):
    """A step of 4 graphs takes 2 s: 0.42 of that is the forward pass, so a complex takes 0.21 s."""
    data = data_of(*NAMES[:24], val=NAMES[24:30], test=NAMES[30:])
    config = load_config(None, ["batch.effective_batch=4", "training.evaluated_train=8", PLENTY])
    run = opened(data, amount=Amount(epochs=3), config=config)
    with caplog.at_level(logging.INFO, logger="compass"):
        announce(run)
    assert [record.message for record in caplog.records][1:] == [
        "24 complexes for training, 6 for validation, 10 for test: all",
        f"6 batches per epoch, 4.0 graphs each, 1 per update; learning rate {run.module.base_rate:.2g}",
        "expected: 12.0 s per epoch, 15.0 min per cycle of 450 batches, 44.8 s in all (0.0 cycles, 3 validations of 1.3 s, 5.0 s for the "
        "last evaluation), at most 3.00 GiB of memory",
    ]


def test_the_announcement_has_the_workloads_words(opened, data_of, caplog):
    run = opened(data_of(*NAMES[:24]), amount=Amount(epochs=3), noun="images")
    with caplog.at_level(logging.INFO, logger="compass"):
        announce(run)
    told = [record.message for record in caplog.records]
    assert told[1] == "24 images for training, 0 for validation, 0 for test: all"
    assert told[2].startswith("6 batches per epoch, 4.0 images each, ")
    assert ", of 24 images each: a model learns little in fewer than 500 " in told[4]


def test_checkpointing_makes_the_forward_pass_a_smaller_share(opened, data_of):
    def validation_s(**changes):
        run = opened(data_of(*NAMES[:24], val=NAMES[24:]))
        knobs = run.spec.plan.choice.knobs
        knobs = knobs.model_copy(update={"variant": knobs.variant.model_copy(update=changes)})
        choice = run.spec.plan.choice.model_copy(update={"knobs": knobs})
        run.spec = run.spec.model_copy(update={"plan": run.spec.plan.model_copy(update={"choice": choice})})
        return make_time_plan(run).validation_s

    assert validation_s(checkpointing=True) == pytest.approx(validation_s(checkpointing=False) / 1.42)


@pytest.mark.parametrize(
    ("amount", "config", "says"),
    [
        (Amount(epochs=5), [],
         "only 5 weight updates in all, of 40 graphs each: a model learns little in fewer than 500 (training.few_updates). What would "
         "change that: more epochs (--epochs 500) or a smaller effective batch (--set batch.effective_batch=4: about 50 updates)"),
        (Amount(epochs=5), ["training.few_updates=20", "batch.effective_batch=40"],
         "only 5 weight updates in all, of 40 graphs each: a model learns little in fewer than 20 (training.few_updates). What would "
         "change that: more epochs (--epochs 20) or a smaller effective batch (--set batch.effective_batch=8: about 25 updates)"),
        (Amount(epochs=5), ["batch.effective_batch=4"],
         "only 50 weight updates in all, of 4 graphs each: a model learns little in fewer than 500 (training.few_updates). What would "
         "change that: more epochs (--epochs 50)"),
        (Amount(cycles=0.01), ["batch.effective_batch=40"],
         "only 1 weight update in all, of 16 graphs each: a model learns little in fewer than 500 (training.few_updates). What would "
         "change that: more cycles (--cycles 5) or a smaller effective batch (--set batch.effective_batch=4: about 4 updates)"),
        (Amount(max_time_s=120.0), ["batch.effective_batch=4"],
         "only 60 weight updates in all, of 4 graphs each: a model learns little in fewer than 500 (training.few_updates). What would "
         "change that: more time (--max-time 17min)"),
        (Amount(epochs=50), ["batch.effective_batch=4"], None),
    ],
)  # fmt: skip
def test_few_updates_are_warned_of(opened, data_of, amount, config, says):
    """40 complexes, 4 in a batch of 2 s."""
    run = opened(data_of(*NAMES), amount=amount, config=load_config(None, config))
    assert few_updates_warning(run, make_time_plan(run)) == says


def test_the_warning_is_logged_before_training(opened, data_of, caplog):
    announce(opened(data_of(*NAMES), amount=Amount(epochs=1)))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
