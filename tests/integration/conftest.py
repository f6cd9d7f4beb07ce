"""A runner of this machine for the toys, and probes to ask it for."""

import os
from pathlib import Path

import pytest

from compass.optimizer_config import OptimizerConfig
from compass.probe.local import LocalRunner
from compass.records import Batch, Knobs, ProbeSpec, RuntimeSettings

RUNTIME = RuntimeSettings(threads=1)


@pytest.fixture(scope="session")
def toys_file():
    return Path(__file__).parent / "toys.py"


@pytest.fixture(scope="session")
def notes(tmp_path_factory):
    """Where toys write down the processes they leave."""
    path = tmp_path_factory.mktemp("toys") / "notes"
    path.write_text("")
    os.environ["TOY_NOTES"] = str(path)
    yield path
    del os.environ["TOY_NOTES"]


@pytest.fixture(scope="session")
def toys(notes, toys_file):
    """Its lasting worker is started once and serves every test that leaves it alive."""
    runner = LocalRunner(OptimizerConfig(), RUNTIME, workload=f"{toys_file}:Toy", device="cpu")
    yield runner
    runner.close()


@pytest.fixture
def ask():
    """The question what a sample of this name does."""

    def make(*names, layers=2, channels=4, **changes):
        fields = {
            "knobs": Knobs(layers=layers, channels=channels),
            "batches": (Batch(members=tuple((name, 1) for name in names)),),
            "min_steps": 3,
            "max_steps": 3,
            "profile": False,
            "timeout_s": 60.0,
            "runtime": RUNTIME,
        }
        return ProbeSpec(**{**fields, **changes})

    return make
