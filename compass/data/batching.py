"""Deprecated: import from `compass.batching`. This alias goes with the release after 0.2."""

import warnings

from compass.batching.sampler import BudgetedBatchSampler

__all__ = ["BudgetedBatchSampler"]

warnings.warn("compass.data.batching is now compass.batching", DeprecationWarning, stacklevel=2)
