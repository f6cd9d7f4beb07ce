"""Lazy imports of modules that PyTorch Geometric loads and a description does not need: two of a worker's four seconds.

`importlib.util.LazyLoader` loads a module when one of its attributes is first read. Only workers of a built-in family do this:
other code may import a submodule by name (`import torch._dynamo.config`), which would then be loaded twice. Probes load the
modules before the first step, as training does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Literal, get_args

Readiness = Literal["describing", "probing", "training"]
"""How much a worker has loaded. Each level includes the one before."""
DEFERRED = ("torch._dynamo", "torch_geometric.datasets")


class _Finder:
    """Finds the modules in `DEFERRED` like any other, but loads them lazily."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`."""
        if name not in DEFERRED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def defer() -> None:
    """Make this process import `DEFERRED` lazily, except for modules that are already imported."""
    sys.meta_path.insert(0, _Finder())


def load_deferred() -> None:
    """Load the deferred modules that were imported."""
    for name in DEFERRED:
        vars(sys.modules.get(name, sys))


def holds(loaded: Readiness, ready: Readiness) -> bool:
    """Whether a worker at the level `loaded` is ready for `ready`."""
    order = get_args(Readiness)
    return bool(order.index(loaded) >= order.index(ready))
