"""What a batch of the data at hand is: typical for time, worst for memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compass.records import Batch, Load


@dataclass(frozen=True)
class Work:
    """The data, as far as one sample stands for it: every batch is copies of that sample."""

    sample: str
    load: Load
    """Of one copy."""

    def typical(self, n_graphs: int) -> Batch:
        """A batch whose time is the mean batch's."""
        return Batch(members=((self.sample, n_graphs),))

    def worst(self, n_graphs: int) -> Batch:
        """The batch of so many graphs that holds most memory."""
        return self.typical(n_graphs)

    def shuffled(self, n_graphs: int, n_batches: int) -> tuple[Batch, ...]:
        """Batches as training would meet them."""
        return (self.typical(n_graphs),) * n_batches

    def typical_load(self, n_graphs: int) -> Load:
        """The load of `typical`."""
        return self.load * n_graphs

    def worst_load(self, n_graphs: int) -> Load:
        """The load of `worst`."""
        return self.typical_load(n_graphs)

    def typical_sizes(self, n_graphs: NDArray[np.int64]) -> NDArray[np.float64]:
        """(n, features) sizes of typical batches of `n_graphs` (n,) graphs."""
        return np.asarray(n_graphs[:, None] * np.array([size for _, size in self.load.sizes]), dtype=np.float64)
