"""Batches for ranks that differ: each gets a load in proportion to its speed, within its own memory.

Ranks that step together wait for the slowest. With equal batches an old card sets the pace of a new one; here all need about the
same time. A rank's mean loss then has to be weighted by its share of the graphs (`loss_weight`), because DDP averages ranks equally.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from compass.batching.packing import Limits
from compass.errors import InputError
from compass.records import Affine, BytesLaw, Load, RankShare
from compass.units import format_bytes

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]

CHUNK_STEPS = 8
"""Steps whose samples are dealt out together: enough to balance the largest ones, few enough to leave the order random."""
SPARE = 1.05
"""Factor on the number of steps when the samples do not fit into fewer."""
ATTEMPTS = 8
"""Orders tried in an epoch before the batches of the first epoch are used again."""


def loss_weight(n_local: int, n_global: int, n_ranks: int) -> float:
    """The weight of a rank's mean loss, with which the mean over ranks is the gradient of the mean over all graphs of a step.

    Of two ranks with three graphs and one:

    >>> loss_weight(3, 4, 2), loss_weight(1, 4, 2)
    (1.5, 0.5)
    """
    return n_local * n_ranks / n_global


@dataclass(frozen=True)
class _Bins:
    """The batches of some steps while they are filled; bin `step · R + rank`."""

    shares: tuple[_Floats, ...]
    """(D, n) shares of each rank's memory, by rank."""
    seconds: _Floats
    """(n,) of each sample, at speed 1."""
    targets: _Floats
    """(b,) seconds at speed 1 that each bin should hold."""
    least: int
    """The fewest samples in each."""

    def deal(self, chunk: _Indices) -> tuple[list[list[int]], list[int]]:
        """The samples `chunk` by bin, and those that fit into none: the longest first, each into the bin that is least full."""
        n_ranks = len(self.shares)
        filled, levels = [np.zeros(len(self.shares[b % n_ranks])) for b in range(len(self.targets))], self.targets * 0
        bins: list[list[int]] = [[] for _ in self.targets]
        left: list[int] = []
        for n_dealt, sample in enumerate(chunk[np.argsort(-self.seconds[chunk], kind="stable")]):
            after = levels + self.seconds[sample] / self.targets
            # The last and smallest samples are for the batches that have too few yet: every rank takes part in every step.
            lacking = {place: self.least - len(batch) for place, batch in enumerate(bins) if len(batch) < self.least}
            is_short = len(chunk) - n_dealt <= sum(lacking.values())
            open_bins = np.array([*lacking]) if is_short else np.arange(len(bins))
            for place in open_bins[np.argsort(after[open_bins], kind="stable")]:
                share = filled[place] + self.shares[place % n_ranks][:, sample]
                if (share <= 1).all():
                    filled[place], levels[place] = share, after[place]
                    bins[place].append(int(sample))
                    break
            else:
                left.append(int(sample))
        return bins, left


