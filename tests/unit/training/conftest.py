import pytest

from compass.optimizer_config import OptimizerConfig
from compass.records import Fingerprint
from compass.training.run_spec import RunSpec


@pytest.fixture
def spec(profile):
    fingerprint = Fingerprint(device="cpu", driver="x", torch="2", versions=(), workload="w")
    return RunSpec(
        plan=profile.plans["prototyping"], workload="visnet", config=OptimizerConfig(), fingerprint=fingerprint, budget_bytes=2**31,
        batching="batch_size",
    )  # fmt: skip
