"""The work around the steps of a run: cycles, evaluations, checkpoints, and requests to save or to stop."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from compass.device import OtherPrograms
from compass.records import Cycle, Evaluation, Progress, device_kind
from compass.records.training import CYCLES, EPOCHS
from compass.training.checkpoints import BEST, Progressed, random_state, set_random_state
from compass.training.cycle_report import CycleClock, append_row, epoch_row
from compass.training.display import RunDisplay
from compass.training.evaluation import evaluate_validation
from compass.training.going_on import CHECKPOINT, Unwritten
from compass.training.ledger_feedback import LedgerFeedback, may_feed_back
from compass.training.memory_warmup import warm_up_memory
from compass.training.signals import Signals
from compass.training.slowness import doubt, is_far_slower
from compass.training.stopwatch import BatchTimes, Stopwatch
from compass.training.stream import Item
from compass.training.updates import Updates

if TYPE_CHECKING:
    from compass.device import Ceiling
    from compass.training.build_run import TrainingRun

log = logging.getLogger(__name__)

CEILING_WARM_STEPS = 2
"""Steps after which libraries have loaded what they need; file-backed pages beyond the ceiling's control are final then."""


class RunCallback(pl.Callback):
    """Follows one run on every rank; the first rank writes its files.

    Attributes:
        at: the progress of the run.
        cycles: the finished cycles of this process.
        signals: the requests to save or to stop.
        ceiling: the ceiling of this process, tightened during the first steps; None: not enforced.
        resumed: the content of the checkpoint to resume from, until training starts.
        display: shows the progress.
        unwritten: files that could not be written.
    """

    def __init__(self, run: TrainingRun, watch: Callable[[Progress], None]) -> None:
        self.run = run
        self.at = Progressed(split=run.data.split.digest)
        self.clock = CycleClock(run.batch_s, run.bound_bytes, run.spec.config.cycle_batches)
        self.cycles: list[Cycle] = []
        self.signals = Signals()
        self.ceiling: Ceiling | None = None
        self.resumed: dict[str, Any] | None = None
        self.unwritten = Unwritten()
        self._feedback = LedgerFeedback(run) if may_feed_back(run) else None
        self._stopwatch = Stopwatch()
        self.display = RunDisplay(run, watch)
        self._other_programs = OtherPrograms()
        self._is_doubted = False
        """Whether the run has been said to be slower than predicted."""
        self._started_at = self.at
        """The progress at which this process began."""
        self._saved_s = 0.0
        """When the last checkpoint was written, on the monotonic clock."""
        self._n_not_whole = 0
        """Batches that did not run whole, until the end of the last cycle."""

    # -------------------------------------------------------------------------------------------------- Lightning's hooks

    def on_train_start(self, *_: Any) -> None:
        """Prepare the first step: Lightning has placed the model, and has fetched no batch yet."""
        run = self.run
        updates = run.module.updates = make_updates(run, self._feedback)
        run.meter.reset_peak()
        fitted = warm_up_memory(updates, run.largest, run.device)
        if fitted and self._feedback is not None:
            self._feedback.fullest = run.largest, run.largest.load(run.data.loads)
        self._restore_state()
        self.signals.install()
        self._started_at = self.at
        self._stopwatch.start(self.at.elapsed_s)
        self._other_programs = OtherPrograms()
        self._saved_s = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        """A batch arrived."""
        self._stopwatch.batch_arrived()

    def on_train_batch_end(self, trainer: pl.Trainer, *given: Any) -> None:
        """A batch was trained; the cycle, the epoch, the update or the run may end with it."""
        item: Item = given[2][0]  # Lightning's module, outputs, batch and index
        self.run.meter.synchronize()
        self._count(item, self._stopwatch.batch_finished())
        if not self._is_doubted and is_far_slower(self.clock):
            self._doubt(self.clock.finish(0))
        self.run.meter.sample()
        if self.ceiling is not None and self.at.n_batches - self._started_at.n_batches <= CEILING_WARM_STEPS:
            self.ceiling.tighten()
        if self.clock.full or item.is_final:
            self._finish_cycle()
        if item.ends_epoch:
            self._finish_epoch(trainer)
        if item.part.last:
            self._between_updates(trainer, item)
        self.display.show_batch(self.at)
        self._stopwatch.wait_for_data()

    # ----------------------------------------------------------------------------------------------- batches, cycles, epochs

    def _restore_state(self) -> None:
        """Give the optimizer and the random generators the states of the checkpoint, if the run is resumed."""
        if self.resumed is None:
            return
        module, states = self.run.module, self.resumed["random"]
        module.optimizer.load_state_dict(self.resumed["optimizer"])
        if module.global_rank < len(states):  # the checkpoint may be of fewer ranks
            set_random_state(states[module.global_rank], self.run.device)
        self.resumed = None

    def _count(self, item: Item, times: BatchTimes) -> None:
        module, load = self.run.module, item.batch.load(self.run.data.loads)
        told = math.isfinite(module.loss)  # else the means of the cycle and of the epoch would be lost
        self.clock.add(item.batch, load, step_s=times.step_s, data_s=times.data_s, loss=module.loss)
        self.display.left.add_batch(times.step_s + times.data_s)
        self.at = self.at.model_copy(
            update={
                "epoch_loss": self.at.epoch_loss + (module.loss * load.graphs if told else 0.0),
                "epoch_graphs": self.at.epoch_graphs + load.graphs * told,
                "position": item.next_position,
                "n_batches": self.at.n_batches + 1,
                "n_updates": module.n_updates_done,
                "n_left_out": self._started_at.n_left_out + self._updates.counts.not_finite,
                "n_graphs": self.at.n_graphs + load.graphs * module.trainer.world_size,
                "elapsed_s": times.elapsed_s,
            }
        )

    def _finish_cycle(self) -> None:
        cycle = self.clock.finish(self.run.meter.footprint_bytes(), self.at.n_batches)
        n_not_whole = self._updates.counts.not_whole
        is_whole = n_not_whole == self._n_not_whole  # the times of parts do not apply to whole batches
        if is_whole and self._feedback is not None:
            self._feedback.record_cycle(cycle, self.clock)
        self._n_not_whole = n_not_whole
        self.clock.start_next()
        self.cycles.append(cycle)
        log.info("%s", cycle)
        self._doubt(cycle)
        if self._is_first:
            with self.unwritten.going_on(CYCLES):
                append_row(cycle.model_dump(), self.run.folder / CYCLES)

    def _doubt(self, cycle: Cycle) -> None:
        """Say once that the run is much slower than predicted, and why that may be."""
        if self._is_doubted:
            return
        run = self.run
        on_host = device_kind(run.device).memory == "host"
        is_alone = on_host and run.ranks.n == 1 and not run.spec.loader_workers  # its own helpers would count as others
        busy_cores = self._other_programs.busy_cores() if is_alone else None
        if warning := doubt(cycle, run.spec.plan.runtime, busy_cores, on_host=on_host, again=run.spec.again):
            log.warning("%s", warning)
            self._is_doubted = True

    def _finish_epoch(self, trainer: pl.Trainer) -> None:
        self._updates.finish_epoch()
        epoch = self.at.position.epoch + (self.at.position.batch > 0)  # counted from 1
        loss = self.at.epoch_loss / max(1, self.at.epoch_graphs)
        self.at = self.at.model_copy(update={"epoch_loss": 0.0, "epoch_graphs": 0})
        found = self._validate(epoch)
        log.info("epoch %d: training loss %.3f%s", epoch, loss, "" if found is None else f"; {found}")
        if found is not None:
            self._keep_if_best(found, epoch)
        for logger in trainer.loggers:
            logger.log_metrics({"train_loss": loss, **(found.figures() if found else {})}, step=self.at.n_updates)
        if self._is_first:
            with self.unwritten.going_on(EPOCHS):
                append_row(epoch_row(epoch, self.at.n_updates, loss, found), self.run.folder / EPOCHS)

    def _validate(self, epoch: int) -> Evaluation | None:
        """The metrics on the validation part, timed."""
        began_s = time.monotonic()
        found = evaluate_validation(self.run, partial(self.display.show_validation, self.at, epoch))
        if found is not None:
            self.display.left.add_validation(time.monotonic() - began_s)
        return found

    def _keep_if_best(self, found: Evaluation, epoch: int) -> None:
        """Write the model's weights, if its validation score is the best so far."""
        if found.score is None:
            return
        if not math.isfinite(found.score):
            log.warning("epoch %d: a prediction is not a finite number, so this model is not kept as the best", epoch)
        elif self.at.best is None or found.score < self.at.best:
            better = self.at.model_copy(update={"best": found.score})
            with self.unwritten.going_on(BEST):
                if self._is_first:
                    self.run.checkpoints.write_best(self.run.spec, found.score, self.run.module.model.state_dict())
                self.at = better

    # -------------------------------------------------------------------------------------------------- between updates

    def _between_updates(self, trainer: pl.Trainer, item: Item) -> None:
        """Log the update, and answer requests to save or to stop; a run whose time is over ends its cycle and its epoch."""
        loss = {"loss": self.run.module.loss} if math.isfinite(self.run.module.loss) else {}
        metrics = {**loss, "learning_rate": self.run.module.rate}
        for logger in trainer.loggers:
            logger.log_metrics(metrics, step=self.at.n_updates)
        save, stop, time_share = self._agreed_requests()
        self.run.module.time_share = time_share
        time_is_over = time_share >= 1.0
        if time_is_over and self.clock.step_times:
            self._finish_cycle()
        if time_is_over and not item.ends_epoch:
            self._finish_epoch(trainer)
        if stop or time_is_over or save or item.is_final:
            self._save()
        if stop or time_is_over:
            trainer.should_stop = True

    def _agreed_requests(self) -> tuple[bool, bool, float]:
        """(whether to save, whether to stop, the share of the run's time that is over), the same on all ranks.

        Ranks that acted on their own requests would wait for each other for ever.
        """
        due = time.monotonic() - self._saved_s >= self.run.spec.config.training.checkpoint_s
        save, stop, time_share = self._largest_of_ranks(
            self.signals.save or due, self.signals.stop or 0, self.run.spec.amount.elapsed_share(self.at.elapsed_s)
        )
        if stop:
            self.signals.stop = int(stop)
        return bool(save), bool(stop), time_share

    def _largest_of_ranks(self, *values: float) -> list[float]:
        """For each of `values` the largest among all ranks."""
        if self.run.module.trainer.world_size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float32, device=self.run.module.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return [float(value) for value in found.tolist()]

    def _save(self) -> None:
        module = self.run.module
        states: list[Any] = [random_state(self.run.device)]
        if module.trainer.world_size > 1:
            states = [None] * module.trainer.world_size
            torch.distributed.all_gather_object(states, random_state(self.run.device))
        if self._is_first:
            waiting = tuple((batch.members[0][0], weight) for batch, weight in self._updates.waiting)
            progressed = self.at.model_copy(update={"waiting": waiting})
            with self.unwritten.going_on(CHECKPOINT):
                self.run.checkpoints.write(
                    self.run.spec, progressed, module.model.state_dict(), module.optimizer.state_dict(), states
                )
        self._saved_s = time.monotonic()
        self.signals.save = False

    @property
    def _is_first(self) -> bool:
        return self.run.module.global_rank == 0

    @property
    def _updates(self) -> Updates:
        updates = self.run.module.updates
        assert updates is not None  # noqa: S101 - set when training starts
        return updates


def make_updates(run: TrainingRun, feedback: LedgerFeedback | None) -> Updates:
    """The weight updates of a run whose model is on its device."""
    module, several = run.module, run.ranks.n > 1
    return Updates(
        workload=run.workload,
        model=module.model,
        optimizer=module.optimizer,
        variant=run.spec.plan.choice.knobs.variant,
        rules=run.spec.config.training,
        device=str(module.device),
        guard=run.guard,
        backward=module.manual_backward if several else torch.Tensor.backward,
        without_sync=module.without_sync,
        several_processes=several,
        empty_cache=run.meter.empty_cache,
        again=run.spec.again,
        noun=run.spec.noun,
        waiting=run.waiting,
        on_out_of_memory=None if feedback is None else feedback.record_out_of_memory,
    )
