"""Cores that other programs keep busy."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from compass.device import OtherPrograms
from compass.device import other_programs as module


@pytest.fixture
def clocks(monkeypatch):
    """A machine whose clocks are set by hand."""
    now = SimpleNamespace(user=100.0, nice=0.0, system=10.0, steal=1.0, idle=1000.0, guest=50.0, own=30.0, at=5.0)
    monkeypatch.setattr(module, "psutil", SimpleNamespace(cpu_times=lambda: now))
    monkeypatch.setattr(module, "time", SimpleNamespace(process_time=lambda: now.own, perf_counter=lambda: now.at))
    return now


@pytest.mark.parametrize(
    ("passed", "cores"),
    [
        ({"user": 4.0, "own": 4.0}, 0.0),
        ({"user": 3.99, "own": 4.0}, 0.0),
        ({"user": 5.0, "system": 0.5, "own": 4.0}, 0.75),
        ({"user": 4.0, "nice": 1.0, "own": 4.0}, 0.5),
        ({"user": 4.0, "steal": 1.0, "own": 4.0}, 0.5),
        ({"user": 4.0, "guest": 4.0, "idle": 4.0, "own": 4.0}, 0.0),
        ({"own": 4.0}, None),
    ],
)
def test_only_other_programs_are_counted(clocks, passed, cores):
    others = OtherPrograms()
    for clock, more in {"at": 2.0, **passed}.items():
        setattr(clocks, clock, getattr(clocks, clock) + more)
    assert others.passed_s() == 2.0
    found = others.busy_cores()
    assert found == (None if cores is None else pytest.approx(cores))


def test_another_busy_program_is_counted():
    others = OtherPrograms()
    busy = "import time; until = time.time() + 0.6\nwhile time.time() < until: pass"
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", busy], check=True)
    cores = others.busy_cores()
    assert cores is None or cores > 0.2 / (time.perf_counter() - started)
