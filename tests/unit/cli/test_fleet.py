import json

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.fleet.record import FleetRecord, KindRecord, write_fleet
from compass.profile import write_profile


@pytest.fixture(autouse=True)
def _workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")


def asked(*args: str):
    return CliRunner().invoke(app, ["fleet", *args], catch_exceptions=False)


@pytest.fixture
def folder(tmp_path, profile):
    plan = profile.plans["prototyping"].model_copy(update={"epoch_s": 1187.5, "training_s": 7200.0})
    profile = profile.model_copy(update={"plans": {**profile.plans, "prototyping": plan}})
    (tmp_path / "fleet").mkdir()
    write_profile(profile, tmp_path / "fleet" / "cpu.json")
    kinds = (
        KindRecord(
            name="cpu",
            device="Some CPU",
            nodes=("n1", "n2"),
            versions={"torch": "2.13.0"},
            price_per_hour=1.5,
            power_w=200.0,
            profile="cpu.json",
            notes=("n2 is slow: its step takes 1.80 times the median of cpu",),
        ),
        KindRecord(name="t4", device="Tesla T4", nodes=("n3",), failure="no worker started"),
    )
    record = FleetRecord(compass_version="1", created="now", engine="local", currency="EUR", kinds=kinds)
    write_fleet(record, tmp_path / "fleet")
    return tmp_path / "fleet"


def test_the_table_of_a_fleet(folder):
    told = asked("show").stdout
    lines = [" ".join(line.split()) for line in told.splitlines()]
    assert "cpu: Some CPU on n1, n2" in lines
    assert "n2 is slow: its step takes 1.80 times the median of cpu" in lines
    assert "no profile: no worker started" in lines
    assert "cpu 6 × 128 fp32 96,000 32 20 min 2.0 h score 3.00 0.40" in lines
    assert "t4 no plan" in lines
    assert "prototyping: fastest on cpu, cheapest on cpu." in lines
    assert "validation: no kind has a plan." in lines


def test_the_table_as_json(folder):
    found = json.loads(asked("show", str(folder), "--json").stdout)
    assert found["fleet"]["kinds"][0]["name"] == "cpu"
    (cell,) = [one for one in found["table"]["cells"] if (one["stage"], one["kind"]) == ("prototyping", "cpu")]
    assert (cell["price"], cell["energy_kwh"], cell["is_proven"]) == (3.0, 0.4, True)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["show"], "fleet fleet/fleet.json: got No such file or directory; expected fleet.json. Run `compass fleet optimize` to write it."),
        (["optimize", "--slurm", "a", "--address", "auto"], "--slurm: got --address as well; expected one of the two. Leave one out."),
        (["describe", "--slurm", " , "], "--slurm: got ' , '; expected names of partitions. See `sinfo`."),
        (["describe", "--address", "auto"], "--address auto: got no package ray; expected Compass with the extra `fleet`. Install it: pip install 'compass-optimizer[fleet]'."),
        (["optimize", "--address", "auto"], "--address auto: got no package ray; expected Compass with the extra `fleet`. Install it: pip install 'compass-optimizer[fleet]'."),
        (["optimize", "--slurm", "a"], "--slurm: got no package submitit; expected Compass with the extra `slurm`. Install it: pip install 'compass-optimizer[slurm]'."),
        (["optimize", "--fleet", "none.yaml"], "fleet file none.yaml: got No such file or directory; expected a YAML file. See docs/fleet.md for an example."),
        (["optimize", "--kinds", "b200"], "kind b200: got no node of it within 0 s; there are x (X, 1 node); expected one. Name a kind that is there, start a node of this one, or see `compass fleet describe`."),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_told_in_a_line(monkeypatch, tmp_path, args, message):
    monkeypatch.setattr("compass.fleet.engines.importlib.util.find_spec", lambda _: None)

    def none_there(*_, **__):
        from compass.errors import InputError

        raise InputError(
            "kind b200",
            got="no node of it within 0 s; there are x (X, 1 node)",
            expected="one",
            fix="Name a kind that is there, start a node of this one, or see `compass fleet describe`.",
        )

    monkeypatch.setattr("compass.fleet.optimize.wait_for_kinds", none_there)
    done = asked(*args)
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (2, f"error: {message}")
    assert not (tmp_path / "fleet" / "fleet.json").exists()
