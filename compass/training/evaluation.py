"""Predictions of a run's model for a part of the data, and their metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from compass.records import Batch, Evaluation, Load
from compass.records.training import OF_MODEL
from compass.training.guard import Guard, batch_of
from compass.training.metrics import metrics_of
from compass.workloads.step import autocast, matmul_precision, on_device

if TYPE_CHECKING:
    from compass.data.scan.rows import Label
    from compass.records import Variant
    from compass.training.build_run import TrainingRun
    from compass.workloads.protocol import Workload


@dataclass(frozen=True)
class Predictor:
    """Predicts with a workload's model, in batches that fit the memory."""

    workload: Workload
    guard: Guard
    loads: Mapping[str, Load]
    max_graphs: int
    variant: Variant
    device: str
    on_progress: Callable[[int], None] = lambda _: None
    """Called with the number of predicted samples after each batch."""

    def predict(self, model: torch.nn.Module, ids: Sequence[str]) -> dict[str, float]:
        """The prediction for each of `ids`, in evaluation mode and without gradients.

        Samples of similar size form a batch. Without gradients it needs far less memory than the guard assumes.
        """
        was_training = model.training
        model.eval()
        ordered = sorted(ids, key=lambda name: (sum(size for _, size in self.loads[name].sizes), name))
        answers: dict[str, float] = {}
        try:
            for start in range(0, len(ordered), self.max_graphs):
                fitting, beyond = self.guard.parts(batch_of(ordered[start : start + self.max_graphs]))
                for batch in (*fitting, *beyond):
                    answers |= self._answers(model, batch)
                self.on_progress(len(answers))
        finally:
            model.train(was_training)
        return answers

    def _answers(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        collated: Any = on_device(self.workload.collate(batch), self.device)
        with torch.no_grad(), matmul_precision(self.variant), autocast(model, self.variant):
            found = self.workload.predict(model, collated)  # type: ignore[attr-defined]
        return dict(zip((name for name, _ in batch.members), map(float, found.float().cpu()), strict=True))


def evaluate(
    part: str,
    answers: Mapping[str, float],
    labels: Mapping[str, Label],
    of: str = OF_MODEL,
    sample_of: int | None = None,
) -> Evaluation:
    """The metrics of `answers` against `labels`, both by id; `sample_of`: see `Evaluation`."""
    names = sorted(answers)
    metrics = metrics_of([answers[name] for name in names], [labels[name] for name in names])
    return Evaluation(part=part, metrics=metrics, of=of, sample_of=sample_of)


def can_evaluate(run: TrainingRun) -> bool:
    """Whether the data have labels and the workload can predict."""
    return bool(run.data.labels) and hasattr(run.workload, "predict")


def predict_ids(
    run: TrainingRun, ids: Sequence[str], on_progress: Callable[[int], None] = lambda _: None
) -> dict[str, float]:
    """The predictions of a run's present model for `ids`; connected ranks predict a share each and return all of them."""
    choice = run.spec.plan.choice
    predictor = Predictor(
        workload=run.workload,
        guard=run.guard,
        loads=run.data.loads,
        max_graphs=choice.batch_size,
        variant=choice.knobs.variant,
        device=run.device,
        on_progress=on_progress,
    )
    return run.ranks.gathered(predictor.predict(run.module.model, run.ranks.share(ids)))


def evaluate_validation(run: TrainingRun, on_progress: Callable[[int], None] = lambda _: None) -> Evaluation | None:
    """The metrics of a run's present model on the validation part; None if it is empty or cannot be evaluated."""
    ids = run.data.split.val
    if not ids or not can_evaluate(run):
        return None
    return evaluate("val", predict_ids(run, ids, on_progress), run.data.labels)
