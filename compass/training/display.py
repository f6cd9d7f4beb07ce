"""The progress of a run for the display: the present epoch or evaluation, and the time that is left of the whole run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from compass.records import Progress
from compass.training.last_evaluation import evaluated_ids
from compass.training.time_plan import RemainingTime, make_time_plan
from compass.units import format_bytes

if TYPE_CHECKING:
    from compass.training.build_run import TrainingRun
    from compass.training.checkpoints import Progressed

REFRESH_S = 0.5
"""Seconds between two updates of the display; a person reads no faster."""
_PARTS = {"train": "training set", "val": "validation set", "test": "test set", "baselines": "baselines"}


class RunDisplay:
    """Shows a run's progress.

    Attributes:
        left: the remaining time, which is told every batch and validation.
    """

    def __init__(self, run: TrainingRun, watch: Callable[[Progress], None]) -> None:
        self.left = RemainingTime(make_time_plan(run))
        self._run, self._watch = run, watch
        self._shown_s = 0.0
        self._chosen = evaluated_ids(run.data, run.spec.config.training.evaluated_train, run.spec.config.seed)
        self._evaluated: dict[str, int] = {}

    def show_batch(self, at: Progressed) -> None:
        """Show that `at` is reached."""
        if not self._is_due():
            return
        n_done, n_expected = at.n_batches, self.left.n_expected(at.n_batches, at.elapsed_s)
        n_cycle = self._run.spec.config.cycle_batches
        what = (
            f"epoch {at.position.epoch + 1}, cycle {n_done / n_cycle:.1f} of {n_expected / n_cycle:.1f}, "
            f"loss {self._run.module.loss:.3f}, {format_bytes(self._run.meter.footprint_bytes())}"
        )
        self._tell(what, n_done, n_expected, self.left.training_s(n_done, at.elapsed_s) + self.left.evaluation_s())

    def show_validation(self, at: Progressed, epoch: int, n_done: int) -> None:
        """Show that the validation of `epoch`, counted from 1, has predicted `n_done` complexes."""
        if self._is_due():
            left_s = self.left.training_s(at.n_batches, at.elapsed_s) + self.left.evaluation_s()
            self._tell(f"epoch {epoch}, validation", n_done, len(self._run.data.split.val), left_s)

    def show_last(self, part: str, n_done: int) -> None:
        """Show that the evaluation at the end has predicted `n_done` complexes of `part`, or has come to the baselines."""
        self._evaluated[part] = n_done
        if not self._is_due() and part != "baselines":
            return
        n_seen, n_all = sum(self._evaluated.values()) * self._run.ranks.n, self._chosen.n
        left_s = self.left.evaluation_s(max(0.0, 1 - n_seen / n_all))
        self._tell(f"last evaluation, {_PARTS[part]}", min(n_seen, n_all), n_all, left_s)

    def _is_due(self) -> bool:
        """Whether the display is old enough; if so, it is shown now."""
        if time.monotonic() - self._shown_s < REFRESH_S:
            return False
        self._shown_s = time.monotonic()
        return True

    def _tell(self, what: str, n_done: int, n_expected: int, remaining_s: float) -> None:
        self._watch(Progress(phase="train", what=what, n_done=n_done, n_expected=n_expected, remaining_s=remaining_s))
