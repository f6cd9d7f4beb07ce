"""Samples packed into batches that fill a memory budget and never exceed it.

Notation: n samples with F sizes each (nodes, edges, …), D limits.

A batch's upper footprint is the largest of a few affine functions of its summed sizes, one for each segment of a training
step. The batch stays within the budget if and only if, in every segment,

    Σ_samples rate · sizes  ≤  (budget − baseline) / (ratio · (1 + margin)) − base

The right-hand side is the part of the budget that samples share; the part that one sample takes of it is its *share*.
A cap on graphs and a cap on the predicted seconds of a step are shares as well. A batch fits if and only if, for every
limit, the shares of its samples sum to at most 1.

Batches are filled one after another. A batch begins with as many samples, in the given order, as fit. The last two of them
are put back. The next `window` samples, those two included, then offer pairs and single samples: the one that leaves the
smallest part of the budget unused is added, and again, until nothing fits. The order therefore changes little, and few
batches stay partly empty.

Five samples of 6, 3, 5, 4 and 1 nodes under a budget of 10 nodes:

>>> import numpy as np
>>> from compass.batching import Limits, pack
>>> from compass.records import Affine, BytesLaw
>>> law = BytesLaw(segments=(("step", Affine(base=0.0, per_unit=(("nodes", 1.0),))),))
>>> limits = Limits(law, budget_bytes=10.01, features=("nodes",))
>>> batches = pack(np.array([[6.0], [3.0], [5.0], [4.0], [1.0]]), np.arange(5), limits)
>>> [batch.tolist() for batch in batches]
[[0, 1, 4], [2, 3]]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compass.batching.padding import as_longest, buckets
from compass.errors import InputError
from compass.records import Affine, BytesLaw, Load
from compass.units import format_bytes

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]

WINDOW = 32
"""Samples ahead that may be moved forward: 528 pairs and singles, the best of which leaves a fraction of a per cent unused."""
_UNUSED_SHARE = 1e-9
"""Share of a limit that stays unused, so that rounding in another order of summation cannot exceed the limit."""


@dataclass(frozen=True)
class Limits:
    """The limits that every batch keeps.

    Attributes:
        law: predicts the memory of a batch from its summed sizes.
        budget_bytes: the largest upper footprint of a batch, in bytes.
        features: the names of the columns of sizes, as `law` and `time_law` use them.
        max_graphs: the most samples in a batch; None: no limit.
        time_law: predicts the seconds of a step from the summed sizes, e.g. a plan's `step_law`.
        max_step_s: the most seconds that `time_law` may predict; None: no limit.
        padded: features of which a batch holds the largest times its samples; only samples of like size then share a batch.

    Raises:
        InputError: an empty batch already exceeds a limit, `max_step_s` is given without `time_law`, or a law uses a
            feature that `features` lacks.
    """

    law: BytesLaw
    budget_bytes: float
    features: tuple[str, ...] = ("nodes", "edges")
    max_graphs: int | None = None
    time_law: Affine | None = None
    max_step_s: float | None = None
    padded: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        empty = Load(graphs=0, sizes=tuple((name, 0.0) for name in self.features))
        _check_features(self)
        _check_budget(self, empty)
        if self.max_graphs is not None and self.max_graphs < 1:
            raise InputError("max_graphs", got=str(self.max_graphs), expected="at least 1", fix="Correct it.")
        if self.max_step_s is not None:
            _check_step_time(self.max_step_s, self.time_law, empty)

    def shares(self, sizes: _Floats) -> _Floats:
        """The shares (D, n) that samples of `sizes` (n, F) take of each limit.

        Limits that another one implies for all these samples are left out, so that D depends on `sizes`. Noise can make a
        fitted rate negative; a share then counts as 0, because a batch that fits must still fit with one sample less.
        """
        rows = [self._memory_shares(piece, sizes) for _, piece in self.law.segments]
        if self.max_graphs is not None:
            rows.append(np.full(len(sizes), 1 / (self.max_graphs + 0.5)))  # half a graph more: counts need no rounding
        if self.time_law is not None and self.max_step_s is not None:
            shared_s = self.max_step_s * (1 - _UNUSED_SHARE) - self.time_law.base
            rows.append(sizes @ _rates(self.time_law, self.features) / shared_s)
        return _without_implied(np.maximum(np.array(rows), 0.0))

    def holds(self, sizes: _Floats, batch: _Indices) -> bool:
        """Whether a batch of these samples of `sizes` (n, F) keeps the limits, padded to the longest of them."""
        columns = [self.features.index(name) for name in self.padded]
        members = as_longest(sizes[batch], np.arange(len(batch)), columns)
        return bool((self.shares(members).sum(axis=1) <= 1).all())

    def _memory_shares(self, piece: Affine, sizes: _Floats) -> _Floats:
        """The shares (n,) of the live bytes that a segment's `piece` leaves to samples."""
        law = self.law
        live_bytes = (self.budget_bytes * (1 - _UNUSED_SHARE) - law.baseline_bytes) / law.footprint_ratio
        shared_bytes = live_bytes / (1 + law.margin_share) - piece.base
        return np.asarray(sizes @ _rates(piece, self.features) / shared_bytes, dtype=np.float64)


