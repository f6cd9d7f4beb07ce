"""Variable-size batches filled up to a memory budget, for any PyTorch loader that takes a `batch_sampler`.

A fixed batch size must suit the worst batch that may occur. A budgeted batch fixes the memory instead of the count: it
takes as many samples as the budget allows, by a law that predicts the memory of a batch from its summed sizes.

A profile holds the law of every plan (`profile.plans["production"].bytes_law`). It can also be written by hand.

Examples:
    A model takes 100 bytes, and each sample another byte for every node:

    >>> import numpy as np
    >>> from compass.batching import BudgetedBatchSampler
    >>> from compass.records import Affine, BytesLaw
    >>> law = BytesLaw(segments=(("step", Affine(base=100.0, per_unit=(("nodes", 1.0),))),))
    >>> sizes = np.array([[60.0], [30.0], [50.0], [40.0], [10.0]])  # (n samples, F features)
    >>> sampler = BudgetedBatchSampler(sizes, law, budget_bytes=201.0, features=("nodes",), shuffle=False)
    >>> list(sampler)
    [[0, 1, 4], [2, 3]]
    >>> [law.upper_footprint(sampler.load(batch)) for batch in sampler]
    [200.0, 190.0]

`DataLoader(dataset, batch_sampler=sampler)` then yields these batches. Divide a batch's summed loss by
`sampler.mean_graphs`, not by its own length: every sample then has the same weight.

The names below are imported when first used, because the sampler needs torch and packing does not.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compass.batching.packing import Limits, pack
    from compass.batching.sampler import BudgetedBatchSampler
    from compass.batching.unequal import UnequalBatches, loss_weight

__all__ = ["BudgetedBatchSampler", "Limits", "UnequalBatches", "loss_weight", "pack"]

_MODULES = {
    "BudgetedBatchSampler": "sampler",
    "Limits": "packing",
    "UnequalBatches": "unequal",
    "loss_weight": "unequal",
    "pack": "packing",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
