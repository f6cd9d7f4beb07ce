"""Weight updates from batches, each cut to what is free; one out-of-memory is survived, with the same result."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
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
from compass.workloads.step import Part, on_device, training_step

if TYPE_CHECKING:
    from compass.optimizer_config import TrainingRules
    from compass.records import Precision
    from compass.workloads.protocol import Workload

log = logging.getLogger(__name__)


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
    precision: Precision
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
    _done: list[tuple[Batch, Part]] = field(default_factory=list)
    """The present update's batches so far."""

    def take(self, item: Item, collated: Any) -> float:
        """Run one batch; at the last of an update the weights change. Returns the batch's mean loss.

        Raises:
            NonFiniteLoss: the loss is not a number or infinite.
            OutOfMemoryAgain: memory ran out, and again with half the batch.
        """
        if item.part.first:
            self._done = []
        fitting, beyond = self._fitting(item)
        if len(fitting) == 1 and not beyond:
            loss = self._guarded(item, collated)
        else:
            del collated
            loss = self._split(item.part, item.batch, fitting, beyond)
        self._done.append((item.batch, item.part))
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

    def _fitting(self, item: Item) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
        fitting, beyond = self.guard.parts(item.batch)
        if beyond and self.several_processes:
            # Every process has to take part in every update; it is tried, and usually the bound was above the truth.
            return (*fitting, *beyond), ()
        return fitting, beyond

    def _split(
        self, part: Part, batch: Batch, fitting: tuple[Batch, ...], beyond: tuple[Batch, ...], *, again: bool = False
    ) -> float:
        """The batch in parts, of the same weight together; what does not fit by itself waits."""
        per_graph = part.weight / n_graphs(batch)
        if not again:
            self.counts.split += len(fitting) > 1
            self.counts.deferred += len(beyond)
            self.waiting += [(sample, per_graph) for sample in beyond]
        log.debug("%d graphs in %d parts, %d wait: %s free", n_graphs(batch), len(fitting), len(beyond),
                  format_bytes(int(self.guard.room_bytes())))  # fmt: skip
        return self._run(part, [(group, per_graph * n_graphs(group)) for group in fitting])

    def _run(self, part: Part, batches: list[tuple[Batch, float]]) -> float:
        """Batches with their weights as one `part` of an update."""
        if not batches:  # nothing fits: the update still begins and ends
            self._close_empty(part)
            return 0.0
        total, n_seen = 0.0, 0
        for i, (batch, weight) in enumerate(batches):
            own = Part(weight, first=part.first and i == 0, last=part.last and i == len(batches) - 1)
            total += n_graphs(batch) * self._step(self.workload.collate(batch), own)
            n_seen += n_graphs(batch)
        return total / n_seen

    def _close_empty(self, part: Part) -> None:
        if part.first:
            self.optimizer.zero_grad(set_to_none=False)
        if part.last:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.rules.clip_norm)
            self.optimizer.step()

    def _step(self, collated: Any, part: Part) -> float:
        with nullcontext() if part.last else self.alone():
            return training_step(
                self.workload, self.model, self.optimizer, on_device(collated, self.device), self.precision, self.rules,
                part=part, backward=self.backward,
            )  # fmt: skip

    def _guarded(self, item: Item, collated: Any) -> float:
        """The batch as it is; should memory run out, its update from the start, with this batch in halves."""
        try:
            return self._step(collated, item.part)
        except Exception as error:
            if isinstance(error, CompassError) or self.several_processes:
                raise
            status, detail = classify(error)
            if status is not Status.OUT_OF_MEMORY:
                raise
            del error
        del collated
        self.counts.out_of_memory += 1
        self.guard.tell(ok=False)
        log.warning("out of memory on %d graphs (%s): tried again in halves", n_graphs(item.batch), detail)
        gc.collect()
        self.empty_cache()
        if self.ran_out is not None:
            self.ran_out(item.batch, detail)
        try:
            return self._again(item)
        except Exception as error:
            if isinstance(error, CompassError) or classify(error)[0] is not Status.OUT_OF_MEMORY:
                raise
            raise OutOfMemoryAgain(
                f"{n_graphs(item.batch)} graphs ran out of memory, and so did their halves. Checkpoints are kept: "
                "free memory, or plan anew with `compass optimize`, and resume"
            ) from None

    def _again(self, item: Item) -> float:
        """The whole update so far: gradients that an interrupted backward pass left are half a sum."""
        for batch, part in self._done:
            self._split(Part(part.weight, first=part.first, last=False), batch, *self.guard.parts(batch), again=True)
        members = [name for name, copies in item.batch.members for _ in range(copies)]
        if len(members) == 1:
            return self._run(item.part, [(item.batch, item.part.weight)])
        per_graph = item.part.weight / len(members)
        groups = [batch_of(group) for group in reversed(halves(members))]
        return self._run(item.part, [(batch, per_graph * n_graphs(batch)) for batch in groups])

    def _catch_up(self) -> None:
        """Samples that were too large and fit by now: an update of their own each."""
        for batch, weight in [pair for pair in self.waiting if not self.guard.parts(pair[0])[1]]:
            self.waiting.remove((batch, weight))
            self._run(Part(), [(batch, weight)])
