"""The bounded part of `python -m benchmarks.fuzz`: every reader, some hundred inputs each, and all special ones."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.harness
def test_no_reader_breaks_a_rule():
    done = subprocess.run(
        [sys.executable, "-P", "-m", "benchmarks.fuzz", "--quick"],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    figures = json.loads(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout
    assert figures["inputs"] >= 12_000
    assert not any(figures[kind] for kind in ("raw", "made up", "message", "hung", "memory", "died"))
    assert all(row.get("read") for row in figures["readers"].values()), "a reader that reads nothing tests nothing"