def pack(sizes: _Floats, order: _Indices, limits: Limits, *, window: int = WINDOW) -> list[_Indices]:
    """Batches within `limits` of the samples that `order` names; as a rule only the last batch stays partly empty.

    There are never more batches than filling them in the given order makes. The same arguments give the same batches.

    Args:
        sizes: (n, F), not negative; the columns are `limits.features`.
        order: (m,) indices of samples, each at most once, in the order in which they should be used.
        limits: the limits of every batch.
        window: how many samples ahead may be moved forward.

    Returns:
        For each batch the indices of its samples, in the order in which they were added.

    Raises:
        ValueError: a sample exceeds the limits by itself.
    """
    if limits.padded:
        return _pack_by_length(sizes, order, limits, window)
    shares = limits.shares(sizes)[:, order]
    too_large = (shares > 1).any(axis=0)
    if too_large.any():
        raise ValueError(f"{too_large.sum()} samples exceed the limits by themselves")
    in_order = _fill_in_order(shares)
    topped_up = _fill_topped_up(shares, window)
    # Moving a sample forward may spoil a later fit; only counting shows which way needs fewer batches.
    return [order[batch] for batch in (topped_up if len(topped_up) <= len(in_order) else in_order)]


def _pack_by_length(sizes: _Floats, order: _Indices, limits: Limits, window: int) -> list[_Indices]:
    """Batches of samples of like length, each counted as the longest of its bucket.

    Those that fill no batch join the next bucket, so that only the last batch of all stays partly empty.
    """
    columns = [limits.features.index(name) for name in limits.padded]
    summed = replace(limits, padded=())
    batches: list[_Indices] = []
    left = order[:0]
    for bucket in buckets(sizes[:, columns[0]], order):
        members = np.concatenate([left, bucket])
        *full, left = pack(as_longest(sizes, members, columns), members, summed, window=window)
        batches += full
    return [*batches, left] if len(left) else batches


def levels(batches: list[_Indices], shares: _Floats) -> _Floats:
    """The level (b,) of each batch: the largest of its summed `shares` (D, n); 1 is full."""
    return np.array([shares[:, batch].sum(axis=1).max() for batch in batches])


def without_idle(batches: list[_Indices], n_idle: int, epoch: int) -> tuple[list[_Indices], _Indices]:
    """(`batches` without `n_idle` batches of one sample, the indices of these samples); they rotate from epoch to epoch."""
    if n_idle <= 0:
        return batches, np.zeros(0, dtype=np.int64)
    singles = [place for place, batch in enumerate(batches) if len(batch) == 1]
    singles.sort(key=lambda place: batches[place][0])
    idle = {singles[(epoch * n_idle + turn) % len(singles)] for turn in range(n_idle)}
    kept = [batch for place, batch in enumerate(batches) if place not in idle]
    return kept, np.concatenate([batches[place] for place in idle])


def split_largest(batches: list[_Indices], n_batches: int, sizes: _Floats) -> list[_Indices]:
    """At least `n_batches` batches: the one with most samples is halved until there are as many.

    A batch is halved by taking every other sample in order of `sizes` (n,), so that both halves cost about the same.
    """
    while len(batches) < n_batches:
        largest = max(range(len(batches)), key=lambda place: len(batches[place]))
        by_size = batches[largest][np.argsort(sizes[batches[largest]], kind="stable")]
        batches = [*batches[:largest], by_size[::2], *batches[largest + 1 :], by_size[1::2]]
    return batches


