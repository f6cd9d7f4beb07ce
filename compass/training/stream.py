"""The batches of a whole training, epoch after epoch, from any position on.

To Lightning all of it is one pass: it keeps the position in loops of its own, which resume at epochs; ours is two numbers.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from compass.optimizer_config import OptimizerConfig
from compass.records import Batch
from compass.records.base import digest
from compass.workloads.registry import load_workload
from compass.workloads.step import UpdatePart

if TYPE_CHECKING:
    from compass.batching.sampler import BudgetedBatchSampler
    from compass.training.run_spec import RunSpec
    from compass.workloads.protocol import Workload


class Position(NamedTuple):
    """The batch that comes next: how many epochs and how many of its epoch's batches lie behind."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Item:
    """A batch, and where it stands."""

    batch: Batch
    part: UpdatePart
    """Of its weight update."""
    then: Position
    """What comes after it."""
    is_final: bool = False
    """Whether training ends with it."""

    @property
    def ends_epoch(self) -> bool:
        """Whether it is the last of its epoch, or of all."""
        return self.then.batch == 0 or self.is_final


class Stream(Sampler[Item]):
    """This rank's batches from `start` until `n_batches` of the whole training are behind."""

    def __init__(
        self, sampler: BudgetedBatchSampler, ids: Sequence[str], accumulate: int, n_batches: int, rank: int = 0
    ) -> None:
        self._sampler, self._ids, self._rank = sampler, ids, rank
        self.per_epoch = len(sampler)
        self.accumulate = min(accumulate, self.per_epoch)
        self.n_batches = n_batches
        self.start = Position()

    @property
    def n_updates(self) -> int:
        """Weight updates of the whole training."""
        epochs, rest = divmod(self.n_batches, self.per_epoch)
        return epochs * -(-self.per_epoch // self.accumulate) + -(-rest // self.accumulate)

    def __len__(self) -> int:
        return max(0, self.n_batches - self._behind(self.start))

    def __iter__(self) -> Iterator[Item]:
        position = self.start
        while self._behind(position) < self.n_batches:
            steps = self._sampler.steps(position.epoch)
            for place in range(position.batch, min(self.per_epoch, self.n_batches - position.epoch * self.per_epoch)):
                yield self._item(position.epoch, place, steps[place][self._rank].tolist())
            position = Position(position.epoch + 1)

    def _behind(self, position: Position) -> int:
        return position.epoch * self.per_epoch + position.batch

    def _item(self, epoch: int, place: int, members: list[int]) -> Item:
        begin = place - place % self.accumulate
        end = min(begin + self.accumulate, self.per_epoch, self.n_batches - epoch * self.per_epoch)
        # Over the mean batch, not over this update's graphs: every complex then weighs alike, whatever came with it.
        weight = len(members) / (self._sampler.mean_graphs * (end - begin))
        then = Position(epoch, place + 1) if place + 1 < self.per_epoch else Position(epoch + 1)
        batch = Batch(members=tuple((self._ids[index], 1) for index in members))
        part = UpdatePart(weight, first=place == begin, last=place == end - 1)
        return Item(batch, part, then, is_final=self._behind(then) == self.n_batches)


class _Collated(Dataset[tuple[Item, Any]]):
    """An item's batch as the model takes it; in a process of its own, what is drawn for it follows from its place alone."""

    def __init__(self, workload: Workload, source: str, config: OptimizerConfig, rank: int) -> None:
        self._workload, self._source, self._config, self._rank = workload, source, config, rank

    def __reduce__(self) -> tuple[Any, ...]:
        # A workload from a file cannot be unpickled where that file was not loaded: it is loaded there instead.
        return _collated, (self._source, self._config, self._rank)

    def __getitem__(self, item: Item) -> tuple[Item, Any]:
        if get_worker_info() is not None:
            seed = int(digest(self._config.seed, self._rank, tuple(item.then)), 16) % 2**32
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - the legacy one is what libraries use
            random.seed(seed)
        return item, self._workload.collate(item.batch)


def _collated(source: str, config: OptimizerConfig, rank: int) -> _Collated:
    return _Collated(load_workload(source, config), source, config, rank)


def loader(stream: Stream, workload: Workload, spec: RunSpec, rank: int = 0) -> DataLoader[tuple[Item, Any]]:
    """`stream`, collated in as many processes as are worth it; 0: in this one."""
    return DataLoader(
        _Collated(workload, spec.workload, spec.config, rank),
        sampler=stream,
        batch_size=None,
        num_workers=spec.loader_workers,
        worker_init_fn=_hear_nothing,
        collate_fn=_as_it_is,
        # Its own: a loader that drew its seed from torch's would leave another random state than a resumed one.
        generator=torch.Generator(),
    )


def _hear_nothing(_: int) -> None:
    """Leave signals to the main process, which still needs batches to finish its update; they reach the whole group."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _as_it_is(pair: Any) -> Any:
    return pair
