"""The commands as Python functions, on real files; training itself is replaced, and tried in the integration tests."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import compass
from compass.api import training
from compass.demo.writing import write_demo
from compass.errors import InputError
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.profile import write_profile

FUNCTIONS = ("estimate", "optimize", "predict", "report", "scan", "train", "verify")


def test_no_module_takes_a_functions_place():
    """`import compass.x` sets the attribute x of the package: a module named as a function would replace it."""
    modules = {module.name for module in pkgutil.iter_modules(compass.__path__)}
    assert modules.isdisjoint(compass.__all__)
    importlib.import_module("compass.cli.app")
    assert all(callable(getattr(compass, name)) for name in FUNCTIONS)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, force=True)
    return folder / "pdbbind"


def test_scanning(dataset, tmp_path):
    found = compass.scan(str(dataset), cache=str(tmp_path), workers=1)
    assert found.n_complexes == found.n_usable > 0
    assert repr(found).startswith(
        f"<scan of {dataset}: {found.n_usable} of {found.n_complexes} complexes can be used, "
    )
    few = compass.scan(dataset, cache=tmp_path, settings={"dataset.max_atoms": 1}, workers=1)
    assert few.n_usable == 0


def test_scanning_nothing(tmp_path):
    with pytest.raises(InputError, match="nowhere"):
        compass.scan(tmp_path / "nowhere")


def test_a_report_of_a_profile_or_its_path(profile, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert compass.report(profile) == Path("hardware_report.html")
    write_profile(profile, tmp_path / "p.json")
    page = compass.report(str(tmp_path / "p.json"), out="p.html", markdown="p.md", cache=tmp_path)
    assert page.read_text().startswith("<!doctype html>")
    assert Path("p.md").read_text().startswith("#")
    with pytest.raises(InputError, match=r"no run\.json in it"):
        compass.report(tmp_path)


@pytest.mark.slow
def test_estimating_and_verifying_on_another_machine(tmp_path):
    runner = SimulatedRunner(machine_named("RTX 3060 Laptop 6GB"))
    given = {"cache": tmp_path, "memory_limit": "4GiB", "dataset_size": 5_000, "runner": runner}
    found = compass.estimate(layers=4, channels=96, batch=8, axes={"precision": "fp32"}, **given)
    assert repr(found) == f"<estimates of 1 models of visnet on {found.hardware.name}: 1 may fit>"
    profile = compass.optimize(
        stages="smoke_test", out=tmp_path / "p.json", memory_limit="4GiB", runner=runner, dataset_size=5_000
    )
    checked = compass.verify(str(tmp_path / "p.json"), runner=runner)
    assert checked.holds
    assert repr(checked) == "<verify: holds, 1 of 1 plans>"
    assert compass.verify(profile, "smoke_test", runner=runner).holds


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_time": "soon"}, "max_time: got 'soon'; expected a time above zero such as 90s, 20min or 1.5h. Write a number and a unit."),
        ({"devices": 2, "rank_memory": ["1GiB", "much"]}, "rank_memory: got 'much'; expected a size such as 6GiB, 512MB or 1073741824. Write a number and a unit."),
        ({"settings": {"training.epoch": 3}},
         "settings['training.epoch']: got the unknown key 'epoch'; expected a setting of Compass. Did you mean epochs?"),
    ],
)  # fmt: skip
def test_what_training_refuses(profile, tmp_path, given, message):
    with pytest.raises(InputError) as caught:
        compass.train(profile, "prototyping", out=tmp_path, **given)
    assert str(caught.value) == message


class _Process:
    """In place of a training: it says two lines and ends."""

    def __init__(self, code):
        self.code = code

    def __call__(self, command, **given):
        words = "import sys; print('epoch 1', file=sys.stderr); print('error: no room', file=sys.stderr); sys.exit({})"
        self.command = command
        return REAL([sys.executable, "-c", words.format(self.code)], **given)


REAL = subprocess.Popen


@pytest.mark.parametrize("code", [0, 2, 130])
def test_a_trainings_words_are_passed_on_and_its_failure_is_an_error(monkeypatch, tmp_path, capsys, code):
    process = _Process(code)
    monkeypatch.setattr(subprocess, "Popen", process)
    if code == 2:
        with pytest.raises(training.TrainingFailed, match=r"ended with exit code 2: no room$"):
            training._run(tmp_path, {})
    else:
        training._run(tmp_path, {})
    assert capsys.readouterr().err == "epoch 1\nerror: no room\n"
    assert process.command[1:] == ["-m", "compass", "train-run", str(tmp_path)]
