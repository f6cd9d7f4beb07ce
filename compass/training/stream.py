"""The batches of a whole training, epoch after epoch, from any position.

Lightning sees them as a single pass. Its own loops resume only at epochs; our position is two numbers and resumes anywhere.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from compass.batching.sampler import BudgetedBatchSampler
from compass.batching.unequal import UnequalBatches
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.records import Batch
from compass.records.base import digest
from compass.workloads.registry import load_workload
from compass.workloads.step import UpdatePart

if TYPE_CHECKING:
    from compass.training.run_spec import RunSpec
    from compass.workloads.protocol import Workload


RunSampler = BudgetedBatchSampler | UnequalBatches
"""Gives the batches of every epoch by step and rank."""


class Position(NamedTuple):
    """The position of the next batch: the finished epochs, and the finished batches of the current epoch."""

    epoch: int = 0
    batch: int = 0


@dataclass(frozen=True)
class Item:
    """A batch and its place in the training."""

    batch: Batch
    part: UpdatePart
    """Its part in a weight update."""
    next_position: Position
    """The position of the batch after it."""
    is_final: bool = False
    """Whether training ends with it."""

    @property
    def ends_epoch(self) -> bool:
        """Whether it is the last of its epoch or of the training."""
        return self.next_position.batch == 0 or self.is_final


class Stream(Sampler[Item]):
    """The batches of this rank from `start` to the end of the training."""

    def __init__(self, sampler: RunSampler, ids: Sequence[str], accumulate: int, n_batches: int, rank: int = 0) -> None:
        """Describe the training.

        Args:
            sampler: gives the batches of every epoch, as indices into `ids`.
            ids: (n) of the training samples.
            accumulate: batches in a weight update; an epoch's last update may have fewer.
            n_batches: of this rank in the whole training.
            rank: the index of this process.
        """
        self._sampler, self._ids, self._rank = sampler, ids, rank
        self.per_epoch = len(sampler)
        self.accumulate = min(accumulate, self.per_epoch)
        self.n_batches = n_batches
        self.start = Position()

    @property
    def n_updates(self) -> int:
        """Weight updates in the whole training."""
        epochs, rest = divmod(self.n_batches, self.per_epoch)
        return epochs * -(-self.per_epoch // self.accumulate) + -(-rest // self.accumulate)

    def __len__(self) -> int:
        return max(0, self.n_batches - self._n_before(self.start))

    def __iter__(self) -> Iterator[Item]:
        position = self.start
        while self._n_before(position) < self.n_batches:
            steps = self._sampler.steps(position.epoch)
            for place in range(position.batch, min(self.per_epoch, self.n_batches - position.epoch * self.per_epoch)):
                yield self._item(position.epoch, place, steps[place][self._rank].tolist())
            position = Position(position.epoch + 1)

    def _n_before(self, position: Position) -> int:
        """Batches of the whole training before `position`."""
        return position.epoch * self.per_epoch + position.batch

    def _item(self, epoch: int, place: int, members: list[int]) -> Item:
        begin = place - place % self.accumulate
        end = min(begin + self.accumulate, self.per_epoch, self.n_batches - epoch * self.per_epoch)
        # Relative to the mean batch, not to this update's graphs: every complex then has the same weight in every update.
        weight = len(members) / (self._sampler.mean_graphs * (end - begin))
        after = Position(epoch, place + 1) if place + 1 < self.per_epoch else Position(epoch + 1)
        batch = Batch(members=tuple((self._ids[index], 1) for index in members))
        part = UpdatePart(weight, first=place == begin, last=place == end - 1)
        return Item(batch, part, after, is_final=self._n_before(after) == self.n_batches)


class _Collated(Dataset[tuple[Item, Any]]):
    """Items with their batches as the model takes them.

    In a loader's process, random numbers are seeded by the item's position. A resumed run then draws the same ones, however
    many processes load.
    """

    def __init__(self, workload: Workload, source: str, config: OptimizerConfig, rank: int) -> None:
        self._workload, self._source, self._config, self._rank = workload, source, config, rank

    def __reduce__(self) -> tuple[Any, ...]:
        # A workload from a file cannot be unpickled in a process that has not loaded the file; it is loaded again there.
        return _collated, (self._source, self._config, self._rank)

    def __getitem__(self, item: Item) -> tuple[Item, Any]:
        if get_worker_info() is not None:
            seed = int(digest(self._config.seed, self._rank, tuple(item.next_position)), 16) % 2**32
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002 - libraries use the legacy generator
            random.seed(seed)
        return item, self._workload.collate(item.batch)


def _collated(source: str, config: OptimizerConfig, rank: int) -> _Collated:
    return _Collated(load_workload(source, config), source, config, rank)


LONGEST_TEMPORARY = 71
"""Bytes of the longest path for temporary files: loader processes listen at sockets in it, whose paths may have 103 bytes."""


def loader(stream: Stream, workload: Workload, spec: RunSpec, rank: int = 0) -> DataLoader[tuple[Item, Any]]:
    """A loader of `stream` with the plan's number of processes; with 0 of them, this process collates.

    Raises:
        InputError: the path for temporary files is too long for sockets; the loader would wait for batches for ever.
    """
    if spec.loader_workers:
        check_temporary_folder(tempfile.gettempdir())
        # Loader processes listen in this process's folder. One of their own each would remove when it ends, while its thread may
        # still send a batch, and print a traceback.
        multiprocessing.util.get_temp_dir()
    return DataLoader(
        _Collated(workload, spec.workload, spec.config, rank),
        sampler=stream,
        batch_size=None,
        num_workers=spec.loader_workers,
        worker_init_fn=_begin_process,
        collate_fn=_unchanged,
        # Its own generator: drawing the loader's seed from torch's would make the random states of a resumed run differ.
        generator=torch.Generator(),
    )


def check_temporary_folder(folder: str) -> None:
    """Refuse a folder for temporary files whose path is too long for the sockets of loader processes.

    Raises:
        InputError: it is too long.
    """
    n_bytes = len(os.fsencode(folder))
    if n_bytes > LONGEST_TEMPORARY:
        raise InputError(
            f"folder for temporary files {folder}",
            got=f"a path of {n_bytes} bytes",
            expected=f"at most {LONGEST_TEMPORARY}, because loader processes listen at sockets in it",
            fix="Set TMPDIR to a shorter one.",
        )


def reason_of_dead_loader(error: BaseException | None) -> str:
    """The sentence in which PyTorch reports that a loader process has ended, as Lightning may raise another error on it.

    Empty if that is not what happened.
    """
    while error is not None:
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
            return str(error).splitlines()[0].strip().rstrip(".")
        error = error.__cause__ or error.__context__
    return ""


def end_loaders() -> None:
    """End the loader processes that an error has left, before the temporary folder goes in which they listen.

    They pass over SIGTERM, after which Python would wait for them for ever.
    """
    left = multiprocessing.active_children()
    if left and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler raises for each that ends
    for process in left:
        process.kill()
        process.join()


def _begin_process(_: int) -> None:
    """Leave signals, which reach the whole process group, to the main process: it needs batches to finish its update.

    If the main process is killed while it takes a batch, this one ends without a traceback.
    """
    sys.excepthook = _unless_the_other_end_is_gone
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def _unless_the_other_end_is_gone(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Show an error that nothing caught, but not that the process that takes the batches has ended."""
    if not isinstance(error, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


def _unchanged(pair: Any) -> Any:
    return pair
