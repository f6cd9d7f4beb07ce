"""What PyG imports and describing does without."""

import subprocess
import sys

import pytest

from compass.probe.lazy_imports import holds

STORY = """
import sys
from importlib.util import _LazyModule
from compass.probe.lazy_imports import DEFERRED, defer, load_deferred
defer()
load_deferred()  # nothing imported any of them
import torch_geometric
assert [type(sys.modules[name]) is _LazyModule for name in DEFERRED] == [True, True]
load_deferred()
assert [type(sys.modules[name]) is _LazyModule for name in DEFERRED] == [False, False]
print(sys.modules["torch._dynamo"].OptimizedModule.__name__, torch_geometric.datasets.QM9.__name__)
"""


@pytest.mark.slow
def test_it_is_loaded_when_asked_for_and_not_before():
    done = subprocess.run([sys.executable, "-c", STORY], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "OptimizedModule QM9\n"), done.stderr


@pytest.mark.parametrize(
    ("loaded", "ready", "enough"),
    [("describing", "describing", True), ("describing", "probing", False), ("training", "probing", True)],
)
def test_who_is_ready_for_more_is_ready_for_less(loaded, ready, enough):
    assert holds(loaded, ready) is enough
