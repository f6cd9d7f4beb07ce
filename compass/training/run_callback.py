"""What happens around the steps: the clock, cycles, evaluations, checkpoints, requests to save or to stop."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from compass.records import Load, Progress
from compass.training.checkpoints import Checkpoints, Progressed, random_state, set_random_state
from compass.training.cycle_report import CYCLES, Cycle, CycleClock, append_row, doubt
from compass.training.module import Module
from compass.training.run_spec import RunSpec
from compass.training.stream import Item
from compass.units import format_bytes

if TYPE_CHECKING:
    from compass.device import Ceiling, Meter
    from compass.training.evaluation import Evaluation
    from compass.training.updates import Updates

log = logging.getLogger(__name__)

EPOCHS = "epochs.csv"
WARM_STEPS = 2
"""After which the libraries have read in what they need: file-backed pages outside the ceiling's reach count from then."""
REFRESH_S = 0.5
"""Between two updates of what a person sees."""


class Signals:
    """What this process was told meanwhile: to stop after the present update, or to save at its end."""

    def __init__(self) -> None:
        self.stop: int | None = None
        """The signal that asked."""
        self.save = False
        self._before: dict[int, Any] = {}

    def install(self) -> None:
        """Listen. After Lightning, which has handlers of its own."""
        for number in (signal.SIGTERM, signal.SIGINT, *_SAVE):
            self._before[number] = signal.signal(number, self._hear)

    def restore(self) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _: FrameType | None) -> None:
        if number in _SAVE:
            self.save = True
        elif self.stop is not None:  # the second time is meant
            raise KeyboardInterrupt
        else:
            self.stop = number


_SAVE = (signal.SIGUSR1,) if hasattr(signal, "SIGUSR1") else ()