def evened_out(
    batches: list[_Indices], least: int, shares: _Floats, holds: Callable[[_Indices], bool] | None = None
) -> list[_Indices]:
    """`batches`, of which each that has under `least` samples takes the lightest ones of those with most, as far as they fit.

    `shares` (D, n) are those of the budget; no batch becomes larger than the largest was. `holds` says whether a batch keeps the
    budget where shares alone do not, because members are padded.
    """
    found, weight = list(batches), shares.max(axis=0)
    for place in [place for place, batch in enumerate(found) if len(batch) < least]:
        while len(found[place]) < least:
            donors = [one for one in range(len(found)) if one != place and len(found[one]) > least]
            fitting = [
                (len(found[one]), -one, int(found[one][weight[found[one]].argmin()]))
                for one in donors
                if _fits(found[place], found[one][weight[found[one]].argmin()], shares)
            ]
            if holds is not None:
                fitting = [one for one in fitting if holds(np.append(found[place], one[-1]))]
            if not fitting:
                break
            _, donor, sample = max(fitting)
            found[-donor] = found[-donor][found[-donor] != sample]
            found[place] = np.append(found[place], sample)
    return found


def _fits(batch: _Indices, sample: int, shares: _Floats) -> bool:
    return bool((shares[:, batch].sum(axis=1) + shares[:, sample] <= 1).all())


# ------------------------------------------------------------------------------------------------------------- checks


def _check_features(limits: Limits) -> None:
    laws = [piece for _, piece in limits.law.segments]
    if limits.time_law is not None:
        laws.append(limits.time_law)
    missing = sorted({name for law in laws for name, _ in law.per_unit} - set(limits.features))
    if missing:
        raise InputError(
            "features",
            got=", ".join(limits.features) or "none",
            expected=f"{', '.join(missing)} among them",
            fix="Name the columns of the sizes as the law does.",
        )


def _check_budget(limits: Limits, empty: Load) -> None:
    fixed_bytes = limits.law.upper_footprint(empty)
    if limits.budget_bytes * (1 - _UNUSED_SHARE) <= fixed_bytes:
        raise InputError(
            "budget_bytes",
            got=format_bytes(limits.budget_bytes),
            fix="Raise the budget or choose a smaller model.",
            expected=f"more than the {format_bytes(fixed_bytes)} that the model takes without a graph",
        )


def _check_step_time(max_step_s: float, time_law: Affine | None, empty: Load) -> None:
    if time_law is None:
        raise InputError(
            "time_law",
            got="none beside max_step_s",
            expected="a law that predicts the seconds of a step",
            fix="Give one, or leave max_step_s out.",
        )
    if max_step_s * (1 - _UNUSED_SHARE) <= time_law.at(empty):
        raise InputError(
            "max_step_s",
            got=f"{max_step_s:.3g} s",
            fix="Raise it or choose a smaller model.",
            expected=f"more than the {time_law.at(empty):.3g} s that a step takes without a graph",
        )


# ------------------------------------------------------------------------------------------------------------- shares


def _rates(law: Affine, features: tuple[str, ...]) -> _Floats:
    """The cost (F,) of a unit of each feature; 0 where the law does not use it."""
    by_name = dict(law.per_unit)
    return np.array([by_name.get(name, 0.0) for name in features])


def _without_implied(shares: _Floats) -> _Floats:
    """The rows of `shares` (D, n) without those that nowhere exceed some other row."""
    kept: list[_Floats] = []
    for row in shares[np.argsort(-shares.sum(axis=1), kind="stable")]:  # a row that implies another has the larger sum
        if not any((row <= other).all() for other in kept):
            kept.append(row)
    return np.array(kept)


# ------------------------------------------------------------------------------------------------------------ filling