class UnequalBatches:
    """Every sample once each epoch, in steps of one batch per rank; equal arguments give equal batches on every rank.

    Args:
        sizes: (n, F) of every sample.
        law: predicts the memory of the model that is trained, on any of the ranks.
        time_law: predicts the seconds of a step on a rank of speed 1.
        shares: what each rank may hold, and how fast it is.
        features: the names of the columns of `sizes`.
        ids: (n) names of the samples in messages; default: their indices.
        max_graphs: the most samples in a batch of any rank.
        min_graphs: the fewest.
        leave_out: whether samples that fit no rank are in no batch (see `left_out`); else they are an error.
        seed: of the orders.

    Raises:
        InputError: there are too few samples for the ranks, or one that fits no rank.

    Attributes:
        sizes: (n, F) of every sample.
        left_out: ids of the samples that are in no batch.
        n_steps: of every epoch.
    """

    def __init__(  # noqa: PLR0913 - one call describes the batches completely
        self,
        sizes: ArrayLike,
        law: BytesLaw,
        time_law: Affine,
        shares: Sequence[RankShare],
        *,
        features: tuple[str, ...] = ("nodes", "edges"),
        ids: Sequence[str] | None = None,
        max_graphs: int | None = None,
        min_graphs: int = 1,
        leave_out: bool = False,
        seed: int = 0,
    ) -> None:
        self.sizes = np.array(sizes, dtype=np.float64)
        self._ranks, self._seed, self._features, self._least = tuple(shares), seed, features, min_graphs
        self._ids = tuple(map(str, range(len(self.sizes)))) if ids is None else tuple(ids)
        limits = [Limits(law, one.budget_bytes, features, max_graphs) for one in self._ranks]
        self._shares = tuple(one.shares(self.sizes) for one in limits)
        nowhere = np.all([(share > 1).any(axis=0) for share in self._shares], axis=0)
        self._used = np.flatnonzero(~nowhere)
        self.left_out = tuple(self._ids[place] for place in np.flatnonzero(nowhere))
        self._check(leave_out=leave_out)
        rates = np.array([dict(time_law.per_unit).get(name, 0.0) for name in features])
        self._base_s = time_law.base
        # A sample that costs nothing would be dealt out without end to the same rank.
        self._seconds = np.maximum(self.sizes @ rates, 1e-9 * max(1e-9, time_law.base))
        self.n_steps = self._fewest_steps()

    def __len__(self) -> int:
        """Batches of each rank in every epoch."""
        return self.n_steps

    @property
    def mean_graphs(self) -> float:
        """Samples in the mean batch, over all ranks."""
        return len(self._used) / (self.n_steps * len(self._ranks))

    @property
    def mean_load(self) -> Load:
        """The mean load of an epoch's batches, over all ranks; its number of graphs is rounded."""
        summed = self.sizes[self._used].sum(axis=0) / (self.n_steps * len(self._ranks))
        return Load(graphs=round(self.mean_graphs), sizes=tuple(zip(self._features, map(float, summed), strict=True)))

    @property
    def mean_step_s(self) -> float:
        """The predicted seconds of the mean step, whose slowest rank counts."""
        return float(np.mean([self.step_s(step).max() for step in self.steps(0)]))

    def steps(self, epoch: int) -> list[list[_Indices]]:
        """The batches of all ranks: `steps(epoch)[step][rank]` holds sample indices."""
        for attempt in range(ATTEMPTS):
            found = self._dealt(self.n_steps, epoch, attempt)
            if found is not None:
                return found
        found = self._dealt(self.n_steps, 0, 0)
        assert found is not None  # noqa: S101 - the number of steps was chosen so
        order = np.random.default_rng((self._seed, epoch)).permutation(len(found))
        return [found[place] for place in order]

    def step_s(self, step: Sequence[_Indices]) -> _Floats:
        """The predicted seconds (R,) of each rank in a step."""
        speeds = np.array([one.speed for one in self._ranks])
        seconds = self._base_s + np.array([self._seconds[batch].sum() for batch in step])
        return np.asarray(seconds / speeds, dtype=np.float64)

    def _check(self, *, leave_out: bool) -> None:
        n_samples, n_ranks = len(self._used), len(self._ranks)
        if self.left_out and not leave_out:
            largest = format_bytes(max(one.budget_bytes for one in self._ranks))
            raise InputError(
                "samples",
                got=f"{len(self.left_out)} that fit no rank, such as {self.left_out[0]}",
                expected=f"each within the {largest} of the largest rank",
                fix="Leave them out or crop them.",
            )
        if n_samples < n_ranks * self._least:
            raise InputError(
                "samples",
                got=str(n_samples),
                expected=f"at least {'one' if self._least == 1 else self._least} for each of {n_ranks} ranks",
                fix="Use fewer ranks.",
            )

    def _fewest_steps(self) -> int:
        """The number of steps of every epoch: by the largest loads that keep all ranks busy for the same time."""
        total_s, n_samples = float(self._seconds[self._used].sum()), len(self._used)
        speeds = np.array([one.speed for one in self._ranks])
        full_s = [total_s / max(1.0, float(share[:, self._used].sum(axis=1).max())) for share in self._shares]
        # The time at which the first rank is full; from there on others would only wait longer.
        longest_s = min((self._base_s + full) / speed for full, speed in zip(full_s, speeds, strict=True))
        per_step_s = float(np.maximum(longest_s * speeds - self._base_s, 0.0).sum())
        most = max(1, n_samples // (len(self._ranks) * self._least))
        n_steps = min(most, max(1, math.ceil(total_s / per_step_s)) if per_step_s else most)
        while n_steps < most and self._dealt(n_steps, 0, 0) is None:
            n_steps = min(most, math.ceil(n_steps * SPARE + 1))
        if self._dealt(n_steps, 0, 0) is None:
            raise InputError(
                "samples",
                got=f"{n_samples} that cannot be dealt out to {len(self._ranks)} ranks",
                expected="enough small ones for the ranks with the least memory",
                fix="Use fewer ranks, or crop the largest samples.",
            )
        return n_steps

    def _dealt(self, n_steps: int, epoch: int, attempt: int) -> list[list[_Indices]] | None:
        """All samples in `n_steps` steps; None if they do not fit, or a rank would have too few."""
        rng, n_ranks = np.random.default_rng((self._seed, epoch, attempt)), len(self._ranks)
        order = rng.permutation(self._used)
        ends = np.linspace(0, n_steps, max(1, n_steps // CHUNK_STEPS) + 1).round().astype(int)
        cuts = (ends * len(order) / n_steps).round().astype(int)
        steps: list[list[_Indices]] = []
        left: list[int] = []
        for n_in_chunk, low, high in zip(np.diff(ends), cuts[:-1], cuts[1:], strict=True):
            chunk = np.array([*left, *order[low:high]], dtype=np.int64)
            targets = self._targets(chunk, int(n_in_chunk))
            bins, left = _Bins(self._shares, self._seconds, targets, self._least).deal(chunk)
            if min(map(len, bins)) < self._least:
                return None
            batches = [np.array(one, dtype=np.int64) for one in bins]
            steps += [batches[place : place + n_ranks] for place in range(0, len(batches), n_ranks)]
        return None if left else [steps[place] for place in rng.permutation(len(steps))]

    def _targets(self, chunk: _Indices, n_steps: int) -> _Floats:
        """Seconds at speed 1 that each bin should hold, so that all ranks of `n_steps` steps take equally long."""
        speeds = np.array([one.speed for one in self._ranks])
        n_ranks = len(speeds)
        step_s = (float(self._seconds[chunk].sum()) / n_steps + n_ranks * self._base_s) / speeds.sum()
        least = 1e-3 * step_s  # a rank that is slower than the base of a step allows still gets a graph
        return np.tile(np.maximum(step_s * speeds - self._base_s, least), n_steps)
