"""Probes and training make the same step: there is no other."""

import ast
from pathlib import Path

import compass

ROOT = Path(compass.__file__).parent
STEP = ROOT / "workloads" / "step.py"
MANUAL = ROOT / "workloads" / "lightning_step.py"
"""Gives a LightningModule that optimizes manually its `manual_backward`, and calls its `training_step`."""
CALLERS = {ROOT / "probe" / "measure.py", ROOT / "training" / "updates.py"}


def calls(path, name):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = [
        getattr(node.func, "attr", getattr(node.func, "id", ""))
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]
    return names.count(name)


def test_probes_and_training_call_the_one_step():
    assert {path for path in ROOT.rglob("*.py") if calls(path, "training_step")} == CALLERS | {MANUAL}


def test_nobody_else_goes_backward():
    assert {path for path in ROOT.rglob("*.py") if calls(path, "backward")} == {MANUAL, STEP}


def test_both_make_their_optimizer_alike():
    makers = {ROOT / "probe" / "measure.py", ROOT / "training" / "module.py"}
    assert {path for path in ROOT.rglob("*.py") if calls(path, "make_optimizer")} == makers
