"""The public package: its examples run, it imports little, and its old name still works."""

from __future__ import annotations

import ast
import doctest
import importlib
import sys
from pathlib import Path

import pytest

import compass.batching
from compass.batching import packing

ALLOWED = ("compass.batching", "compass.errors", "compass.records", "compass.units")


@pytest.mark.parametrize("module", [compass.batching, packing])
def test_the_examples_in_docstrings_are_true(module):
    found = doctest.testmod(module)
    assert found.attempted > 5
    assert found.failed == 0


def imported(path):
    """The modules that the file at `path` imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def test_batching_needs_only_records_errors_and_units():
    names = {name for path in Path(compass.batching.__file__).parent.glob("*.py") for name in imported(path)}
    ours = {name for name in names if name.startswith("compass")}
    assert ours
    assert [name for name in ours if not name.startswith(ALLOWED)] == []


def test_public_names():
    assert set(compass.batching.__all__) <= set(dir(compass.batching))
    assert compass.batching.pack is packing.pack
    with pytest.raises(AttributeError, match=r"^module 'compass\.batching' has no attribute 'bake'$"):
        _ = compass.batching.bake


def test_the_old_module_warns_and_still_works(monkeypatch):
    monkeypatch.delitem(sys.modules, "compass.data.batching", raising=False)
    with pytest.warns(
        DeprecationWarning, match=r"^compass\.data\.batching is deprecated: import from compass\.batching$"
    ):
        old = importlib.import_module("compass.data.batching")
    assert old.BudgetedBatchSampler is compass.batching.BudgetedBatchSampler