def _fill_in_order(shares: _Floats) -> list[_Indices]:
    """Columns of `shares` (D, n) as batches: a batch ends where the next sample does not fit."""
    filled, n, start = np.cumsum(shares, axis=1), shares.shape[1], 0
    batches = []
    while start < n:
        before = filled[:, start - 1] if start else np.zeros(len(filled))
        ends = [row.searchsorted(level + 1, side="right") for row, level in zip(filled, before, strict=True)]
        end = max(start + 1, int(min(ends)))
        batches.append(np.arange(start, end))
        start = end
    return batches


def _fill_topped_up(shares: _Floats, window: int) -> list[_Indices]:
    """Columns of `shares` (D, n) as batches, by the rule in the module's docstring."""
    queue = _Queue(shares, n_ahead=2 * window)
    pairs = np.triu_indices(window + 1, 1)  # the last place adds nothing: a pair with it is a single sample
    batches = []
    while len(queue):
        ahead, filled = queue.enough_for_a_batch()
        batches.append(queue.pop(_topped_up(ahead, filled, pairs, window)))
    return batches


class _Queue:
    """The columns of `shares` (D, n) that no batch has yet, in their order."""

    def __init__(self, shares: _Floats, n_ahead: int) -> None:
        self._shares, self._n_ahead = shares, n_ahead
        self._waiting: _Indices = np.arange(0)
        self._n_queued = 0

    def __len__(self) -> int:
        return len(self._waiting) + int(self._shares.shape[1]) - self._n_queued

    def enough_for_a_batch(self) -> tuple[_Floats, _Floats]:
        """(shares (D, w) of the next columns, their running sums (D, w)): more columns than fit into a batch, or all."""
        while True:
            self._look_ahead()
            ahead = self._shares[:, self._waiting]
            filled = np.cumsum(ahead, axis=1)
            if self._n_queued == self._shares.shape[1] or filled[:, -1].max() > 1:
                return ahead, filled
            self._n_ahead *= 2

    def pop(self, chosen: NDArray[np.bool_]) -> _Indices:
        """The columns at the places of `chosen` (w,), which wait no longer."""
        batch, self._waiting = self._waiting[chosen], self._waiting[~chosen]
        return batch

    def _look_ahead(self) -> None:
        n_more = max(0, self._n_ahead - len(self._waiting))
        end = min(self._shares.shape[1], self._n_queued + n_more)
        self._waiting = np.concatenate([self._waiting, np.arange(self._n_queued, end)])
        self._n_queued = end


def _topped_up(ahead: _Floats, filled: _Floats, pairs: tuple[_Indices, _Indices], window: int) -> NDArray[np.bool_]:
    """Which of the next columns (w,) make a batch: those that fit in order but the last two, and what then fits best.

    Args:
        ahead: (D, w) shares of the columns.
        filled: (D, w) their running sums.
        pairs: places within the window, see `_best_additions`.
        window: how many columns after the kept ones may be added.
    """
    n_fitting = int(np.searchsorted(filled.max(axis=0), 1.0, side="right"))
    if n_fitting == ahead.shape[1]:
        return np.ones(n_fitting, dtype=bool)
    n_kept = max(1, n_fitting - 2)
    chosen = np.arange(ahead.shape[1]) < n_kept
    chosen[n_kept + _best_additions(ahead[:, n_kept : n_kept + window], filled[:, n_kept - 1], pairs, window)] = True
    return chosen


def _best_additions(offered: _Floats, level: _Floats, pairs: tuple[_Indices, _Indices], window: int) -> _Indices:
    """Places of `offered` (D, w) to add to a batch at `level` (D,): the fullest fitting pair or single, until none fits.

    `pairs` are the two places of every pair among `window + 1`; the last place adds nothing.
    """
    candidates = np.full((len(offered), window + 1), np.inf)
    candidates[:, : offered.shape[1]] = offered
    candidates[:, window] = 0.0
    chosen: list[int] = []
    while (candidates[:, :window] <= (1 - level)[:, None]).all(axis=0).any():
        reached = candidates[:, pairs[0]] + candidates[:, pairs[1]] + level[:, None]
        fullest = reached.max(axis=0)
        best = int(np.where(fullest <= 1, fullest, -1).argmax())
        for place in (int(pairs[0][best]), int(pairs[1][best])):
            if place < window:
                chosen.append(place)
                candidates[:, place] = np.inf
        level = reached[:, best]
    return np.array(chosen, dtype=np.int64)
