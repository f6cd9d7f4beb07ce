"""The samples and batches of a run."""

import pytest

from compass.errors import InputError
from compass.training.data import TrainingData, warn_left_out
from compass.units import GIB, MIB

NAMES = tuple(f"c{i:02d}" for i in range(40))


def trained(run):
    """Ids of an epoch's samples, batch by batch."""
    return [[name for name, _ in item.batch.members] for item in list(run.stream)[: run.stream.per_epoch]]


@pytest.mark.parametrize("batching", ["batch_size", "batch_budget"])
def test_samples_that_the_plan_leaves_out_are_not_trained_on_and_named(opened, data_of, caplog, batching):
    run = opened(data_of(*NAMES, "giant"), batching=batching)
    assert sorted(name for batch in trained(run) for name in batch) == list(NAMES)
    assert "giant" not in {*run.data.split.train, *run.data.isolated, *dict(run.largest.members)}
    assert run.bound_bytes <= 3 * GIB
    assert [record.message for record in caplog.records] == ["1 complex does not fit the budget and is left out: giant"]


def test_what_is_left_out_has_the_workloads_words(opened, data_of, caplog):
    opened(data_of(*NAMES, "giant"), noun="images")
    assert "1 image does not fit the budget and is left out: giant" in caplog.text
    warn_left_out(["a", "b"], "")
    assert "2 complexes do not fit the budget and are left out: a, b" in caplog.text


def test_an_isolated_sample_that_fits_is_batched_alone(opened, data_of):
    names = NAMES[:9]
    data = data_of(*names)
    data = TrainingData(data.loads, data.split, {}, isolated=("c08",))
    assert ["c08"] in trained(opened(data))


def test_no_training_sample_is_left(opened, data_of):
    with pytest.raises(InputError) as raised:
        opened(data_of("giant"))
    assert str(raised.value) == (
        "stage prototyping: got no training sample that fits the budget, even alone; expected at least one. "
        "Plan again with a larger --memory-limit, or with --set dataset.oversize=crop."
    )


def test_batches_of_several_processes_leave_memory_for_buckets(opened, data_of):
    run = opened(data_of(*NAMES), capacity=100 * MIB, batching="batch_budget", n_devices=2)
    needed = [run.guard.needs_bytes(names) for names in trained(run)]
    assert max(needed) <= 3 * GIB < max(needed) + 400 * MIB
