"""Batches whose members are padded to the longest: samples of like length share them.

A padded batch holds longest × count, which is no sum over its members. It becomes one where every sample counts as the longest of
those that it may share a batch with.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]

BUCKET = 1.1
"""Longest over shortest in a bucket, at most. Half of a tenth is then padding at the mean."""


def buckets(lengths: _Floats, order: _Indices) -> Iterator[_Indices]:
    """`order`, indices into `lengths` (n,), cut into groups of like length, the shortest first; each keeps the order."""
    of_order = lengths[order]
    if len(order) == 0:
        return
    place = np.floor(np.log(np.maximum(of_order, 1.0)) / np.log(BUCKET)).astype(np.int64)
    for one in np.unique(place):
        yield order[place == one]


def as_longest(sizes: _Floats, members: _Indices, columns: list[int]) -> _Floats:
    """`sizes` (n, F) with the padded `columns` of `members` at the largest of theirs: an upper bound of every batch of them."""
    padded = sizes.copy()
    for column in columns:
        padded[members, column] = sizes[members, column].max(initial=0.0)
    return padded
