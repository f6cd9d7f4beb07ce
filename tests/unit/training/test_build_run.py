"""The samples and batches of a run, and its announcement."""

import logging

import pytest
import torch

from compass.data.splits.splits import Split
from compass.errors import InputError
from compass.records import Affine, BatchBudget, BytesLaw, Load
from compass.training import build_run
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
    """Samples of 100 to 139 MiB each; `giant` takes 5.2 GiB."""
    sizes = {name: 100.0 + i for i, name in enumerate(NAMES)} | {"giant": 5.1 * 1024}
    loads = {name: Load(graphs=1, sizes=(("nodes", sizes[name]), ("edges", 9.0))) for name in names}
    isolated = tuple(name for name in names if name == "giant")
    return TrainingData(loads, Split(train=names, val=(), test=(), why="all"), {}, isolated)


@pytest.fixture
def opened(spec, tmp_path, monkeypatch):
    """Opens a run of a tiny model, by a plan under 3 GiB that leaves `giant` out."""

    def make(data, capacity=10, **changes):
        monkeypatch.setattr(build_run, "load_workload", lambda *_: None)
        monkeypatch.setattr(build_run, "open_data", lambda *_: data)
        monkeypatch.setattr(build_run, "build", lambda *_: torch.nn.Linear(1, 1))
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
def test_samples_that_the_plan_leaves_out_are_not_trained_on_and_named(opened, caplog, batching):
    run = opened(data_of(*NAMES, "giant"), batching=batching)
    assert sorted(name for batch in trained(run) for name in batch) == list(NAMES)
    assert "giant" not in {*run.data.split.train, *run.data.isolated, *dict(run.largest.members)}
    assert run.bound_bytes <= 3 * GIB
    assert [record.message for record in caplog.records] == [
        "1 complexes do not fit the budget and are left out: giant"
    ]


def test_an_isolated_sample_that_fits_is_batched_alone(opened):
    names = NAMES[:9]
    data = data_of(*names)
    data = TrainingData(data.loads, data.split, {}, isolated=("c08",))
    assert ["c08"] in trained(opened(data))


def test_no_training_sample_is_left(opened):
    with pytest.raises(InputError) as raised:
        opened(data_of("giant"))
    assert str(raised.value) == (
        "stage prototyping: got no training sample that fits the budget, even alone; expected at least one. "
        "Run `compass optimize` again with more memory, or with dataset.oversize=crop."
    )


def test_batches_of_several_processes_leave_memory_for_buckets(opened):
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
def test_the_announced_time_is_that_of_the_first_limit(opened, caplog, amount, limited_by):
    run = opened(data_of(*NAMES), amount=amount)
    with caplog.at_level(logging.INFO, logger="compass"):
        announce(run)
    in_all_s = amount.max_time_s if limited_by == "time" else run.batch_s * run.stream.n_batches
    assert f" {format_seconds(in_all_s)} in all (" in caplog.records[-1].message
