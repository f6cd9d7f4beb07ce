"""Version 0.2.1 reads, and trains from, the profile and the ledger that 0.2.0 wrote."""

import sys

import pytest

from compass import version
from compass.device.fingerprint import fingerprint
from compass.probe.store import Store
from compass.profile import read_profile, stale, write_profile
from compass.records import Batch, Description, Knobs, Outcome, ProbeSpec, RuntimeSettings, Status
from compass.training import prepare as preparing
from compass.training.prepare import TrainRequest, prepare

SPEC = ProbeSpec(
    knobs=Knobs(layers=2, channels=32),
    batches=(Batch(members=(("1ia1", 1),)),),
    min_steps=1,
    max_steps=1,
    timeout_s=1.0,
    runtime=RuntimeSettings(threads=2),
)
OUTCOME = Outcome(status=Status.OK, live_bytes=5)


def description_of(profile) -> Description:
    """A worker's description of this machine, with a fingerprint made by the running version."""
    found = fingerprint(profile.hardware, profile.fingerprint.workload)
    return Description(
        fingerprint=found, hardware=profile.hardware, features=("nodes", "edges"), baseline_bytes=1, samples=()
    )


@pytest.fixture
def written(profile, tmp_path):
    """The files that this version leaves behind."""
    profile = profile.model_copy(update={"fingerprint": description_of(profile).fingerprint})
    write_profile(profile, tmp_path / "p.json")
    store = Store(tmp_path / "probes.jsonl")
    store.add(profile.fingerprint.key, SPEC, OUTCOME)
    store.close()
    return profile


@pytest.fixture
def next_release(written, monkeypatch):
    """The same code under the next version number."""
    for module in [module for name, module in sys.modules.items() if name.startswith("compass")]:
        if getattr(module, "__version__", None) == version.__version__:
            monkeypatch.setattr(module, "__version__", "0.2.1")
    assert version.__version__ == "0.2.1"
    return written


def test_the_profile_is_read_and_not_stale(next_release, tmp_path):
    found = read_profile(tmp_path / "p.json")
    assert found == next_release
    assert stale(found, description_of(found)) == ()


def test_the_ledger_still_answers(next_release, tmp_path):
    store = Store(tmp_path / "probes.jsonl")
    try:
        assert store.find(description_of(next_release).fingerprint.key, SPEC) == OUTCOME
    finally:
        store.close()


def test_training_accepts_the_plan(next_release, tmp_path, monkeypatch):
    class Machine:
        def __init__(self, *_args, **_kwargs):
            pass

        def describe(self):
            return description_of(next_release)

        def close(self):
            pass

    monkeypatch.setattr(preparing, "LocalRunner", Machine)
    profile = read_profile(tmp_path / "p.json")
    spec = prepare(TrainRequest(profile, "prototyping", profile.config, tmp_path / "run"))
    assert spec.plan == next_release.plans["prototyping"]
    assert not spec.stale
