"""The time that a whole run should take: its batches, a validation after each epoch, and the evaluation at the end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from compass.training.evaluation import can_evaluate
from compass.training.last_evaluation import evaluated_ids

if TYPE_CHECKING:
    from compass.training.build_run import TrainingRun

FORWARD_SHARE = 0.42
"""Of a step's time, an evaluation of the same batch, which is the forward pass without gradients: 0.40 to 0.43 measured with
ViSNet on a CPU."""
LIGAND_S = 0.003
"""To read a ligand's file and to compute its features, for the baseline that sees the ligand alone. Measured: 1.6 ms of CPU time
for 4 to 14 heavy atoms, and drugs are larger."""
MEASURED_BATCHES = 10
"""Batches after which the measured pace replaces the predicted one."""


@dataclass(frozen=True)
class TimePlan:
    """The predicted times of a run's parts, in seconds."""

    batch_s: float
    n_batches: int
    """Of the whole run, unless its time ends sooner."""
    per_epoch: int
    """Batches per epoch."""
    validation_s: float
    """One validation; one follows each epoch."""
    last_s: float
    """The evaluation at the end, of the model alone."""
    baselines_s: float
    """Fitting and evaluating the baselines at the end."""
    max_time_s: float | None = None
    """The given time for batches and validations together."""

    @property
    def n_validations(self) -> int:
        """In `n_batches`; 0 if nothing is validated."""
        return math.ceil(self.n_batches / self.per_epoch) if self.validation_s else 0

    @property
    def unlimited_s(self) -> float:
        """All batches and validations."""
        return self.batch_s * self.n_batches + self.validation_s * self.n_validations

    @property
    def training_s(self) -> float:
        """Batches and validations, until their number or their time ends the run."""
        return min(self.unlimited_s, self.max_time_s or math.inf)

    @property
    def total_s(self) -> float:
        """The whole run."""
        return self.training_s + self.last_s + self.baselines_s

    @property
    def n_expected(self) -> int:
        """Batches until their number or their time ends the run."""
        return max(1, round(self.n_batches * self.training_s / self.unlimited_s))


def make_time_plan(run: TrainingRun) -> TimePlan:
    """The time plan of `run`, all of it, from its start."""
    chosen = evaluated_ids(run.data, run.spec.config.training.evaluated_train, run.spec.config.seed)
    graph_s, evaluates = _evaluated_graph_s(run), can_evaluate(run)
    split, has_baselines = run.data.split, evaluates and run.data.catalogue is not None
    n_ligands = len({*split.train, *split.val, *split.test}) if has_baselines else 0
    return TimePlan(
        batch_s=run.batch_s,
        n_batches=run.stream.n_batches,
        per_epoch=run.stream.per_epoch,
        validation_s=graph_s * math.ceil(len(split.val) / run.ranks.n) if evaluates else 0.0,
        last_s=graph_s * math.ceil(chosen.n / run.ranks.n) if evaluates else 0.0,
        baselines_s=LIGAND_S * n_ligands,
        max_time_s=run.spec.amount.max_time_s,
    )


def _evaluated_graph_s(run: TrainingRun) -> float:
    """The time to collate and predict one graph, which this process does without loader processes."""
    plan = run.spec.plan
    collate_s = plan.measured.collate_s or 0.0
    step_s = run.batch_s - (0.0 if plan.loader_workers else collate_s)
    # Activation checkpointing repeats the forward pass in every training step.
    share = FORWARD_SHARE / (1 + FORWARD_SHARE) if plan.choice.knobs.variant.checkpointing else FORWARD_SHARE
    return share * step_s / run.sampler.mean_graphs + collate_s / plan.choice.batch_size


class RemainingTime:
    """The time that is left of a run: at the measured pace, or at the predicted one until enough is measured."""

    def __init__(self, plan: TimePlan) -> None:
        self.plan = plan
        self._batches_s, self._n_batches = 0.0, 0
        self._validations_s, self._n_validations = 0.0, 0

    def add_batch(self, seconds: float) -> None:
        """A batch took so long, its data included."""
        self._batches_s += seconds
        self._n_batches += 1

    def add_validation(self, seconds: float) -> None:
        """A validation took so long."""
        self._validations_s += seconds
        self._n_validations += 1

    @property
    def batch_s(self) -> float:
        """The time of a batch."""
        return self._batches_s / self._n_batches if self._n_batches >= MEASURED_BATCHES else self.plan.batch_s

    @property
    def evaluation_factor(self) -> float:
        """Measured over predicted time of an evaluation; 1 until one is measured."""
        if not self._n_validations or not self.plan.validation_s:
            return 1.0
        return self._validations_s / self._n_validations / self.plan.validation_s

    def evaluation_s(self, share: float = 1.0) -> float:
        """The last `share` of the evaluation at the end, and the baselines."""
        return self.plan.last_s * self.evaluation_factor * share + self.plan.baselines_s

    def training_s(self, n_done: int, elapsed_s: float) -> float:
        """Batches and validations after `n_done` batches and `elapsed_s` seconds of the run."""
        left_s = self._unlimited_s(n_done)
        return left_s if self.plan.max_time_s is None else min(left_s, max(0.0, self.plan.max_time_s - elapsed_s))

    def n_expected(self, n_done: int, elapsed_s: float) -> int:
        """Batches of the whole run, of which `n_done` are done: as many as planned, or fewer if its time ends sooner."""
        left_s, n_left = self._unlimited_s(n_done), max(0, self.plan.n_batches - n_done)
        return n_done + (round(n_left * self.training_s(n_done, elapsed_s) / left_s) if left_s else 0)

    def _unlimited_s(self, n_done: int) -> float:
        n_left = max(0, self.plan.n_batches - n_done)
        n_validations = self.plan.n_validations - n_done // self.plan.per_epoch if n_left else 0
        return self.batch_s * n_left + self.plan.validation_s * self.evaluation_factor * max(0, n_validations)
