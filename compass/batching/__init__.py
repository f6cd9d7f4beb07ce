"""Batches limited by bytes: packing, and a sampler for PyTorch's loaders.

The names below are imported when first used, because the sampler needs torch and packing does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compass.batching.packing import Limits, TimeLaw, pack
    from compass.batching.sampler import BudgetedBatchSampler

__all__ = ["BudgetedBatchSampler", "Limits", "TimeLaw", "pack"]

_MODULES = {"BudgetedBatchSampler": "sampler", "Limits": "packing", "TimeLaw": "packing", "pack": "packing"}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
