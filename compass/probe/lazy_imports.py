"""Modules that PyTorch Geometric imports whole, and that describing a machine does without: two of a worker's four seconds.

They are loaded when something first looks into them, which `importlib.util.LazyLoader` sees to; in a worker of a family inside
only, for code that names a module within them (`import torch._dynamo.config`) would load that twice. Probes load them before
the first step, as training does.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import LazyLoader
from types import ModuleType
from typing import Literal, get_args

Readiness = Literal["describing", "probing", "training"]
"""What a worker has loaded everything for; each takes what the one before does, and more."""
DEFERRED = ("torch._dynamo", "torch_geometric.datasets")


class _Finder:
    """Finds what is `DEFERRED` as everything else is found, but loads it lazily."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Part of the protocol of `sys.meta_path`."""
        if name not in DEFERRED:
            return None
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = LazyLoader(spec.loader)
        return spec


def defer() -> None:
    """Have this process import `DEFERRED` lazily, as far as it has not imported it."""
    sys.meta_path.insert(0, _Finder())


def load_deferred() -> None:
    """Load what was deferred, if anything imported it."""
    for name in DEFERRED:
        vars(sys.modules.get(name, sys))


def holds(loaded: Readiness, ready: Readiness) -> bool:
    """Whether who has loaded everything for one is ready for the other."""
    order = get_args(Readiness)
    return bool(order.index(loaded) >= order.index(ready))
