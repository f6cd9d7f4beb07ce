"""`compass fleet` on this machine alone, with real workers and without any other program."""

import json

import psutil
import pytest
from typer.testing import CliRunner

from compass.cli.app import app


@pytest.mark.slow
def test_this_machine_is_a_fleet_of_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "fleet.yaml").write_text("kinds:\n  mine: {device: '*', price_per_hour: 0.5, power_w: 100}\n")
    options = ["--workload", "schnet", "--device", "cpu", "--fleet", "fleet.yaml", "--set", "runtime.threads=1"]
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
