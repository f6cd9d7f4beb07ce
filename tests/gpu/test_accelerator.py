"""What the models of memory, the ceiling and the trainer say of the accelerator that is here.

Run by hand where there is one: `python -m pytest -m gpu tests/gpu`.
"""

import json
import random
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_crops import write_crops
from compass.device import detect, devices
from compass.planning.calibration import calibrate
from compass.planning.request import Request
from compass.planning.session import local_runner, open_experiment, wanted_variants
from compass.probe.requests import timing_probe
from compass.records import Batch, Knobs, Status
from compass.units import GIB, MIB

HERE = devices()[0]
pytestmark = [
    pytest.mark.gpu,
    pytest.mark.timeout(900),
    pytest.mark.skipif(HERE == "cpu", reason="needs an accelerator"),
]
N_HELD_OUT = 12
LIMIT_BYTES = 6 * GIB


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    """Calibrated in fp32, with and without recomputing."""
    request = Request(cache=tmp_path_factory.mktemp("cache"), dataset_size=19_000, memory_limit_bytes=LIMIT_BYTES)
    with open_experiment(request, None) as (opened, prober):
        calibrate(opened, prober, wanted_variants(opened.config))
        yield opened


@pytest.fixture(scope="module")
def runner(experiment):
    """Its lasting worker is another one than calibration's."""
    request = Request(dataset_size=19_000, memory_limit_bytes=LIMIT_BYTES)
    with closing(local_runner(request, experiment.settings)) as opened:
        yield opened


def test_the_device_says_what_it_is():
    hardware = detect(limit_bytes=None, reserve_share=0.05)
    assert hardware.name
    assert 0 < hardware.budget_bytes < hardware.total_bytes


def test_models_never_probed_take_the_memory_that_was_said(experiment, runner):
    rng, costs, known = random.Random(3), experiment.costs(), experiment.known()
    samples, kinds = dict(experiment.description.samples), wanted_variants(experiment.config)
    probed = {(spec.knobs.layers, spec.knobs.channels) for spec, _ in experiment.runner.probes}
    allocator = experiment.calibrated_allocator
    errors = []
    while len(errors) < N_HELD_OUT:
        layers, channels = rng.randint(2, 8), 16 * rng.randint(2, 12)
        if (layers, channels) in probed:
            continue
        knobs = Knobs(layers=layers, channels=channels, variant=rng.choice(kinds))
        law, name = costs.bytes_law(knobs, allocator), rng.choice(sorted(samples))
        most = known.most_graphs(
            lambda n, law=law, name=name: law.upper_footprint(samples[name] * n) < experiment.budget_bytes
        )
        batch = Batch(members=((name, max(1, round(most * rng.random()))),))
        spec = timing_probe(experiment.config.probe, knobs, batch, experiment.runtime(allocator), profile=True)
        outcome = runner.probe(spec)
        assert outcome.ok, outcome.detail
        errors.append(law.live(outcome.load) / outcome.live_bytes - 1)
        assert outcome.footprint_bytes <= law.upper_footprint(outcome.load), f"{knobs} on {outcome.load}"
    assert np.abs(errors).max() < 0.01


def test_a_ceiling_is_enforced_and_survived(experiment, runner):
    knobs = Knobs(layers=4, channels=64, variant=wanted_variants(experiment.config)[0])
    [(name, load), *_] = experiment.description.samples
    law = experiment.costs().bytes_law(knobs, experiment.calibrated_allocator)
    n_graphs = experiment.known().most_graphs(lambda n: law.live(load * n) < 1.5 * LIMIT_BYTES)
    spec = timing_probe(
        experiment.config.probe,
        knobs,
        Batch(members=((name, n_graphs),)),
        experiment.runtime(experiment.calibrated_allocator),
    ).model_copy(update={"ceiling_bytes": LIMIT_BYTES, "fresh": True})
    outcome = runner.probe(spec)
    assert outcome.status is Status.OUT_OF_MEMORY, outcome.detail
    assert outcome.enforced
    assert outcome.footprint_bytes <= LIMIT_BYTES + 64 * MIB
    assert runner.probe(spec.model_copy(update={"batches": (Batch(members=((name, 1),)),)})).ok


def test_a_plan_is_made_and_training_keeps_its_promise(tmp_path):
    (tmp_path / "crops").mkdir()
    manifest = write_crops(tmp_path / "crops", np.linspace(4.0, 9.0, 64))
    profile = tmp_path / "profile.json"

    def compass(*words):
        told = subprocess.run(
            [sys.executable, "-m", "compass", *map(str, words), "--cache", tmp_path / "cache"],
            capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    compass("optimize", "--dataset", manifest, "--stages", "prototyping", "--memory-limit", "4GiB", "--out", profile)
    run = tmp_path / "run"
    compass("train", "--stage", "prototyping", "--profile", profile, "--cycles", "0.1", "--out", run)
    compass("verify", "--profile", profile)
    cycles = json.loads((run / "results.json").read_text())["cycles"]
    assert cycles
    assert all(cycle["peak_bytes"] <= cycle["bound_bytes"] for cycle in cycles)
