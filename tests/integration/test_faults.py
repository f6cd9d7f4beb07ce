"""The bounded part of `make faults`: some faults of the quick commands, in processes like those of a user."""

import json
import subprocess
import sys

import pytest


@pytest.mark.harness
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_nothing_is_lost_after_some_faults(tmp_path):
    command = [sys.executable, "-m", "benchmarks.faults", "--quick"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=280)
    assert done.stdout.endswith("}\n"), done.stdout[-4000:] + done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["losses"] == 0, done.stdout[-8000:]
    assert done.returncode == 0
    assert found["faults"] >= 20
