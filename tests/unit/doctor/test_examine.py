"""The whole command, on this machine and with stand-ins."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.config_files import load_config
from compass.device import OtherPrograms
from compass.doctor.checks import CheckResult
from compass.doctor.examination import Examination, examine
from compass.doctor.torch_build import TorchBuild

CHECKS = [
    "system", "packages", "extras", "torch", "device memory", "memory", "control group", "cores", "other programs", "allocators",
    "clock", "cache", "folder", "profile",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def found(monkeypatch):
    """What `examine` answers, and the questions it was asked."""
    asked, answer = [], []

    def fake(examination, others):
        asked.append(examination)
        return tuple(answer)

    monkeypatch.setattr("compass.doctor.examination.examine", fake)
    return asked, answer


def doctor(*args):
    return CliRunner().invoke(app, ["doctor", *args], catch_exceptions=False)


def test_this_machine(monkeypatch, tmp_path):
    build = TorchBuild(version="2.13.0+cpu", devices=("cpu",))
    monkeypatch.setattr("compass.doctor.examination.installed_torch", lambda: build)
    asked = Examination(load_config(None, ["dataset.path=absent"]), tmp_path / "cache", None)
    answers = {finding.check: finding for finding in examine(asked, OtherPrograms())}
    assert list(answers) == [*CHECKS[:-1], "dataset", "profile"]
    assert not [finding.says for finding in answers.values() if "could not be checked" in finding.says]
    assert answers["dataset"].level == "fail"
    assert answers["profile"].says == "no hardware_profile.json yet"
    assert answers["cache"].says.endswith(f"free in {tmp_path / 'cache'}")


def test_a_torch_that_cannot_be_asked_costs_only_its_own_checks(monkeypatch, tmp_path):
    def broken():
        raise OSError("no more processes")

    monkeypatch.setattr("compass.doctor.examination.installed_torch", broken)
    asked = Examination(load_config(), tmp_path, None)
    answers = {finding.check: finding for finding in examine(asked, OtherPrograms())}
    unknown = [check for check, finding in answers.items() if "could not be checked" in finding.says]
    assert unknown == ["torch", "allocators", "profile"]
    assert answers["torch"].says == "could not be checked: OSError: no more processes"


def test_one_line_for_each_check(found):
    found[1].extend(
        [
            CheckResult("memory", "ok", "12.00 GiB free"),
            CheckResult("torch", "warn", "too new", "Install an older one."),
        ]
    )
    result = doctor()
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == "ok    memory  12.00 GiB free\nwarn  torch   too new. Install an older one.\n"


def test_a_failure_is_exit_code_3(found):
    found[1].append(CheckResult("memory", "fail", "none", "Get some."))
    result = doctor()
    assert (result.exit_code, result.stdout) == (3, "fail  memory  none. Get some.\n")


def test_json(found):
    found[1].append(CheckResult("memory", "fail", "none", "Get some."))
    result = doctor("--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout) == {
        "checks": [{"check": "memory", "level": "fail", "says": "none", "remedy": "Get some."}]
    }


def test_every_option_reaches_the_examination(found):
    found[1].append(CheckResult("memory", "ok", "12.00 GiB free"))
    doctor("--dataset", "d", "--index", "i", "--cache", "c", "--profile", "p.json", "--set", "runtime.idle_cores=0.5")
    config = load_config(None, ["runtime.idle_cores=0.5", "dataset.path=d", "dataset.index=i"])
    assert found[0] == [Examination(config, Path("c"), Path("p.json"))]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--set", "nonsense"], "--set: got 'nonsense'; expected dotted.key=value. "),
        (["--json", "true"], "--json: got the value 'true'; expected no value, because it is a flag. "),
    ],
)
def test_bad_input_is_exit_code_2(found, args, message):
    result = doctor(*args)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}")
