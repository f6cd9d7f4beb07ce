"""The cost models of one of several ranks: those of a process that trains alone, and what ranks add."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compass.cost.models import CostModels
from compass.records import Allocator, BytesLaw, Knobs, RankCosts


@dataclass(frozen=True)
class RankedCosts(CostModels):
    """Memory and time of a rank. Spreads are those of the models of a single process."""

    ranks: RankCosts
    capacities: Mapping[Knobs, int]
    """Trainable parameters, of which DDP holds buckets and which are averaged."""

    @classmethod
    def of(cls, alone: CostModels, ranks: RankCosts, capacities: Mapping[Knobs, int]) -> RankedCosts:
        """The models of a rank, of those of a process that trains alone."""
        return cls(alone.memory, alone.footprint, alone.time, alone.allocators, ranks, capacities)

    def _made_law(self, knobs: Knobs, allocator: Allocator) -> BytesLaw:
        """The memory of `knobs` as a function of the load of one rank."""
        law = super()._made_law(knobs, allocator)
        return law.in_ranks(self.capacities.get(knobs, 0), self.ranks.host_bytes)

    def step_s(
        self, knobs: Knobs, capacity: int, sizes: NDArray[np.float64], allocator: Allocator | None = None
    ) -> NDArray[np.float64]:
        """Predicted seconds of a step (n,) of ranks that all have `sizes` (n, features)."""
        alone_s = super().step_s(knobs, capacity, sizes, allocator)
        return alone_s * self.ranks.slowdown + self.ranks.sync_of(capacity, self.ranks.n_ranks)
