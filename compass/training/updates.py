"""Weight updates from batches that are cut to the free memory.

A batch that is cut, and one that runs out of memory, give the same weights as a batch that fits.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch

from compass.errors import CompassError, NonFiniteLoss, Overflow
from compass.probe.failures import classify
from compass.records import Batch, Status
from compass.records.nouns import counted, of_batch
from compass.training.guard import Guard, n_graphs
from compass.training.stream import Item
from compass.units import format_bytes
from compass.workloads.step import UpdatePart, on_device, training_step, update

if TYPE_CHECKING:
    from compass.optimizer_config import TrainingRules
    from compass.records import Variant
    from compass.workloads.optimizers import AnyOptimizer
    from compass.workloads.protocol import Workload

log = logging.getLogger(__name__)


Parts = list[tuple[Batch, float]]
"""Batches with their weights in an update."""


class OutOfMemoryAgain(CompassError):  # noqa: N818 - it names what happened
    """A batch ran out of memory, and so did its smallest parts."""

    exit_code = 3


@dataclass
class Counts:
    """The batches and samples that did not run as planned."""

    split: int = 0
    """Batches that were cut to the free memory."""
    deferred: int = 0
    """Samples that did not fit even alone, and waited."""
    out_of_memory: int = 0
    """How often memory ran out; the update was repeated in smaller parts."""
    skipped: list[str] = field(default_factory=list)
    """Ids of samples that did not fit during a whole epoch."""
    not_finite: int = 0
    """Updates that were left out because their loss or their gradient was not finite."""

    @property
    def not_whole(self) -> int:
        """Events that kept a batch from running whole."""
        return self.split + self.deferred + self.out_of_memory


@dataclass
class Updates:
    """Takes one batch after another; the last one of an update changes the weights."""

    workload: Workload
    model: torch.nn.Module
    optimizer: AnyOptimizer
    variant: Variant
    rules: TrainingRules
    device: str
    guard: Guard
    backward: Callable[[torch.Tensor], None] = torch.Tensor.backward
    without_sync: Callable[[], AbstractContextManager[Any]] = nullcontext
    """A context in which gradients stay in this process; entered for all parts of an update except the last."""
    several_processes: bool = False
    again: str = "compass optimize"
    """The command that plans this stage again."""
    noun: str = ""
    """The workload's, for messages."""
    empty_cache: Callable[[], None] = lambda: None
    on_out_of_memory: Callable[[Batch, str], None] | None = None
    """Called with a batch that ran out of memory and the error's text, after its memory is released."""
    counts: Counts = field(default_factory=Counts)
    waiting: list[tuple[Batch, float]] = field(default_factory=list)
    """Samples that do not fit the free memory yet, with their weight in an update."""
    _done: list[tuple[UpdatePart, Parts]] = field(default_factory=list)
    """The parts of the present update that have run."""
    _not_finite_in_a_row: int = 0
    _statistics: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """The running statistics of normalising layers, each with its value at the start of the present update."""

    def take(self, item: Item, collated: Any) -> float:
        """Run one batch and return its mean loss; the weights change if it is the last of an update.

        Raises:
            NonFiniteLoss: the loss or the gradient was not finite in too many updates in a row.
            OutOfMemoryAgain: memory ran out, and again with the batch in its smallest parts.
        """
        if item.part.first:
            self._begin()
        parts = self._fitting(item)
        try:
            loss = self._taken(item, collated, parts)
        except NonFiniteLoss as error:
            loss = error.value
            self._leave_out(error)
        else:
            if item.part.last:
                self._not_finite_in_a_row = 0
        self._done.append((item.part, parts))
        if item.part.last:
            self.guard.record(ok=True)
            self._catch_up()
        return loss

    def _begin(self) -> None:
        """Begin an update."""
        self._done = []
        self._statistics = [(one, one.clone()) for one in running_statistics(self.model)]

    def _put_back_statistics(self) -> None:
        """Let normalising layers forget the forward passes of the present update."""
        with torch.no_grad():
            for now, before in self._statistics:
                now.copy_(before)

    def _taken(self, item: Item, collated: Any, parts: Parts) -> float:
        is_whole = [batch for batch, _ in parts] == [item.batch]
        run = partial(self._step, collated) if is_whole else partial(self._run, parts)
        loss = self._unless_out_of_memory(item.batch, partial(run, item.part))
        return self._repeat_in_smaller_parts(item, parts) if loss is None else loss

    def _leave_out(self, error: NonFiniteLoss) -> None:
        """Count an update that changed no weights, and put back what the forward pass changed.

        Raises:
            NonFiniteLoss: there were too many of them in a row.
        """
        self._put_back_statistics()
        if isinstance(error, Overflow):
            log.info("fp16 gradients overflowed: this update is left out, and the loss is scaled by half as much")
            return
        self.counts.not_finite += 1
        self._not_finite_in_a_row += 1
        if self._not_finite_in_a_row >= self.rules.most_not_finite:
            raise error
        log.warning(
            "%s: this update is left out (%d in a row, %d in all)",
            error,
            self._not_finite_in_a_row,
            self.counts.not_finite,
        )

    def finish_epoch(self) -> None:
        """Give up the samples that still wait, and log their ids."""
        for name in (name for batch, _ in self.waiting for name, _ in batch.members):
            self.counts.skipped.append(name)
            log.warning("%s did not fit into memory during the whole epoch and was left out", name)
        self.waiting.clear()

    # ------------------------------------------------------------------------------------------------- parts and steps

    def _fitting(self, item: Item) -> Parts:
        """The batch in parts that fit, each with its weight; samples that do not fit even alone wait."""
        fitting, beyond = self.guard.parts(item.batch)
        if beyond and self.several_processes:
            # Every process must take part in every update. The samples are tried: their bound is usually above the truth.
            fitting, beyond = (*fitting, *beyond), ()
        per_graph = item.part.weight / n_graphs(item.batch)
        self.counts.split += len(fitting) > 1
        self.counts.deferred += sum(n_graphs(part) for part in beyond)
        self.waiting += _weighed(beyond, per_graph)
        if len(fitting) != 1 or beyond:
            log.debug(
                "%s in %d parts, %d wait: %s free",
                self._counted(item.batch),
                len(fitting),
                len(beyond),
                format_bytes(int(self.guard.available_bytes())),
            )
        return _weighed(fitting, per_graph)

    def _run(self, batches: Parts, part: UpdatePart) -> float:
        """Run weighted batches as one `part` of an update; returns their mean loss."""
        if not batches:  # no sample fits: the update must begin and end nevertheless
            self._run_nothing(part)
            return 0.0
        total, n_seen = 0.0, 0
        for i, (batch, weight) in enumerate(batches):
            own = UpdatePart(weight, first=part.first and i == 0, last=part.last and i == len(batches) - 1)
            total += n_graphs(batch) * self._step(self.workload.collate(batch), own)
            n_seen += n_graphs(batch)
        return total / n_seen

    def _run_nothing(self, part: UpdatePart) -> None:
        if part.first:
            self.optimizer.zero_grad(set_to_none=False)
        if part.last:
            update(self.model, self.optimizer, self.rules)

    def _step(self, collated: Any, part: UpdatePart) -> float:
        with nullcontext() if part.last else self.without_sync():
            return training_step(
                self.workload,
                self.model,
                self.optimizer,
                on_device(collated, self.device),
                self.variant,
                self.rules,
                part=part,
                backward=self.backward,
            )

    # --------------------------------------------------------------------------------------------------- out of memory

    def _unless_out_of_memory(self, batch: Batch, run: Callable[[], float]) -> float | None:
        """The loss that `run` returns; None if memory ran out on `batch`.

        The error holds tensors. It is gone before room is made, and before the batch is tried in another way.
        """
        try:
            return run()
        except Exception as error:
            detail = self._out_of_memory_detail(error)
            if detail is None:
                raise
        self._make_room(batch, detail)
        return None

    def _out_of_memory_detail(self, error: Exception) -> str | None:
        """The text of an out-of-memory error that this process can recover from; None for other errors."""
        if isinstance(error, CompassError) or self.several_processes:
            return None
        status, detail = classify(error)
        return detail if status is Status.OUT_OF_MEMORY else None

    def _make_room(self, batch: Batch, detail: str) -> None:
        """Count the out-of-memory, trust the guard's law less, and release memory."""
        self.counts.out_of_memory += 1
        self.guard.record(ok=False)
        log.warning("out of memory on %s (%s): trying again in smaller parts", self._counted(batch), detail)
        gc.collect()
        self.empty_cache()
        if self.on_out_of_memory is not None:
            self.on_out_of_memory(batch, detail)

    def _repeat_in_smaller_parts(self, item: Item, parts: Parts) -> float:
        """Repeat the update from its start with this batch in halves, then in quarters, down to the smallest parts.

        The system may refuse the half of what it refused a moment ago: an allocator keeps what the whole batch had taken.
        Returns the batch's mean loss.
        """
        parts = self._halved(parts)
        while (loss := self._unless_out_of_memory(item.batch, partial(self._repeat, item, parts))) is None:
            n_before, parts = len(parts), self._halved(parts)
            if len(parts) == n_before:
                raise OutOfMemoryAgain(
                    f"{self._counted(item.batch)} ran out of memory, and so did their smallest parts. Free "
                    f"memory, or run `{self.again}`; then go on with --resume"
                )
        return loss

    def _repeat(self, item: Item, parts: Parts) -> float:
        """Repeat the update from its start, for the interrupted backward pass left incomplete sums in the gradients.

        Earlier parts are cut to the guard's new limit, but none of their samples waits: they fitted a moment ago.
        """
        self._put_back_statistics()
        for part, done in self._done:
            smaller = [cut for batch, weight in done for cut in self._cut(batch, weight)]
            self._run(smaller, UpdatePart(part.weight, first=part.first, last=False))
        return self._run(parts, item.part)

    def _halved(self, parts: Parts) -> Parts:
        halved = [_weighed(self.guard.smaller(batch), weight / n_graphs(batch)) for batch, weight in parts]
        return list(chain.from_iterable(halved))

    def _counted(self, batch: Batch) -> str:
        return counted(n_graphs(batch), of_batch(self.noun))

    def _cut(self, batch: Batch, weight: float) -> Parts:
        fitting, beyond = self.guard.parts(batch)
        return _weighed((*fitting, *beyond), weight / n_graphs(batch))

    def _catch_up(self) -> None:
        """Make an update of each waiting sample that fits by now."""
        for batch, weight in [pair for pair in self.waiting if not self.guard.parts(pair[0])[1]]:
            self._begin()
            try:
                if self._unless_out_of_memory(batch, partial(self._run, [(batch, weight)], UpdatePart())) is None:
                    self._put_back_statistics()
                    break  # the sample goes on waiting, and the next update begins without gradients
            except NonFiniteLoss as error:
                self._leave_out(error)
            self.waiting.remove((batch, weight))


def running_statistics(model: torch.nn.Module) -> list[torch.Tensor]:
    """The buffers that normalising layers change in a forward pass."""
    layers = (layer for layer in model.modules() if getattr(layer, "track_running_stats", False))
    return [buffer for layer in layers for buffer in layer.buffers(recurse=False)]


def _weighed(batches: Iterable[Batch], per_graph: float) -> Parts:
    """`batches`, each with `per_graph` as weight for each of its graphs."""
    return [(batch, per_graph * n_graphs(batch)) for batch in batches]
