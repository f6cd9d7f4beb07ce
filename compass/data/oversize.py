"""The few complexes that are much larger than the rest, and what becomes of them before a model is chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compass.data.rows import Row


def oversize(rows: Sequence[Row], share: float) -> tuple[str, ...]:
    """The ids of the largest `share` of `rows`, rounded down, largest first.

    Size is the larger of atoms and edges, each relative to the mean; of rows that are level with the largest that stays,
    none is oversize.
    """
    n_most = math.floor(share * len(rows))
    if n_most == 0:
        return ()
    sizes = np.array([[size for _, size in row.sizes] for row in rows])
    relative = (sizes / sizes.mean(axis=0)).max(axis=1)
    order = sorted(range(len(rows)), key=lambda i: (-relative[i], rows[i].id))
    limit = relative[order[n_most]]
    return tuple(rows[i].id for i in order[:n_most] if relative[i] > limit)


def size_limit(rows: Sequence[Row], beyond: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The largest atoms and edges among `rows` without those `beyond`: what a cropped complex is brought under."""
    left = set(beyond)
    sizes = np.array([[size for _, size in row.sizes] for row in rows if row.id not in left])
    names = [name for name, _ in rows[0].sizes]
    return tuple(zip(names, map(float, sizes.max(axis=0)), strict=True))
