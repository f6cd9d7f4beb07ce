"""Batches that fill a budget of bytes, for any loader that takes a `batch_sampler`.

A fixed batch size is set by the worst batch that could come up; here every batch has as many graphs as its own samples
leave room for, by the memory law that a profile holds.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike
from torch.utils.data import BatchSampler, Sampler
from torch.utils.data.distributed import DistributedSampler

from compass.batching.packing import Floats, Indices, Limits, TimeLaw, levels, pack, sit_out, split
from compass.errors import InputError
from compass.records import BytesLaw, Load
from compass.units import format_bytes, format_seconds

log = logging.getLogger(__name__)

Oversize = Literal["refuse", "isolate", "crop", "leave_out"]
Crop = Callable[[int, float], Sequence[float]]
"""(index, budget in bytes) → the sizes that the sample has from now on; whoever crops also changes the dataset."""

NAMED = 5
"""Samples that an error names."""
SPARE = 1 / 1000
"""Batches beyond those of the first epoch, as a share: another order needs a few more or less, and every epoch is to have
as many as the first."""
ATTEMPTS = 8
"""Orders tried for an epoch before the first epoch's batches are used again, in a new order."""


class BudgetedBatchSampler(BatchSampler):
    """Every sample once an epoch, in batches whose predicted upper footprint never exceeds a budget.

    Every epoch has as many batches as the first, and every rank as many as the others: schedulers and trainers ask once.
    A pass over the sampler is an epoch, so that plain loops see a new order each time; `set_epoch` names another.

    It is a `BatchSampler` and knows itself as its `sampler` because Lightning looks for both: the first to build it anew
    under DDP, the second to call `set_epoch`.

    Attributes:
        sizes: (n, F) of every sample, as cropped.
        cropped: ids of the samples that were cropped.
        left_out: ids of the samples that no batch has.
        epoch: what the next pass will be.
    """

    def __init__(  # noqa: PLR0913 - one call says all there is to say of batches
        self,
        sizes: ArrayLike,
        law: BytesLaw,
        budget_bytes: float,
        *,
        features: tuple[str, ...] = ("nodes", "edges"),
        ids: Sequence[str] | None = None,
        max_graphs: int | None = None,
        time_law: TimeLaw | None = None,
        max_step_s: float | None = None,
        isolated: Collection[int] = (),
        oversize: Oversize = "refuse",
        crop: Crop | None = None,
        seed: int = 0,
        shuffle: bool = True,
        n_ranks: int = 1,
        rank: int = 0,
        sampler: Sampler[int] | None = None,
    ) -> None:
        """Plan the first epoch.

        Args:
            sizes: (n, F) of every sample.
            law: the memory of the model that will be trained, e.g. `profile.plans["production"].bytes_law`.
            budget_bytes: what no batch's upper footprint may exceed.
            features: what the columns of `sizes` are.
            ids: what samples are called in messages; their indices if not given.
            max_graphs: the most samples in a batch.
            time_law: predicts a step's seconds; ranks that step together then get batches of like time.
            max_step_s: the most that `time_law` may predict for a batch of several samples.
            isolated: samples that get a batch of their own whatever else fits.
            oversize: what becomes of samples that exceed the budget or `max_step_s` by themselves. `refuse` is an error;
                `isolate` gives those that are only too slow a batch of their own; `crop` asks `crop`; `leave_out` drops
                them, and `left_out` names them.
            crop: see `Crop`.
            seed: of the order.
            shuffle: False: batches follow the samples' own order as nearly as packing allows, the same every epoch.
            n_ranks: processes that train together; every one of them is to give the same arguments but for `rank`.
            rank: this process.
            sampler: how Lightning hands over ranks (`DistributedSampler`) or the wish not to shuffle; nobody else need.

        Raises:
            InputError: an argument cannot be used, or samples are too large and the policy does not deal with them.
        """
        if isinstance(sampler, DistributedSampler):
            n_ranks, rank = sampler.num_replicas, sampler.rank
        self.sampler: Any = self
        self.sizes = _checked_sizes(sizes, features)
        self._ids = tuple(map(str, range(len(self.sizes)))) if ids is None else tuple(ids)
        _check(self._ids, len(self.sizes), isolated, n_ranks, rank)
        self._limits = Limits(law, budget_bytes, features, max_graphs, time_law, max_step_s)
        self._seed, self._n_ranks, self._rank = seed, n_ranks, rank
        self._shuffle = shuffle and (sampler is None or bool(getattr(sampler, "shuffle", False)))
        self.epoch = 0
        found = _Oversize(self.sizes, self._limits, self._ids)
        slow, dropped, cropped = found.deal(oversize, crop)
        self.cropped = tuple(self._ids[index] for index in cropped)
        self.left_out = tuple(self._ids[index] for index in dropped)
        alone = np.setdiff1d(np.union1d(slow, np.array(list(isolated), dtype=np.int64)), dropped)
        self._alone = [np.array([index]) for index in alone]
        self._shared = np.setdiff1d(np.arange(len(self.sizes)), np.union1d(alone, dropped))
        self._shares = self._limits.shares(self.sizes)
        self._plan_length()

    # ------------------------------------------------------------------------------------------- what loaders ask for

    def __iter__(self) -> Iterator[list[int]]:
        """This rank's batches of the epoch."""
        # Loaders may ask for an iterator that they never use: the epoch counts from the first batch taken.
        epoch, self.epoch = self.epoch, self.epoch + 1
        for step in self.steps(epoch):
            yield step[self._rank].tolist()

    def __len__(self) -> int:
        """Batches this rank gets, in every epoch."""
        return self._n_batches // self._n_ranks

    def set_epoch(self, epoch: int) -> None:
        """The next pass will be that epoch."""
        self.epoch = epoch

    # ------------------------------------------------------------------------------------------------ what people ask

    @property
    def mean_graphs(self) -> float:
        """Samples in the mean batch. A sum of losses over it weighs every sample alike; a batch's mean does not."""
        return (len(self._shared) + len(self._alone)) / self._n_batches

    @property
    def mean_load(self) -> Load:
        """Of the batches of an epoch, its graphs rounded."""
        members = np.concatenate([self._shared, *self._alone])
        summed = self.sizes[members].sum(axis=0) / self._n_batches
        return Load(
            graphs=round(self.mean_graphs), sizes=tuple(zip(self._limits.features, map(float, summed), strict=True))
        )

    def load(self, batch: Sequence[int]) -> Load:
        """The load of a batch of these samples."""
        summed = self.sizes[list(batch)].sum(axis=0)
        return Load(graphs=len(batch), sizes=tuple(zip(self._limits.features, map(float, summed), strict=True)))

    def steps(self, epoch: int) -> list[list[Indices]]:
        """What every rank gets at every step of `epoch`: samples' indices by step and rank."""
        return self._arranged(epoch)[0]

    def sitting_out(self, epoch: int) -> tuple[str, ...]:
        """Ids of the samples that `epoch` does without, so that every rank has as many batches as the others.

        None as long as some batch can be split, which is to say almost always; else fewer than there are ranks, others in
        every epoch.
        """
        return tuple(self._ids[index] for index in self._arranged(epoch)[1])

    # ----------------------------------------------------------------------------------------------------- the inside

    def _plan_length(self) -> None:
        """How many batches an epoch has, over all ranks."""
        n_samples = len(self._shared) + len(self._alone)
        if n_samples < self._n_ranks:
            raise InputError("samples", got=str(n_samples), expected=f"at least {self._n_ranks}, one a rank",
                             fix="Give more samples or use fewer ranks.")  # fmt: skip
        n_first = len(self._pack(0, 0))
        self._most = min(n_samples, n_first + int(SPARE * n_first))
        n_ranks = self._n_ranks
        self._n_batches = min(-(-self._most // n_ranks), n_samples // n_ranks) * n_ranks
        self._memory: tuple[int, tuple[list[list[Indices]], Indices]] | None = None
        if self._n_batches < self._most:
            log.warning("up to %d of %d samples sit out each epoch, others every time: nearly every batch is one sample, and "
                        "%d ranks do not share them evenly", self._most - self._n_batches, n_samples, n_ranks)  # fmt: skip

    def _pack(self, epoch: int, attempt: int) -> list[Indices]:
        order = self._shared
        if self._shuffle:
            order = np.random.default_rng((self._seed, epoch, attempt)).permutation(order)
        return [*pack(self.sizes, order, self._limits), *self._alone]

    def _arranged(self, epoch: int) -> tuple[list[list[Indices]], Indices]:
        """(batches by step and rank, samples that sit out)."""
        if self._memory is None or self._memory[0] != epoch:
            packed = (self._pack(epoch, attempt) for attempt in range(ATTEMPTS))
            batches = next((found for found in packed if len(found) <= self._most), None) or self._pack(0, 0)
            batches, idle = sit_out(batches, len(batches) - self._n_batches, epoch)
            batches = split(batches, self._n_batches, self._shares.max(axis=0))
            self._memory = epoch, (self._group(batches, epoch), idle)
        return self._memory[1]

    def _group(self, batches: list[Indices], epoch: int) -> list[list[Indices]]:
        """Batches of like cost step together, so that ranks wait little for each other."""
        rng = np.random.default_rng((self._seed, epoch, ATTEMPTS))
        by_cost = np.argsort(self._costs(batches), kind="stable") if self._n_ranks > 1 else np.arange(len(batches))
        steps = by_cost.reshape(-1, self._n_ranks)
        if self._shuffle:
            steps = rng.permuted(rng.permutation(steps), axis=1)
        return [[batches[place] for place in step] for step in steps]

    def _costs(self, batches: list[Indices]) -> Floats:
        law = self._limits.time_law
        if law is None:
            return levels(batches, self._shares)
        return np.array([law.step_s(self.load(batch.tolist())) for batch in batches])


@dataclass(frozen=True)
class _Oversize:
    """The samples that exceed the limits by themselves."""

    sizes: Floats
    """(n, F); cropping writes into it."""
    limits: Limits
    ids: tuple[str, ...]

    def deal(self, policy: Oversize, crop: Crop | None) -> tuple[Indices, Indices, Indices]:
        """(indices that get a batch of their own, that are left out, that were cropped)."""
        nothing = np.zeros(0, dtype=np.int64)
        large, slow = self.find()
        if policy == "leave_out":
            return slow, large, nothing  # what only takes its time can be trained on
        if policy == "isolate":
            self.refuse(large, "by themselves", "Crop them (oversize='crop') or leave them out ('leave_out').")
            return slow, nothing, nothing
        if policy == "crop":
            return nothing, nothing, self.crop(np.union1d(large, slow), crop)
        if policy == "refuse":
            fix = "Choose what becomes of them: oversize='isolate', 'crop' or 'leave_out'."
            self.refuse(np.union1d(large, slow), "by themselves", fix)
            return nothing, nothing, nothing
        expected = ", ".join(get_args(Oversize))
        raise InputError("oversize", got=repr(policy), expected=f"one of {expected}", fix="Correct it.")

    def find(self) -> tuple[Indices, Indices]:
        """Those over the budget, and those over the step's time only."""
        limits = self.limits
        large = (Limits(limits.law, limits.budget_bytes, limits.features).shares(self.sizes) > 1).any(axis=0)
        over = (limits.shares(self.sizes) > 1).any(axis=0)
        return np.flatnonzero(large), np.flatnonzero(over & ~large)

    def refuse(self, found: Indices, how: str, fix: str) -> None:
        """Raise an error that names them, if there are any."""
        if not len(found):
            return
        names = ", ".join(self.ids[index] for index in found[:NAMED])
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        step_s = self.limits.max_step_s
        in_time = "" if step_s is None else f" and {format_seconds(step_s)} a step"
        raise InputError(
            "samples", got=f"{len(found)} too large {how}: {names}{more}", fix=fix,
            expected=f"each within {format_bytes(self.limits.budget_bytes)}{in_time}",
        )  # fmt: skip

    def crop(self, found: Indices, crop: Crop | None) -> Indices:
        """Write the sizes that `crop` gives for `found`."""
        if crop is None:
            raise InputError(
                "crop", got="nothing beside oversize='crop'", expected="a function that crops a sample",
                fix="Give one, or choose another policy.",
            )  # fmt: skip
        if len(found):
            rows = [crop(int(index), self.limits.budget_bytes) for index in found]
            self.sizes[found] = _checked_sizes(rows, self.limits.features)
            fix = "Crop them further or leave them out (oversize='leave_out')."
            self.refuse(np.union1d(*self.find()), "even cropped", fix)
        return found


def _checked_sizes(sizes: ArrayLike, features: tuple[str, ...]) -> Floats:
    """A copy of `sizes` as (n, F)."""
    rows = np.array(sizes, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] != len(features):
        raise InputError(
            "sizes", got=f"an array of shape {rows.shape}", fix="Give a row a sample and a column a feature.",
            expected=f"(n, {len(features)}) for {', '.join(features)}",
        )  # fmt: skip
    bad = np.flatnonzero(~(np.isfinite(rows) & (rows >= 0)).all(axis=1))
    if len(bad):
        raise InputError("sizes", got=f"{rows[bad[0]].tolist()} in row {bad[0]}", expected="finite, not negative",
                         fix="Correct it or leave the sample out.")  # fmt: skip
    return rows


def _check(ids: Sequence[str], n_samples: int, isolated: Collection[int], n_ranks: int, rank: int) -> None:
    if len(ids) != n_samples:
        raise InputError("ids", got=str(len(ids)), expected=f"{n_samples}, one a sample", fix="Give as many as sizes.")
    stray = [index for index in isolated if not 0 <= index < n_samples]
    if stray:
        raise InputError(
            "isolated", got=str(stray[0]), expected=f"indices from 0 to {n_samples - 1}", fix="Correct it."
        )
    if not 0 <= rank < n_ranks:
        raise InputError("rank", got=f"{rank} of {n_ranks}", expected="a rank from 0 to n_ranks − 1", fix="Correct it.")
