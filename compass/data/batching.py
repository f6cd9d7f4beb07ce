"""Deprecated alias of `compass.batching`; it will be removed in the release after 0.2."""

import warnings

from compass.batching.sampler import BudgetedBatchSampler

__all__ = ["BudgetedBatchSampler"]

warnings.warn("compass.data.batching is deprecated: import from compass.batching", DeprecationWarning, stacklevel=2)
