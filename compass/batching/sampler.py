"""A batch sampler whose batches fill a memory budget, for any loader that takes a `batch_sampler`.

A fixed batch size must suit the worst batch that may occur. Here every batch has as many samples as the budget allows for
these samples, by the memory law of a profile. Guarantees and figures: docs/batching.md; an example: `compass.batching`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import BatchSampler, Sampler
from torch.utils.data.distributed import DistributedSampler

from compass.batching.packing import Limits, evened_out, levels, pack, split_largest, without_idle
from compass.errors import InputError
from compass.records import Affine, BytesLaw, Load
from compass.units import format_bytes, format_seconds

log = logging.getLogger(__name__)

Oversize = Literal["refuse", "isolate", "crop", "leave_out"]
Crop = Callable[[int, float], Sequence[float]]
"""(index of a sample, budget in bytes) → its sizes (F,) after cropping. The caller crops the dataset's sample likewise."""

_Floats = NDArray[np.float64]
_Indices = NDArray[np.int64]

_SHOWN_IDS = 5
"""Samples that an error names."""
_SPARE_SHARE = 1 / 1000
"""Batches in reserve, as a share of the first epoch's: other orders need a few more or fewer, and the length is constant."""
_ATTEMPTS = 8
"""Orders tried in an epoch before the batches of the first epoch are used again, in a new order."""


