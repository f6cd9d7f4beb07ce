"""Weight updates from batches, each cut to what is free; one out-of-memory is survived, with the same result."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from compass.errors import CompassError
from compass.probe.failures import classify
from compass.records import Batch, Status
from compass.training.guard import Guard, batch_of, halves, n_graphs
from compass.training.stream import Item
from compass.units import format_bytes
from compass.workloads.step import UpdatePart, on_device, training_step, update

if TYPE_CHECKING:
    from compass.optimizer_config import TrainingRules
    from compass.records import Variant
    from compass.workloads.protocol import Workload

log = logging.getLogger(__name__)


Parts = list[tuple[Batch, float]]
"""Batches, each with its weight in an update."""


class OutOfMemoryAgain(CompassError):  # noqa: N818 - it names what happened
    """A batch ran out of memory twice, the second time in halves."""

    exit_code = 3


@dataclass
class Counts:
    """What did not go as planned."""

    split: int = 0
    deferred: int = 0
    out_of_memory: int = 0
    skipped: list[str] = field(default_factory=list)
    """Samples that never fitted, by id."""


@dataclass
class Updates:
    """Takes batches, one after the other, and makes weight updates of them."""

    workload: Workload
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    variant: Variant
    rules: TrainingRules
    device: str
    guard: Guard
    backward: Callable[[torch.Tensor], None] = torch.Tensor.backward
    alone: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Keeps gradients to this process; entered for all but the last part of an update."""
    several_processes: bool = False
    empty_cache: Callable[[], None] = lambda: None
    ran_out: Callable[[Batch, str], None] | None = None
    """Told of a batch that ran out of memory, and how, when it is let go of."""
    counts: Counts = field(default_factory=Counts)
    waiting: list[tuple[Batch, float]] = field(default_factory=list)
    """Samples too large for the moment, with their weight in an update."""
    _done: list[tuple[UpdatePart, Parts]] = field(default_factory=list)
    """What the present update has run so far."""

    def take(self, item: Item, collated: Any) -> float:
        """Run one batch; at the last of an update the weights change. Returns the batch's mean loss.

        Raises:
            NonFiniteLoss: the loss is not a number or infinite.
            OutOfMemoryAgain: memory ran out, and again with half the batch.
        """
        if item.part.first:
            self._done = []
        parts = self._fitting(item)
        is_whole = [batch for batch, _ in parts] == [item.batch]
        if not is_whole:
            collated = None
        try:
            loss = self._step(collated, item.part) if is_whole else self._run(item.part, parts)
        except Exception as error:
            detail = self._memory_ran_out(error)
            if detail is None:
                raise
            del error, collated  # before the halves take their place
        else:
            detail = None
        if detail is not None:
            self._make_room(item.batch, detail)
            loss = self._again(item, parts)
        self._done.append((item.part, parts))
        if item.part.last:
            self.guard.tell(ok=True)
            self._catch_up()
        return loss

    def finish_epoch(self) -> None:
        """What is still too large is left out, by name."""
        for batch, _ in self.waiting:
            self.counts.skipped.append(batch.members[0][0])
            log.warning("%s did not fit into memory all epoch and was left out", batch.members[0][0])
        self.waiting.clear()

    def _fitting(self, item: Item) -> Parts:
        """The batch in parts that fit, each with its weight; what does not fit by itself waits."""
        fitting, beyond = self.guard.parts(item.batch)
        if beyond and self.several_processes:
            # Every process has to take part in every update; it is tried, and usually the bound was above the truth.
            fitting, beyond = (*fitting, *beyond), ()
        per_graph = item.part.weight / n_graphs(item.batch)
        self.counts.split += len(fitting) > 1
        self.counts.deferred += len(beyond)
        self.waiting += [(sample, per_graph) for sample in beyond]
        if len(fitting) != 1 or beyond:
            log.debug("%d graphs in %d parts, %d wait: %s free", n_graphs(item.batch), len(fitting), len(beyond),
                      format_bytes(int(self.guard.room_bytes())))  # fmt: skip
        return _weighed(fitting, per_graph)

    def _run(self, part: UpdatePart, batches: Parts) -> float:
        """Batches with their weights as one `part` of an update."""
        if not batches:  # nothing fits: the update still begins and ends
            self._close_empty(part)
            return 0.0
        total, n_seen = 0.0, 0
        for i, (batch, weight) in enumerate(batches):
            own = UpdatePart(weight, first=part.first and i == 0, last=part.last and i == len(batches) - 1)
            total += n_graphs(batch) * self._step(self.workload.collate(batch), own)
            n_seen += n_graphs(batch)
        return total / n_seen

    def _close_empty(self, part: UpdatePart) -> None:
        if part.first:
            self.optimizer.zero_grad(set_to_none=False)
        if part.last:
            update(self.model, self.optimizer, self.rules)

    def _step(self, collated: Any, part: UpdatePart) -> float:
        with nullcontext() if part.last else self.alone():
            return training_step(
                self.workload, self.model, self.optimizer, on_device(collated, self.device), self.variant, self.rules,
                part=part, backward=self.backward,
            )  # fmt: skip

    def _memory_ran_out(self, error: Exception) -> str | None:
        """What `error` says, if it is an out-of-memory that can be dealt with."""
        if isinstance(error, CompassError) or self.several_processes:
            return None
        status, detail = classify(error)
        return detail if status is Status.OUT_OF_MEMORY else None

    def _make_room(self, batch: Batch, detail: str) -> None:
        """After `batch` ran out, and its error with all that hung on it is gone."""
        self.counts.out_of_memory += 1
        self.guard.tell(ok=False)
        log.warning("out of memory on %d graphs (%s): tried again in smaller parts", n_graphs(batch), detail)
        gc.collect()
        self.empty_cache()
        if self.ran_out is not None:
            self.ran_out(batch, detail)

    def _again(self, item: Item, parts: Parts) -> float:
        """The update from the start, this batch in halves: gradients that an interrupted backward pass left are half a sum.

        What has run is cut to the guard's new mind, but none of it waits: it fitted a moment ago.
        """
        try:
            for part, done in self._done:
                smaller = [cut for batch, weight in done for cut in self._cut(batch, weight)]
                self._run(UpdatePart(part.weight, first=part.first, last=False), smaller)
            return self._run(item.part, [half for batch, weight in parts for half in _halved(batch, weight)])
        except Exception as error:
            if isinstance(error, CompassError) or classify(error)[0] is not Status.OUT_OF_MEMORY:
                raise
            raise OutOfMemoryAgain(
                f"{n_graphs(item.batch)} graphs ran out of memory, and so did their halves. Checkpoints are kept: "
                "free memory, or plan anew with `compass optimize`, and resume"
            ) from None

    def _cut(self, batch: Batch, weight: float) -> Parts:
        fitting, beyond = self.guard.parts(batch)
        return _weighed((*fitting, *beyond), weight / n_graphs(batch))

    def _catch_up(self) -> None:
        """Samples that were too large and fit by now: an update of their own each."""
        for batch, weight in [pair for pair in self.waiting if not self.guard.parts(pair[0])[1]]:
            try:
                self._run(UpdatePart(), [(batch, weight)])
            except Exception as error:
                detail = self._memory_ran_out(error)
                if detail is None:
                    raise
            else:
                self.waiting.remove((batch, weight))
                continue
            self._make_room(batch, detail)
            break  # it goes on waiting, and the next update begins without gradients


def _weighed(batches: Iterable[Batch], per_graph: float) -> Parts:
    return [(batch, per_graph * n_graphs(batch)) for batch in batches]


def _halved(batch: Batch, weight: float) -> Parts:
    """In two, of the same weight together; a single sample stays whole."""
    members = [name for name, copies in batch.members for _ in range(copies)]
    groups = [batch_of(group) for group in reversed(halves(members)) if group]
    return _weighed(groups, weight / len(members))
