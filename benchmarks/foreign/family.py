"""A model family in a few numbers: what a layer computes and keeps for each unit of each feature.

Notation: F features; `sizes` (n, F) of n batches; C channels, L layers, P parameters. Elements have four bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compass.records import Knobs

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """Rates of one layer. All tuples have a number for each feature."""

    features: tuple[str, ...]
    products: tuple[float, ...]
    """Rows of C × C matrix products per unit."""
    passes: tuple[float, ...]
    """Elements read or written per unit and channel, forward."""
    flat_passes: tuple[float, ...]
    """The same, whatever the channels."""
    kept: tuple[float, ...]
    """Elements kept for the backward pass, per unit and channel."""
    flat_kept: tuple[float, ...]
    """The same, whatever the channels."""
    forward_spare: tuple[float, ...]
    """Elements held only while a layer runs forward, per unit and channel."""
    backward_spare: tuple[float, ...]
    """The same while it runs backward."""
    entry: tuple[float, ...]
    """Elements that a checkpointed layer keeps of its input, per unit and channel."""
    input: tuple[float, ...]
    """Elements of the batch itself, per unit."""
    backward_work: float
    """Work of the backward pass / that of the forward pass."""
    recompute_work: float
    """Work of a second forward pass / that of the first."""
    kernels: int
    """Kernels of a layer, forward."""
    square: float
    """Parameters of a layer per C²."""
    linear: float
    """Parameters of a layer per C."""
    embedding: float
    """Parameters outside the layers per C."""
    head: float
    """Parameters outside the layers per C²."""
    update_spare: float
    """Elements that the weight update holds beyond gradients, per parameter."""

    def parameters(self, knobs: Knobs) -> int:
        """Trainable parameters."""
        depth, width = knobs.layers, knobs.channels
        return round(
            depth * (self.square * width**2 + self.linear * width) + self.embedding * width + self.head * width**2 + 1
        )

    def amount(self, rates: tuple[float, ...], sizes: Floats) -> Floats:
        """(n,) Σ rate · size."""
        return np.asarray(sizes @ np.array(rates))


def draw_family(rng: np.random.Generator, features: tuple[str, ...]) -> Family:
    """A family of message passing; features beyond nodes and edges cost and keep little per unit, for they are many."""
    many = len(features) - 2

    def rates(
        node: tuple[float, float], edge: tuple[float, float], more: tuple[float, float] = (0, 0)
    ) -> tuple[float, ...]:
        return (rng.uniform(*node), rng.uniform(*edge), *(rng.uniform(*more) for _ in range(many)))

    return Family(
        features=features,
        products=rates((6, 24), (0.2, 3), (0, 0.05)),
        passes=rates((20, 80), (12, 50), (0.2, 1)),
        flat_passes=rates((0, 40), (20, 120), (4, 16)),
        kept=rates((10, 40), (3, 14), (0.02, 0.2)),
        flat_kept=rates((0, 20), (4, 60), (1, 6)),
        forward_spare=rates((4, 20), (1, 6), (0.01, 0.1)),
        backward_spare=rates((6, 40), (2, 10), (0.02, 0.2)),
        entry=rates((4, 5), (0, 1)),
        input=rates((4, 8), (6, 40), (1, 3)),
        backward_work=rng.uniform(1.7, 2.4),
        recompute_work=rng.uniform(0.9, 1.1),
        kernels=int(rng.integers(40, 160)),
        square=rng.uniform(8, 20),
        linear=rng.uniform(30, 120),
        embedding=rng.uniform(150, 500),
        head=rng.uniform(0.5, 3),
        update_spare=rng.uniform(0, 1.2),
    )
