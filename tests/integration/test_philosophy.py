"""The point of it all, on real structures: what a stage is for is what its plan does in the same time."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks.real_crops import write_crops
from compass.checksum import json_without_checksum
from compass.profile import read_profile
from compass.records.training import RESULTS
from compass.training.results import Results

BUDGET_S = 15


def compass(*arguments):
    """Run a command as a person would."""
    done = subprocess.run(
        [sys.executable, "-m", "compass", *map(str, arguments)], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.docs  # three minutes; `make examples` runs it
@pytest.mark.timeout(900)
def test_in_the_same_time_a_prototype_sees_more_and_production_holds_more(tmp_path):
    manifest = write_crops(tmp_path, np.linspace(4.0, 7.0, 40))
    profile, cache = tmp_path / "profile.json", ("--cache", tmp_path / "cache")
    compass("optimize", "--dataset", manifest, "--memory-limit", "1200MiB", "--stages", "prototyping,production",
            "--set", "batch.training_share=0.2", "--set", "runtime.threads=1", "--set", "probe.anchor_step_s_cpu=[0.15,0.3]", "--set", "probe.certify_again=0", "--set", "probe.patience_s=3",
            "--out", profile, *cache)  # fmt: skip
    results = {}
    for stage in ("prototyping", "production"):
        folder = tmp_path / stage
        compass("train", "--stage", stage, "--profile", profile, "--max-time", f"{BUDGET_S}s", "--out", folder, *cache)
        results[stage] = Results.model_validate_json(json_without_checksum((folder / RESULTS).read_text()))
    plans = read_profile(profile).plans
    assert results["prototyping"].at.n_graphs > 1.5 * results["production"].at.n_graphs
    assert plans["production"].choice.capacity > 1.5 * plans["prototyping"].choice.capacity
    for stage, found in results.items():
        assert found.at.elapsed_s == pytest.approx(BUDGET_S, rel=0.5)
        assert all(cycle.peak_bytes <= cycle.bound_bytes for cycle in found.cycles), stage
