"""`make gpu-check`, with stand-ins for its parts: what ends how, and what is left in the file."""

import json

import pytest

from benchmarks import gpu_check
from benchmarks.gpu_check import PARTS, check, main, run_part


@pytest.fixture
def script(tmp_path, monkeypatch):
    """Makes a module that prints and exits as told, which `python -m` finds."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make(name, text):
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        return [name]

    return make


GOOD = 'print(\'calibrated\')\nprint(\'{"live": 0.001, "targets": {"live median": true, "P99": true}}\')'


@pytest.mark.parametrize(
    ("text", "is_good", "says"),
    [
        (GOOD, True, "met 2 targets"),
        (GOOD.replace("true}", "false}"), False, "missed 1 of 2 targets: P99"),
        ('print(\'[{"met": {"95 %": false}}, {"met": {"95 %": true}}]\')', False, "missed 1 of 2 targets: 95 % (1)"),
        ("print('4 passed')", True, "passed"),
        ("raise SystemExit(3)", False, "failed with exit code 3"),
    ],
)
def test_a_part_ends_in_words(script, text, is_good, says):
    part = run_part("memory", script("stand_in", text), 60.0)
    assert (part.is_good, part.says) == (is_good, says)


def test_a_part_that_fails_shows_its_last_words_and_one_that_hangs_is_stopped(script):
    failed = run_part("time", script("failing", "print('step 3')\nraise RuntimeError('no kernel')"), 60.0)
    assert failed.last_lines[0] == "step 3"
    assert failed.last_lines[-1] == "RuntimeError: no kernel"
    hung = run_part("time", script("hanging", "import time\ntime.sleep(60)"), 0.5)
    assert (hung.exit_code, hung.says) == (None, "stopped: out of time")


def test_one_table_and_one_file_with_the_devices_name(script, tmp_path, capsys):
    parts = {"memory": script("one", GOOD), "tests": script("two", "raise SystemExit(1)")}
    out = tmp_path / "found.json"
    found = check(parts, out, quick=False, timeout_s=60.0)
    assert json.loads(out.read_text(encoding="utf-8")) == found
    assert (found["good"], [part["name"] for part in found["parts"]]) == (False, ["memory", "tests"])
    assert found["device"] == found["hardware"]["name"]
    table = capsys.readouterr().out.split(found["device"])[-1]
    assert [line.split()[0] for line in table.strip().splitlines()] == ["memory", "tests"]


def test_every_part_is_there():
    modules = [command[0] for command in PARTS.values()]
    assert modules == [
        "pytest",
        *(f"benchmarks.{name}" for name in ("memory", "time", "batch_size", "plans", "families")),
    ]


def test_without_an_accelerator_it_is_skipped(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu_check"])
    monkeypatch.setattr(gpu_check, "devices", lambda: ("cpu",))
    assert main() == 0
    assert capsys.readouterr().out == "skipped: this machine has no accelerator that PyTorch can use\n"