@dataclass(eq=False)
class RunCallback(pl.Callback):
    """Follows one run, on every rank; the first one writes."""

    spec: RunSpec
    folder: Path
    module: Module
    meter: Meter
    device: str
    load_of: Callable[[Item], Load]
    clock: CycleClock
    checkpoints: Checkpoints
    evaluate: Callable[[], Evaluation | None]
    watch: Callable[[Progress], None]
    n_batches: int
    """Of the whole training."""
    place: Callable[[Module], Updates]
    """Makes updates of the module, once Lightning has put it on its device."""
    warm_up_memory: Callable[[Updates], None]
    """Runs the largest batch once Lightning has placed everything."""
    ceiling: Ceiling | None = None
    """What the whole process is held under."""
    resumed: dict[str, Any] | None = None
    """The checkpoint that the run goes on from."""
    learn: Callable[[Cycle, CycleClock], None] | None = None
    """Tells the ledger of a finished cycle, before the clock forgets it."""
    at: Progressed = field(default_factory=Progressed)
    signals: Signals = field(default_factory=Signals)
    cycles: list[Cycle] = field(default_factory=list)
    _began: float = 0.0
    _left: float = 0.0
    _started: float = 0.0
    _saved: float = 0.0
    _told: float = 0.0
    _elapsed_before_s: float = 0.0
    _first: int = 0
    _cut: int = 0

    # ------------------------------------------------------------------------------------------------- Lightning's hooks

    def on_train_start(self, *_: Any) -> None:
        """The last moment before the first batch is fetched."""
        self.module.updates = self.place(self.module)
        self.meter.reset_peak()
        self.warm_up_memory(self.module.updates)
        if self.resumed is not None:
            self.module.optimizer.load_state_dict(self.resumed["optimizer"])
            states = self.resumed["random"]
            if self.module.global_rank < len(states):  # of processes that were not there before, nothing is known
                set_random_state(states[self.module.global_rank], self.device)
            self.resumed = None
        self.signals.install()
        self._elapsed_before_s, self._first = self.at.elapsed_s, self.at.n_batches
        self._began = self._left = self._saved = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        """The batch is here."""
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, *given: Any) -> None:
        """The batch is done."""
        item: Item = given[2][0]  # Lightning's module, outputs, batch and index
        self.meter.synchronize()
        now = time.monotonic()
        self._count(item, now)
        self.meter.sample()
        if self.ceiling is not None and self.at.n_batches - self._first <= WARM_STEPS:
            self.ceiling.tighten()
        if self.clock.full or item.is_final:
            self._finish_cycle()
        if item.ends_epoch:
            self._finish_epoch(trainer)
        if item.part.last:
            self._between_updates(trainer, item)
        self._show(now)
        self._left = time.monotonic()

    def on_train_end(self, *_: Any) -> None:
        """All is done, or asked to stop."""
        self.signals.restore()

    def on_exception(self, *_: Any) -> None:
        """Handlers go with the run."""
        self.signals.restore()

    # ---------------------------------------------------------------------------------------------------- what they do

    def _count(self, item: Item, now: float) -> None:
        load, step_s = self.load_of(item), now - self._started
        self.clock.add(item.batch, load, step_s=step_s, data_s=self._started - self._left, loss=self.module.loss)
        self.at = self.at.model_copy(
            update={
                "position": item.then,
                "n_batches": self.at.n_batches + 1,
                "n_updates": self.module.n_updates_done,
                "n_graphs": self.at.n_graphs + load.graphs * self.module.trainer.world_size,
                "elapsed_s": self._elapsed_before_s + now - self._began,
            }
        )

    def _finish_cycle(self) -> None:
        cycle, cut = self.clock.finish(self.meter.footprint_bytes()), self._n_cut()
        if self.learn is not None and cut == self._cut:  # batches in parts say little of whole ones
            self.learn(cycle, self.clock)
        self._cut = cut
        self.clock.start_anew()
        self.cycles.append(cycle)
        log.info("%s", cycle)
        if warning := doubt(cycle, self.spec.plan.runtime):
            log.warning("%s", warning)
        if self.module.global_rank == 0:
            append_row(cycle.model_dump(), self.folder / CYCLES)

    def _n_cut(self) -> int:
        """Batches so far that did not run whole."""
        counts = self.module.updates.counts if self.module.updates else None
        return counts.split + counts.deferred + counts.out_of_memory if counts else 0

    def _finish_epoch(self, trainer: pl.Trainer) -> None:
        updates = self.module.updates
        assert updates is not None  # noqa: S101 - training runs
        updates.finish_epoch()
        found = self.evaluate()
        if found is None:
            return
        epoch = self.at.position.epoch + (self.at.position.batch > 0)  # counted from 1
        log.info("epoch %d: %s", epoch, found)
        for logger in trainer.loggers:
            logger.log_metrics(found.figures(), step=self.at.n_updates)
        if found.score is not None and not math.isfinite(found.score):
            log.warning("epoch %d: an answer is not a number, and so this cannot be the best model", epoch)
        elif found.score is not None and (self.at.best is None or found.score < self.at.best):
            self.at = self.at.model_copy(update={"best": found.score})
            if self.module.global_rank == 0:
                self.checkpoints.write_best(self.spec, found.score, self.module.model.state_dict())
        if self.module.global_rank == 0:
            row = {"epoch": epoch, "updates": self.at.n_updates, **found.figures()}
            append_row(row, self.folder / EPOCHS)

    def _between_updates(self, trainer: pl.Trainer, item: Item) -> None:
        for logger in trainer.loggers:
            logger.log_metrics({"loss": self.module.loss, "learning_rate": self.module.rate}, step=self.at.n_updates)
        due = time.monotonic() - self._saved >= self.spec.config.training.checkpoint_s
        save, told, share = self._agreed(
            self.signals.save or due, self.signals.stop or 0, self.spec.amount.gone(self.at.elapsed_s)
        )
        if told:  # on every rank: whoever heard nothing would go on to judge, and wait for the others for ever
            self.signals.stop = int(told)
        self.module.time_share = share
        late = share >= 1.0
        if late:
            if self.clock.step_times:
                self._finish_cycle()
            if not item.ends_epoch:
                self._finish_epoch(trainer)
        if told or late or save or item.is_final:
            self._save()
        if told or late:
            trainer.should_stop = True

    def _agreed(self, *values: float) -> list[float]:
        """The largest that any rank says of each; ranks that stepped apart would wait for each other for ever."""
        if self.module.trainer.world_size == 1:
            return list(values)
        found = torch.tensor(values, dtype=torch.float32, device=self.module.device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return [float(value) for value in found.tolist()]

    def _save(self) -> None:
        states: list[Any] = [random_state(self.device)]
        if self.module.trainer.world_size > 1:
            states = [None] * self.module.trainer.world_size
            torch.distributed.all_gather_object(states, random_state(self.device))
        if self.module.global_rank == 0:
            updates = self.module.updates
            assert updates is not None  # noqa: S101 - training runs
            waiting = tuple((batch.members[0][0], weight) for batch, weight in updates.waiting)
            self.checkpoints.write(
                self.spec, self.at.model_copy(update={"waiting": waiting}),
                self.module.model.state_dict(), self.module.optimizer.state_dict(), states,
            )  # fmt: skip
        self._saved = time.monotonic()
        self.signals.save = False

    def _show(self, now: float) -> None:
        if now - self._told < REFRESH_S:
            return
        self._told = now
        n_done, share = self.at.n_batches, self.module.time_share
        n_expected = max(n_done, min(self.n_batches, round(n_done / share) if share else self.n_batches))
        pace_s = (self.at.elapsed_s - self._elapsed_before_s) / max(1, n_done - self._first)
        n_cycle = self.spec.config.cycle_batches
        self.watch(
            Progress(
                phase="train",
                what=f"epoch {self.at.position.epoch + 1}, cycle {n_done / n_cycle:.1f} of {n_expected / n_cycle:.1f}, "
                f"loss {self.module.loss:.3f}, {format_bytes(self.meter.footprint_bytes())}",
                n_done=n_done,
                n_expected=n_expected,
                remaining_s=pace_s * (n_expected - n_done),
            )
        )
