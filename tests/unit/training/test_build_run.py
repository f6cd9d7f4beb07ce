"""What a run trains on, in which batches, and what is announced of it."""

import logging

import pytest
import torch

from compass.data.splits.splits import Split
from compass.errors import InputError
from compass.records import Affine, BatchBudget, BytesLaw, Load
from compass.training import build_run as opening
from compass.training.build_run import announce, open_run
from compass.training.data import TrainingData
from compass.training.run_spec import Amount
from compass.units import GIB, MIB, format_seconds

LAW = BytesLaw(segments=(("step", Affine(base=100 * MIB, per_unit=(("nodes", MIB), ("edges", 0.0)))),))
NAMES = tuple(f"c{i:02d}" for i in range(40))
BUDGET = BatchBudget(
    budget_bytes=3 * GIB, max_graphs=99, max_step_s=None, n_batches=2, mean_graphs=20, median_fill=0.9, throughput=10, gain=0.1,
    footprint_bytes=GIB,
)  # fmt: skip


def data_of(*names):
    """Of 100 to 139 MiB each; the giant takes 5.2 GiB."""
    sizes = {name: 100.0 + i for i, name in enumerate(NAMES)} | {"giant": 5.1 * 1024}
    loads = {name: Load(graphs=1, sizes=(("nodes", sizes[name]), ("edges", 9.0))) for name in names}
    isolated = tuple(name for name in names if name == "giant")
    return TrainingData(loads, Split(train=names, val=(), test=(), why="all"), {}, isolated)


@pytest.fixture
def opened(spec, tmp_path, monkeypatch):
    """A run of a tiny model on this data, by a plan under 3 GiB that does without the giant."""

    def make(data, capacity=10, **changes):
        monkeypatch.setattr(opening, "load_workload", lambda *_: None)
        monkeypatch.setattr(opening, "open_data", lambda *_: data)
        monkeypatch.setattr(opening, "build", lambda *_: torch.nn.Linear(1, 1))
        plan = spec.plan
        plan = plan.model_copy(
            update={
                "bytes_law": LAW,
                "batch_budget": BUDGET,
                "choice": plan.choice.model_copy(update={"batch_size": 4, "capacity": capacity}),
                "certificate": plan.certificate.model_copy(update={"left_out": ("giant",), "ceiling_bytes": 3 * GIB}),
            }
        )
        wanted = {"plan": plan, "budget_bytes": 3 * GIB, "device": "cpu", **changes}
        return open_run(spec.model_copy(update=wanted), tmp_path)

    return make


def trained(run):
    """Ids of an epoch's samples, batch by batch."""
    return [[name for name, _ in item.batch.members] for item in list(run.stream)[: run.stream.per_epoch]]


@pytest.mark.parametrize("batching", ["batch_size", "batch_budget"])
def test_what_the_plan_leaves_out_is_not_trained_on_and_named(opened, caplog, batching):
    run = opened(data_of(*NAMES, "giant"), batching=batching)
    assert sorted(name for batch in trained(run) for name in batch) == list(NAMES)
    assert "giant" not in {*run.data.split.train, *run.data.isolated, *dict(run.largest.members)}
    assert run.bound_bytes <= 3 * GIB
    assert [record.message for record in caplog.records] == [
        "1 complexes do not fit the budget and are left out: giant"
    ]


def test_the_largest_that_fits_still_has_a_batch_of_its_own(opened):
    names = NAMES[:9]
    data = data_of(*names)
    data = TrainingData(data.loads, data.split, {}, isolated=("c08",))
    assert ["c08"] in trained(opened(data))


def test_nothing_left_to_train_on_is_said(opened):
    with pytest.raises(InputError) as raised:
        opened(data_of("giant"))
    assert str(raised.value) == (
        "stage prototyping: got nothing to train on: no training sample fits the budget, even alone; expected one that does. "
        "Plan anew with more memory, or with dataset.oversize=crop."
    )


def test_several_processes_get_batches_that_fit_with_their_buckets(opened):
    run = opened(data_of(*NAMES), capacity=100 * MIB, batching="batch_budget", n_devices=2)
    needed = [run.guard.needs_bytes(names) for names in trained(run)]
    assert max(needed) <= 3 * GIB < max(needed) + 400 * MIB


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
def test_what_is_announced_is_what_ends_the_run(opened, caplog, amount, limited_by):
    run = opened(data_of(*NAMES), amount=amount)
    with caplog.at_level(logging.INFO, logger="compass"):
        announce(run)
    in_all_s = amount.max_time_s if limited_by == "time" else run.batch_s * run.stream.n_batches
    assert f" {format_seconds(in_all_s)} in all (" in caplog.records[-1].message
