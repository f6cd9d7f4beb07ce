"""Batches of real samples whose load is near the mean batch's in every feature.

Samples near the mean would not do: where a feature is convex in the size, as nodes² is, its mean lies above that of a sample of mean
size, and only a large sample among some small ones has both means.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]

POOL, LONGEST = 2_000, 1_025
"""Samples, evenly over the sizes, that batches are made of, and the graphs after which their order starts anew."""
GROUP, N_GROUPS, DRIFT = 4, 500, 0.01
"""Samples in a group, groups that are tried, and the share of the mean beyond which they are."""


class TypicalBatches:
    """Batches of `sizes` (n, F), of which each may be taken `most_each` times before all are taken again.

    There is one order of samples for all batches: the sample nearest to the mean, then groups that bring the sum back to the mean. A
    batch is as many whole groups as it holds, and a remainder that is found for it.
    """

    def __init__(self, sizes: _Floats, *, most_each: int) -> None:
        mean = sizes.mean(axis=0)
        relative = sizes[:, mean > 0] / mean[mean > 0]
        by_size = np.argsort(relative.sum(axis=1), kind="stable")
        n_pool = min(POOL, len(by_size))
        self._pool = np.sort(by_size[np.linspace(0, len(by_size) - 1, n_pool).round().astype(np.int64)])
        self._relative, self._most_each = relative[self._pool], most_each
        self._order: list[int] = []
        while len(self._order) < min(n_pool * most_each, LONGEST):
            n_next = min(GROUP, n_pool * most_each - len(self._order)) if self._order else 1
            self._order += self._next(self._order, n_next)

    def batch(self, n_graphs: int) -> _Indices:
        """(n_graphs,) places of the samples of a batch."""
        rounds, n_graphs = divmod(n_graphs, len(self._order))
        n_whole = 1 + (n_graphs - 1) // GROUP * GROUP if n_graphs > GROUP else int(n_graphs == 1)
        whole = self._order[:n_whole]
        last = whole + self._next(whole, n_graphs - n_whole)
        return self._pool[np.array(self._order * rounds + last, dtype=np.int64)]

    def _next(self, before: list[int], n_next: int) -> list[int]:
        """The `n_next` samples after those `before` that bring the sum near the mean batch's: one by one, or as a group."""
        relative, n_graphs = self._relative, len(before) + n_next
        total = relative[before].sum(axis=0)
        left = self._most_each - np.bincount(before, minlength=len(relative)) if before else self._all()
        found = self._one_by_one(left, total, n_next, len(before))
        least = _off(total + relative[found].sum(axis=0, keepdims=True), n_graphs).min(initial=np.inf)
        if n_next < 2 or least <= DRIFT * n_graphs:
            return found
        groups = np.random.default_rng(n_graphs).integers(len(relative), size=(N_GROUPS, n_next))
        is_distinct = (np.diff(np.sort(groups, axis=1), axis=1) > 0).all(axis=1)
        groups = groups[(left[groups] > 0).all(axis=1) & (is_distinct | (left[groups] >= n_next).all(axis=1))]
        off = _off(total + relative[groups].sum(axis=1), n_graphs)
        return groups[int(off.argmin())].tolist() if len(off) and off.min() < least else found

    def _all(self) -> _Indices:
        return np.full(len(self._relative), self._most_each)

    def _one_by_one(self, left: _Indices, total: _Floats, n_next: int, n_before: int) -> list[int]:
        left, found = left.copy(), list[int]()
        for n_graphs in range(n_before + 1, n_before + n_next + 1):
            off = np.where(left > 0, _off(total + self._relative, n_graphs), np.inf)
            found.append(int(off.argmin()))
            left[found[-1]] -= 1
            total = total + self._relative[found[-1]]
        return found


def _off(totals: _Floats, n_graphs: int) -> _Floats:
    """(n,) how far sums (n, F) are from that of so many mean samples, in the feature in which they are farthest."""
    return np.asarray(np.abs(totals - n_graphs).max(axis=1, initial=0.0))
