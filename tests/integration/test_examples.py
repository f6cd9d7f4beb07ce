"""Every example runs, as a reader would run it."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HOME = Path(__file__).parents[2] / "examples"
NEEDS = {"chemprop_smiles": "chemprop", "mace_molecules": "mace"}
"""Packages that not everybody has; CI installs them (the extra `examples`)."""
LONG = {*NEEDS, "public_models"}
"""Minutes each, so that they do not run in `make test`."""
TAUGHT = {"optimize"}
"""Of the transformer: the commands of the tutorial, which CI runs, plan the same model with fewer probes. `make examples` runs it as it is."""
SCRIPTS = [*sorted(HOME.glob("*.py")), HOME / "transformer" / "train.py", HOME / "transformer" / "optimize.py"]
ADDED_LINES = 25


def arguments(path):
    marks = [pytest.mark.slow, pytest.mark.harness] if path.stem in LONG else []
    marks += [pytest.mark.docs] if path.stem in TAUGHT else []
    return pytest.param(path, id=path.stem, marks=marks)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("example", map(arguments, SCRIPTS))
def test_example(example):
    package = NEEDS.get(example.stem)
    if package is not None and importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    ran = subprocess.run([sys.executable, example], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout


def test_the_transformer_needs_few_added_lines():
    """All that is added to its training script, without the docstring and blank lines."""
    text = (HOME / "transformer" / "workload.py").read_text()
    code = text.split('"""', 2)[2]
    assert len([line for line in code.splitlines() if line.strip()]) <= ADDED_LINES
