"""`compass fleet` on this machine alone, with real workers and without any other program."""

import json

import psutil
import pytest
from typer.testing import CliRunner

from compass.cli.app import app

SHORT = [
    *(f"stages.{stage}.allocator=['fast']" for stage in ("smoke_test", "prototyping", "validation", "production")),
    *(f"stages.{stage}.checkpointing=[false]" for stage in ("prototyping", "validation", "production")),
    *(f"stages.{stage}.fused=[false]" for stage in ("smoke_test", "prototyping", "validation", "production")),
    "runtime.threads=1", "runtime.waiting=sleep", "space.layers=[2,3]", "space.channels=[16,48]",
    "probe.anchor_architectures_cpu=[[2,16],[3,48]]", "probe.anchor_step_s_cpu=[0.1]", "probe.smoke_steps=4", "probe.certify_again=0",
]  # fmt: skip
"""A small space, and as few probes as a calibration can have."""


@pytest.mark.slow
@pytest.mark.harness
def test_this_machine_is_a_fleet_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "fleet.yaml").write_text("kinds:\n  mine: {device: '*', price_per_hour: 0.5, power_w: 100}\n")
    options = ["--workload", "schnet", "--device", "cpu", "--fleet", "fleet.yaml"]
    options += [part for setting in SHORT for part in ("--set", setting)]
    before = {one.pid for one in psutil.Process().children(recursive=True)}
    done = CliRunner().invoke(
        app,
        ["fleet", "optimize", *options, "--dataset-size", "1000", "--memory-limit", "1GiB", "--stages", "smoke_test", "--json"],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    (kind,), (cell,) = found["fleet"]["kinds"], found["table"]["cells"]
    assert (kind["name"], kind["profile"], kind["failure"]) == ("mine", "mine.json", "")
    assert cell["is_proven"]
    assert cell["price"] == pytest.approx(cell["training_s"] / 3600 * 0.5)
    assert found["table"]["recommendations"][0]["fastest"] == "mine"
    left = {one.pid for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE}
    assert left <= before