class BudgetedBatchSampler(BatchSampler):
    """Every sample once each epoch, in batches whose predicted upper footprint never exceeds a budget.

    Every epoch has as many batches as the first, and every rank as many as every other rank, because schedulers and
    trainers ask for the length once. Every pass over the sampler is an epoch with an order of its own; `set_epoch` selects
    an epoch. The same arguments give the same batches.

    It is a `BatchSampler` and its own `sampler` because Lightning needs both: the first to build it again under DDP, the
    second to call `set_epoch`.

    Args:
        sizes: (n, F) of every sample: finite, not negative.
        law: predicts the memory of the model that is trained, e.g. `profile.plans["production"].bytes_law`.
        budget_bytes: the largest upper footprint of a batch, in bytes.
        features: the names of the columns of `sizes`, as the laws use them.
        ids: (n) names of the samples in messages; default: their indices.
        max_graphs: the most samples in a batch.
        min_graphs: the fewest: a smaller batch, such as an epoch's last one, takes the lightest samples of the largest. With
            more than one, no sample is batched alone.
        time_law: predicts the seconds of a step, e.g. the plan's `step_law`; with it, ranks that step together get
            batches of similar predicted time instead of similar memory.
        max_step_s: the most seconds that `time_law` may predict for a batch of several samples.
        padded: features of which a batch holds the largest times its samples; only samples of like size then share a batch.
        isolated: indices of samples that are batched alone in any case.
        oversize: the policy for samples that exceed `budget_bytes` or `max_step_s` by themselves. `refuse`: an error
            names them. `isolate`: those that are only too slow are batched alone, those over the budget are an error.
            `crop`: `crop` is called for each. `leave_out`: those over the budget are in no batch (see `left_out`),
            those that are only too slow are batched alone.
        crop: required by the policy `crop`, see `Crop`.
        seed: of the orders.
        shuffle: False: batches follow the order of the samples as closely as packing allows, the same every epoch.
        n_ranks: processes that train together; all must pass the same arguments except `rank`.
        rank: the index of this process.
        sampler: passed by Lightning only: a `DistributedSampler` carries the ranks, a sampler without `shuffle` turns
            shuffling off.

    Raises:
        InputError: an argument cannot be used, there are fewer samples than ranks, or samples exceed a limit and the
            policy does not solve it.

    Attributes:
        sizes: (n, F) of every sample, after cropping.
        cropped: ids of the samples that were cropped.
        left_out: ids of the samples that are in no batch.
        epoch: the epoch of the next pass.
    """

    def __init__(  # noqa: PLR0913 - one call describes the batches completely
        self,
        sizes: ArrayLike,
        law: BytesLaw,
        budget_bytes: float,
        *,
        features: tuple[str, ...] = ("nodes", "edges"),
        ids: Sequence[str] | None = None,
        max_graphs: int | None = None,
        min_graphs: int = 1,
        time_law: Affine | None = None,
        max_step_s: float | None = None,
        padded: tuple[str, ...] = (),
        isolated: Collection[int] = (),
        oversize: Oversize = "refuse",
        crop: Crop | None = None,
        seed: int = 0,
        shuffle: bool = True,
        n_ranks: int = 1,
        rank: int = 0,
        sampler: Sampler[int] | None = None,
    ) -> None:
        """Pack the first epoch; the arguments are described at the class."""
        if isinstance(sampler, DistributedSampler):
            n_ranks, rank = sampler.num_replicas, sampler.rank
        self.sampler: Any = self
        self.sizes = _checked_sizes(sizes, features)
        self._ids = tuple(map(str, range(len(self.sizes)))) if ids is None else tuple(ids)
        _check_arguments(self._ids, len(self.sizes), isolated, n_ranks, rank)
        self._limits = Limits(law, budget_bytes, features, max_graphs, time_law, max_step_s, padded)
        self._seed, self._n_ranks, self._rank, self._min_graphs = seed, n_ranks, rank, min_graphs
        self._shuffle = shuffle and (sampler is None or bool(getattr(sampler, "shuffle", False)))
        self.epoch = 0
        slow, dropped, cropped = _Oversize(self.sizes, self._limits, self._ids).apply(oversize, crop)
        self.cropped = tuple(self._ids[index] for index in cropped)
        self.left_out = tuple(self._ids[index] for index in dropped)
        alone = np.setdiff1d(np.union1d(slow, np.array(list(isolated), dtype=np.int64)), dropped)
        if min_graphs > 1:  # it is made company
            alone = np.zeros(0, dtype=np.int64)
        self._alone = [np.array([index]) for index in alone]
        self._shared = np.setdiff1d(np.arange(len(self.sizes)), np.union1d(alone, dropped))
        self._shares = self._limits.shares(self.sizes)
        self._fix_length()

    # ---------------------------------------------------------------------------------------------- for loaders

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's batches of one epoch, as lists of sample indices."""
        # Loaders may create an iterator that they never use; the epoch advances with the first batch.
        epoch, self.epoch = self.epoch, self.epoch + 1
        for step in self.steps(epoch):
            yield step[self._rank].tolist()

    def __len__(self) -> int:
        """Batches of this rank in every epoch."""
        return self._n_batches // self._n_ranks

    def set_epoch(self, epoch: int) -> None:
        """Make `epoch` the epoch of the next pass."""
        self.epoch = epoch

    # ---------------------------------------------------------------------------------------------- for users

    @property
    def mean_graphs(self) -> float:
        """Samples in the mean batch.

        A batch's summed loss divided by it gives every sample the same weight; a batch's mean loss does not.
        """
        return (len(self._shared) + len(self._alone)) / self._n_batches

    @property
    def mean_load(self) -> Load:
        """The mean load of an epoch's batches; its number of graphs is rounded."""
        members = np.concatenate([self._shared, *self._alone])
        return self._load_of(round(self.mean_graphs), self.sizes[members].sum(axis=0) / self._n_batches)

    def load(self, batch: Sequence[int]) -> Load:
        """The load of a batch with the samples at these indices."""
        rows = self.sizes[list(batch)]
        padded = [name in self._limits.padded for name in self._limits.features]
        return self._load_of(len(batch), np.where(padded, len(batch) * rows.max(axis=0), rows.sum(axis=0)))

    def steps(self, epoch: int) -> list[list[_Indices]]:
        """The batches of all ranks: `steps(epoch)[step][rank]` holds sample indices."""
        return self._arranged(epoch)[0]

    def sitting_out(self, epoch: int) -> tuple[str, ...]:
        """Ids of the samples that are missing from `epoch`, so that all ranks have equally many batches.

        Samples are missing only if nearly every batch is a single sample, so that no batch can be split: then fewer than
        there are ranks, and different ones each epoch.
        """
        return tuple(self._ids[index] for index in self._arranged(epoch)[1])

    # ---------------------------------------------------------------------------------------------- one epoch

    def _load_of(self, n_graphs: int, summed: _Floats) -> Load:
        sizes = tuple(zip(self._limits.features, map(float, summed), strict=True))
        return Load(graphs=n_graphs, sizes=sizes, padded=self._limits.padded)

    def _fix_length(self) -> None:
        """Set the number of batches of every epoch, over all ranks."""
        n_samples = len(self._shared) + len(self._alone)
        n_needed = self._n_ranks * self._min_graphs
        if n_samples < n_needed:
            each = "one" if self._min_graphs == 1 else str(self._min_graphs)
            raise InputError(
                "samples",
                got=str(n_samples),
                expected=f"at least {n_needed}, {each} for each rank",
                fix="Give more samples or use fewer ranks.",
            )
        n_first = len(self._pack(0, 0))
        n_ranks, n_possible = self._n_ranks, max(1, n_samples // self._min_graphs)
        self._most = min(n_possible, n_first + int(_SPARE_SHARE * n_first))
        self._n_batches = min(-(-self._most // n_ranks), n_possible // n_ranks) * n_ranks
        self._cached: tuple[int, tuple[list[list[_Indices]], _Indices]] | None = None
        if self._n_batches < self._most:
            log.warning(
                "up to %d of %d samples sit out each epoch, different ones each time: nearly every batch is a single "
                "sample, and %d ranks do not divide them",
                self._most - self._n_batches,
                n_samples,
                n_ranks,
            )

    def _pack(self, epoch: int, attempt: int) -> list[_Indices]:
        order = self._shared
        if self._shuffle:
            order = np.random.default_rng((self._seed, epoch, attempt)).permutation(order)
        return [*pack(self.sizes, order, self._limits), *self._alone]

    def _arranged(self, epoch: int) -> tuple[list[list[_Indices]], _Indices]:
        """(batches by step and rank, indices of the samples that sit out); the last epoch asked for is kept."""
        if self._cached is None or self._cached[0] != epoch:
            packed = (self._pack(epoch, attempt) for attempt in range(_ATTEMPTS))
            batches = next((found for found in packed if len(found) <= self._most), None) or self._pack(0, 0)
            batches, idle = without_idle(batches, len(batches) - self._n_batches, epoch)
            batches = split_largest(batches, self._n_batches, self._shares.max(axis=0))
            holds = partial(self._limits.holds, self.sizes) if self._limits.padded else None
            batches = evened_out(batches, self._min_graphs, self._shares, holds)
            self._cached = epoch, (self._group(batches, epoch), idle)
        return self._cached[1]

    def _group(self, batches: list[_Indices], epoch: int) -> list[list[_Indices]]:
        """Batches by step and rank: those of one step cost about the same, so that ranks wait little for each other."""
        rng = np.random.default_rng((self._seed, epoch, _ATTEMPTS))
        by_cost = np.argsort(self._costs(batches), kind="stable") if self._n_ranks > 1 else np.arange(len(batches))
        steps = by_cost.reshape(-1, self._n_ranks)
        if self._shuffle:
            steps = rng.permuted(rng.permutation(steps), axis=1)
        return [[batches[place] for place in step] for step in steps]

    def _costs(self, batches: list[_Indices]) -> _Floats:
        """The predicted seconds (b,) of each batch; without a time law its level."""
        law = self._limits.time_law
        if law is None:
            return levels(batches, self._shares)
        return np.array([law.at(self.load(batch.tolist())) for batch in batches])


@dataclass(frozen=True)
class _Oversize:
    """The policies for samples that exceed the limits by themselves."""

    sizes: _Floats
    """(n, F); cropping changes its rows."""
    limits: Limits
    ids: tuple[str, ...]

    def apply(self, policy: Oversize, crop: Crop | None) -> tuple[_Indices, _Indices, _Indices]:
        """The indices of the samples that are batched alone, that are left out, and that were cropped.

        Raises:
            InputError: the policy is unknown, or leaves samples that exceed a limit.
        """
        nothing = np.zeros(0, dtype=np.int64)
        large, slow = self.find()
        if policy == "leave_out":
            return slow, large, nothing  # a sample that is only too slow can be trained on
        if policy == "isolate":
            self.refuse(large, "by themselves", "Crop them (oversize='crop') or leave them out ('leave_out').")
            return slow, nothing, nothing
        if policy == "crop":
            return nothing, nothing, self.crop(np.union1d(large, slow), crop)
        if policy == "refuse":
            fix = "Choose another policy: oversize='isolate', 'crop' or 'leave_out'."
            self.refuse(np.union1d(large, slow), "by themselves", fix)
            return nothing, nothing, nothing
        expected = ", ".join(get_args(Oversize))
        raise InputError("oversize", got=repr(policy), expected=f"one of {expected}", fix="Correct it.")

    def find(self) -> tuple[_Indices, _Indices]:
        """The indices of the samples over the budget, and of those that only exceed `max_step_s`."""
        limits = self.limits
        large = (Limits(limits.law, limits.budget_bytes, limits.features).shares(self.sizes) > 1).any(axis=0)
        over = (limits.shares(self.sizes) > 1).any(axis=0)
        return np.flatnonzero(large), np.flatnonzero(over & ~large)

    def refuse(self, found: _Indices, how: str, fix: str) -> None:
        """Raise an InputError that names the samples `found`, if there are any."""
        if not len(found):
            return
        names = ", ".join(self.ids[index] for index in found[:_SHOWN_IDS])
        more = f" and {len(found) - _SHOWN_IDS} more" if len(found) > _SHOWN_IDS else ""
        step_s = self.limits.max_step_s
        in_time = "" if step_s is None else f" and {format_seconds(step_s)} per step"
        raise InputError(
            "samples",
            got=f"{len(found)} too large {how}: {names}{more}",
            fix=fix,
            expected=f"each within {format_bytes(self.limits.budget_bytes)}{in_time}",
        )

    def crop(self, found: _Indices, crop: Crop | None) -> _Indices:
        """Replace the sizes of `found` by those that `crop` returns; returns `found`."""
        if crop is None:
            raise InputError(
                "crop",
                got="none beside oversize='crop'",
                expected="a function that crops a sample",
                fix="Give one, or choose another policy.",
            )
        if len(found):
            rows = [crop(int(index), self.limits.budget_bytes) for index in found]
            self.sizes[found] = _checked_sizes(rows, self.limits.features)
            fix = "Crop them further or leave them out (oversize='leave_out')."
            self.refuse(np.union1d(*self.find()), "even cropped", fix)
        return found


def _checked_sizes(sizes: ArrayLike, features: tuple[str, ...]) -> _Floats:
    """A copy of `sizes` as an array (n, F).

    Raises:
        InputError: another shape, or a size that is negative or not finite.
    """
    rows = np.array(sizes, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(features):
        raise InputError(
            "sizes",
            got=f"an array of shape {rows.shape}",
            fix="Give one row for each sample and one column for each feature.",
            expected=f"(n, {len(features)}) for {', '.join(features)}",
        )
    bad = np.flatnonzero(~(np.isfinite(rows) & (rows >= 0)).all(axis=1))
    if len(bad):
        raise InputError(
            "sizes",
            got=f"{rows[bad[0]].tolist()} in row {bad[0]}",
            expected="finite sizes, not negative",
            fix="Correct it or leave the sample out.",
        )
    return rows


def _check_arguments(ids: Sequence[str], n_samples: int, isolated: Collection[int], n_ranks: int, rank: int) -> None:
    if len(ids) != n_samples:
        raise InputError(
            "ids",
            got=str(len(ids)),
            expected=f"{n_samples}, one for each sample",
            fix="Give as many ids as rows of sizes.",
        )
    stray = [index for index in isolated if not 0 <= index < n_samples]
    if stray:
        raise InputError(
            "isolated", got=str(stray[0]), expected=f"indices from 0 to {n_samples - 1}", fix="Correct it."
        )
    if not 0 <= rank < n_ranks:
        raise InputError("rank", got=f"{rank} of {n_ranks}", expected="a rank from 0 to n_ranks − 1", fix="Correct it.")
