import pytest
import torch

from compass.data.scan.rows import Label
from compass.data.splits.splits import Split
from compass.optimizer_config import OptimizerConfig
from compass.records import Affine, BatchBudget, BytesLaw, Fingerprint, Load
from compass.training import build_run
from compass.training.build_run import open_run
from compass.training.data import TrainingData
from compass.training.run_spec import RunSpec
from compass.units import GIB, MIB

LAW = BytesLaw(segments=(("step", Affine(base=100 * MIB, per_unit=(("nodes", MIB), ("edges", 0.0)))),))
BUDGET = BatchBudget(
    budget_bytes=3 * GIB, max_graphs=99, max_step_s=None, n_batches=2, mean_graphs=20, median_fill=0.9, throughput=10, gain=0.1,
    footprint_bytes=GIB,
)  # fmt: skip


@pytest.fixture
def spec(profile):
    fingerprint = Fingerprint(device="cpu", driver="x", torch="2", versions=(), workload="w")
    return RunSpec(
        plan=profile.plans["prototyping"], workload="visnet", config=OptimizerConfig(), fingerprint=fingerprint, budget_bytes=2**31,
        batching="batch_size",
    )  # fmt: skip


@pytest.fixture
def data_of():
    """Makes the data of a run: samples c00, c01 … of 100 MiB and more; `giant` takes 5.2 GiB. Held-out samples are labelled too."""

    def make(*train, val=(), test=()):
        names = (*train, *val, *test)
        sizes = {name: 5.1 * 1024 if name == "giant" else 100.0 + int(name[1:]) for name in names}
        loads = {name: Load(graphs=1, sizes=(("nodes", sizes[name]), ("edges", 9.0))) for name in names}
        labels = {name: Label(pk=6.0) for name in names} if val or test else {}
        isolated = tuple(name for name in names if name == "giant")
        return TrainingData(loads, Split(train=train, val=val, test=test, why="all"), labels, isolated)

    return make


class _Predicts:
    """A workload that is asked for nothing but whether it predicts."""

    def predict(self, model, batch):
        raise NotImplementedError


@pytest.fixture
def opened(spec, tmp_path, monkeypatch):
    """Opens a run of a tiny model, by a plan under 3 GiB that leaves `giant` out."""

    def make(data, capacity=10, config=None, **changes):
        monkeypatch.setattr(build_run, "load_workload", lambda *_: _Predicts())
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
        wanted = {"plan": plan, "budget_bytes": 3 * GIB, "device": "cpu", "config": config or spec.config, **changes}
        return open_run(spec.model_copy(update=wanted), tmp_path)

    return make
