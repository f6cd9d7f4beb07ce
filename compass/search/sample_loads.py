"""Loads of batches that the data can form: the typical batch for time, the worst batch for memory.

Notation: n samples, F features; `stands_for` = m complexes that every sample stands for. A dataset's samples are its complexes
(m = 1); where one complex stands for the data, a batch is copies of it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from compass.records import Batch, BytesLaw, Load
from compass.search.typical import TypicalBatches

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]

ALIKE = 0.05
"""Proportions of features that differ by less, in logarithms, are alike to a timing."""


@dataclass(frozen=True, eq=False)
class SampleLoads:
    """The samples and their loads."""

    samples: tuple[str, ...]
    """(n,) ids."""
    features: tuple[str, ...]
    sizes: _Floats
    """(n, F)"""
    stands_for: int = 1
    isolated: frozenset[str] = frozenset()
    """Samples that never share a batch, since they are so much larger than the rest that they would limit it."""
    seed: int = 0
    padded: tuple[str, ...] = ()
    """Features of which a batch holds the largest of its members times their number; batches are then made of samples of like size."""

    @property
    def differs(self) -> bool:
        """Whether the samples that share batches differ in size."""
        sizes = self.sizes[self._shared]
        return bool((sizes != sizes[0]).any())

    @property
    def n_shared(self) -> int:
        """Complexes that share batches."""
        return len(self._shared) * self.stands_for

    def typical(self, n_graphs: int) -> Batch:
        """A batch with a load near the mean batch's, in every feature."""
        return self._batch(self._near_mean(n_graphs))

    def contrasting(self, n_graphs: int) -> Batch:
        """Copies of the sample with the least usual proportion of features; the `typical` batch where all are alike.

        Batches of the usual proportion cannot tell the costs of the features apart.
        """
        return self.typical(n_graphs) if self._contrast is None else self._batch(np.full(n_graphs, self._contrast))

    def worst(self, n_graphs: int, law: BytesLaw) -> Batch:
        """The batch of `n_graphs` graphs with the largest predicted memory that the data can form."""
        heavy, (bases, rates) = self._heavy(n_graphs), self._pieces(law)
        orders = heavy[np.argsort(-(self.sizes[heavy] @ rates.T), axis=0, kind="stable").T]
        longest_first = [
            _with_first(order, int(self.sizes[order, column].argmax())) for order in orders for column in self._padded
        ]
        orders = np.array([*orders, *longest_first])
        batches = orders[:, self._copies(n_graphs, len(heavy))]
        totals = np.array([self._total(batch) for batch in batches])
        return self._batch(batches[int((bases + totals @ rates.T).max(axis=1).argmax())])

    def of_one_length(self, n_graphs: int) -> Batch | None:
        """A batch in which nothing is padded, of the longest samples of which the data have so many; None if there is none.

        Some code takes another path then: an LSTM over packed sequences holds twice as much.
        """
        if not self._padded or n_graphs < 2:
            return None
        lengths = self.sizes[self._by_length, self._padded[0]]
        firsts, counts = np.unique(lengths, return_index=True, return_counts=True)[1:]
        many = np.flatnonzero(counts * self.stands_for >= n_graphs)
        if not len(many):
            return None
        first = int(firsts[many[-1]])
        return self._members(self._by_length[first + self._copies(n_graphs, int(counts[many[-1]]))])

    def shared(self) -> tuple[tuple[str, ...], _Floats]:
        """The samples that share batches: ids, and sizes (n, F)."""
        return tuple(self.samples[i] for i in self._shared), self.sizes[self._shared]

    def alone(self, law: BytesLaw, budget_bytes: int) -> tuple[Batch | None, tuple[str, ...]]:
        """The isolated sample with the largest memory that fits the budget by itself, and the ids of those that do not fit."""
        needs = {name: law.upper_footprint(self._load(np.array([self._places[name]]))) for name in self.isolated}
        fitting = {name: need for name, need in needs.items() if need <= budget_bytes}
        too_large = tuple(sorted(name for name in needs if name not in fitting))
        return (Batch(members=((max(sorted(fitting), key=fitting.__getitem__), 1),)) if fitting else None), too_large

    def shuffled(self, n_graphs: int, n_batches: int) -> tuple[Batch, ...]:
        """Random batches, as training draws them."""
        rng = np.random.default_rng(self.seed)
        n_drawn = min(n_graphs, self.n_shared)
        return tuple(self._batch(self._drawn(rng, n_drawn)) for _ in range(n_batches))

    def typical_load(self, n_graphs: int) -> Load:
        """The load of `typical`."""
        return self._load(self._near_mean(n_graphs))

    def worst_load(self, n_graphs: int, law: BytesLaw) -> Load:
        """The load of `worst`."""
        return self.load(self.worst(n_graphs, law))

    def load(self, batch: Batch) -> Load:
        """The load of a batch of samples."""
        places = np.array([self._places[name] for name, _ in batch.members])
        return self._load(np.repeat(places, [copies for _, copies in batch.members]))

    def typical_sizes(self, n_graphs: _Indices) -> _Floats:
        """(k, F) mean sizes of batches of `n_graphs` (k,) graphs, which typical batches are near to."""
        return np.outer(n_graphs, self.sizes[self._shared].mean(axis=0))

    def upper_footprints(self, n_graphs: int, law: BytesLaw) -> _Floats:
        """(n_graphs,) upper footprint of the worst batches of 1, 2, … graphs."""
        heavy, (bases, rates) = self._heavy(n_graphs), self._pieces(law)
        padded = list(self._padded)
        summed = rates.copy()
        summed[:, padded] = 0.0
        weights = np.sort(self.sizes[heavy] @ summed.T, axis=0)[::-1]
        longest = self.sizes[heavy][:, padded].max(axis=0) @ rates[:, padded].T
        of_members = weights[self._copies(n_graphs, len(heavy))].cumsum(axis=0)
        live = np.maximum(0.0, (bases + of_members + np.outer(np.arange(1, n_graphs + 1), longest)).max(axis=1))
        upper = law.baseline_bytes + law.footprint_ratio * (1 + law.margin_share) * live
        return np.asarray(np.maximum.accumulate(upper))

    # --------------------------------------------------------------------------------------------------- the inside

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.samples)}

    @cached_property
    def _shared(self) -> _Indices:
        """Samples that are not isolated."""
        return np.array([i for i, name in enumerate(self.samples) if name not in self.isolated], dtype=np.int64)

    @cached_property
    def _from_mean(self) -> _Indices:
        """Samples by their distance from the mean of those that share batches, relative in every feature."""
        sizes = self.sizes[self._shared]
        mean = sizes.mean(axis=0)
        apart = np.abs(sizes / np.maximum(mean, 1e-9) - 1).max(axis=1)
        return self._shared[np.argsort(apart, kind="stable")]

    @cached_property
    def _contrast(self) -> int | None:
        """The sample whose features are in proportions most unlike the typical one's, and no larger; None if all are alike."""
        sizes, typical = self.sizes[self._shared], self.sizes[self._from_mean[0]]
        unlike = np.ptp(np.log(np.maximum(sizes, 1e-9) / np.maximum(typical, 1e-9)), axis=1)
        unlike *= (sizes <= typical).all(axis=1)  # one graph of a larger sample may take longer than a timing should
        for column in self._padded:  # copies of the shortest sample have none beside them that is shorter
            unlike *= sizes[:, column] > sizes[:, column].min()
        place = int(unlike.argmax())
        return int(self._shared[place]) if unlike[place] >= ALIKE else None

    @cached_property
    def _padded(self) -> tuple[int, ...]:
        """The columns of the padded features."""
        return tuple(self.features.index(name) for name in self.padded)

    @cached_property
    def _by_length(self) -> _Indices:
        """The samples that share batches by their first padded size."""
        return self._shared[np.argsort(self.sizes[self._shared, self._padded[0]], kind="stable")]

    def _drawn(self, rng: np.random.Generator, n_drawn: int) -> _Indices:
        """A random batch as training makes it: of any samples, or of neighbours in length where members are padded."""
        if not self._padded:
            return self._shared[rng.choice(self.n_shared, n_drawn, replace=False) // self.stands_for]
        first = int(rng.integers(self.n_shared - n_drawn + 1))
        return self._by_length[np.arange(first, first + n_drawn) // self.stands_for]

    def _with_a_shorter(self, places: _Indices) -> _Indices:
        """`places`, of which one is the next shorter sample if all are of one length: where nothing is padded, a model may hold other amounts."""
        lengths = self.sizes[:, self._padded[0]]
        n_shorter = int(np.searchsorted(lengths[self._by_length], lengths[places[0]]))
        if np.ptp(lengths[places]) > 0 or not n_shorter:
            return places
        return np.concatenate([places[:-1], self._by_length[n_shorter - 1 : n_shorter]])

    def _near_mean(self, n_graphs: int) -> _Indices:
        if self._padded:
            return self._from_mean[self._copies(n_graphs, len(self._from_mean))]
        return self._shared[self._typical.batch(n_graphs)]

    @cached_property
    def _typical(self) -> TypicalBatches:
        return TypicalBatches(self.sizes[self._shared], most_each=self.stands_for)

    @cached_property
    def _by_dominators(self) -> tuple[_Indices, _Indices]:
        """The samples that share batches, and how many others dominate each: are as large in every feature. Fewest first.

        Counted are the others whose worst place over the features comes before the sample's best place. That misses some, which
        only makes a candidate more, and takes a sort instead of a comparison of all pairs.
        """
        places = _places_by_size(self.sizes[self._shared])
        best, worst = places.min(axis=1), places.max(axis=1)
        n_dominators = np.searchsorted(np.sort(worst), best)
        fewest_first = np.argsort(n_dominators, kind="stable")
        return self._shared[fewest_first], n_dominators[fewest_first]

    def _heavy(self, n_graphs: int) -> _Indices:
        """The samples that a worst batch of `n_graphs` can hold: those that fewer samples dominate than the batch takes.

        Right as long as memory grows with every feature. It spares sorting all of a large dataset for every model.
        """
        samples, n_dominators = self._by_dominators
        n_taken = min(len(samples), -(-n_graphs // self.stands_for))
        return samples[: int(np.searchsorted(n_dominators, n_taken))]

    def _copies(self, n_graphs: int, n_samples: int) -> _Indices:
        """(n_graphs,) places in an order of samples, each as often as it stands for complexes, then from the start."""
        return (np.arange(n_graphs) // self.stands_for) % n_samples

    def _pieces(self, law: BytesLaw) -> tuple[_Floats, _Floats]:
        """The bytes of each of the law's S segments at a load of zero (S,), and those of each unit of the features (S, F)."""
        per_unit = [dict(piece.per_unit) for _, piece in law.segments]
        rates = np.array([[rates[name] for name in self.features] for rates in per_unit])
        return np.array([piece.base for _, piece in law.segments]), rates

    def _total(self, places: _Indices) -> _Floats:
        """(F,) of a batch."""
        total = self.sizes[places].sum(axis=0)
        for column in self._padded:
            total[column] = len(places) * self.sizes[places, column].max(initial=0.0)
        return np.asarray(total)

    def _load(self, places: _Indices) -> Load:
        sizes = tuple(zip(self.features, map(float, self._total(places)), strict=True))
        return Load(graphs=len(places), sizes=sizes, padded=self.padded)

    def _batch(self, places: _Indices) -> Batch:
        if self._padded and len(places) > 1:
            places = self._with_a_shorter(places)
        return self._members(places)

    def _members(self, places: _Indices) -> Batch:
        found, counts = np.unique(places, return_counts=True)
        return Batch(members=tuple((self.samples[i], int(n)) for i, n in zip(found, counts, strict=True)))


def _with_first(order: _Indices, place: int) -> _Indices:
    """`order` with what stands at `place` moved to its start."""
    return np.concatenate([order[place : place + 1], np.delete(order, place)])


def _places_by_size(sizes: _Floats) -> _Indices:
    """(n, F) each sample's place in the order of falling size, for every feature; 0 is the largest."""
    return np.argsort(np.argsort(-sizes, axis=0, kind="stable"), axis=0, kind="stable")


def make_sample_loads(
    samples: Sequence[tuple[str, Load]], n_complexes: int, isolated: Collection[str] = (), seed: int = 0
) -> SampleLoads:
    """The work of `samples` that are, or stand for, `n_complexes`."""
    features = tuple(name for name, _ in samples[0][1].sizes)
    return SampleLoads(
        samples=tuple(name for name, _ in samples),
        features=features,
        sizes=np.array([[load[name] for name in features] for _, load in samples]),
        stands_for=max(1, -(-n_complexes // len(samples))),
        isolated=frozenset(isolated),
        seed=seed,
        padded=samples[0][1].padded,
    )
