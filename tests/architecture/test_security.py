"""What SECURITY.md promises: code comes from workloads, models that the user gave, and `.py` configurations; from no other file."""

import ast
from pathlib import Path

import pytest
import torch

import compass
from compass.errors import InputError
from compass.training.checkpoints import read_checkpoint

ROOT = Path(compass.__file__).parent
RUNS_CODE = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "exec_module",
    "run_path",
    "run_module",
    "unsafe_load",
    "full_load",
}
BY_DESIGN = {"registry.py": {"exec_module"}, "config_files.py": {"run_path"}}
"""Workloads and `.py` configurations."""


def calls(path):
    """(name, the call) of every plain function and of every method called in `path`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            plain = isinstance(node.func, ast.Name)
            yield node.func.id if plain else getattr(node.func, "attr", ""), plain, node


def test_code_from_files_runs_in_two_places_only():
    methods = {"compile", "eval"}  # re.compile, model.eval
    found = {
        (path.name, name)
        for path in ROOT.rglob("*.py")
        for name, plain, _ in calls(path)
        if name in RUNS_CODE and (plain or name not in methods)
    }
    assert found == {(file, name) for file, names in BY_DESIGN.items() for name in names}


def test_only_the_file_of_a_model_is_a_pickle():
    imported = {
        (path.name, alias.name)
        for path in ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in [*node.names, ast.alias(getattr(node, "module", None) or "")]
    }
    pickles = {"pickle", "cPickle", "dill", "joblib", "shelve", "cloudpickle"}
    assert {(file, name) for file, name in imported if name in pickles} == {
        ("model_file.py", "pickle"),
        ("model_file.py", "cloudpickle"),
    }


def test_every_checkpoint_is_loaded_as_weights_only():
    loads = [
        {keyword.arg: keyword.value for keyword in node.keywords}
        for path in ROOT.rglob("*.py")
        for name, _, node in calls(path)
        if name == "load" and getattr(getattr(node.func, "value", None), "id", "") == "torch"
    ]
    assert loads
    assert all(getattr(keywords.get("weights_only"), "value", None) is True for keywords in loads)


class Payload:
    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return Path.touch, (self.trace,)


def test_a_checkpoint_with_code_in_it_is_refused_and_runs_nothing(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "crafted.ckpt"
    torch.save({"format": 1, "order": Payload(trace)}, path)
    with pytest.raises(InputError, match="cannot be read"):
        read_checkpoint(path)
    assert not trace.exists()
    torch.load(path, weights_only=False)  # the payload is a working one
    assert trace.exists()
