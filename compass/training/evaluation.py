"""Evaluation of a model on a part of the data, beside two baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from compass.data.splits.splits import PARTS
from compass.records import Batch, Load, Record
from compass.training.baselines import baselines
from compass.training.guard import Guard, batch_of
from compass.training.metrics import Metrics, metrics_of
from compass.workloads.step import autocast, matmul_precision, on_device

if TYPE_CHECKING:
    from compass.data.scan.rows import Label
    from compass.records import Variant
    from compass.training.build_run import TrainingRun
    from compass.training.data import TrainingData
    from compass.workloads.protocol import Workload


class Evaluation(Record):
    """The metrics of a model or a baseline on one part of the data."""

    part: str
    metrics: Metrics
    of: str = "model"
    """`model`, or the name of a baseline."""

    @property
    def score(self) -> float | None:
        """The figure that selects the best checkpoint; lower is better."""
        return self.metrics.rmse

    def figures(self) -> dict[str, float]:
        """The metrics by name, for loggers."""
        found = self.metrics.model_dump()
        return {f"{self.part}_{name}": float(value) for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        return f"{self.part}, {self.of}: {self.metrics}"


@dataclass(frozen=True)
class Predictor:
    """Predicts with a workload's model, in batches that fit the memory."""

    workload: Workload
    guard: Guard
    loads: Mapping[str, Load]
    max_graphs: int
    variant: Variant
    device: str

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
        finally:
            model.train(was_training)
        return answers

    def _answers(self, model: torch.nn.Module, batch: Batch) -> dict[str, float]:
        collated: Any = on_device(self.workload.collate(batch), self.device)
        with torch.no_grad(), matmul_precision(self.variant), autocast(model, self.variant):
            found = self.workload.predict(model, collated)  # type: ignore[attr-defined]
        return dict(zip((name for name, _ in batch.members), map(float, found.float().cpu()), strict=True))


def evaluate(part: str, answers: Mapping[str, float], labels: Mapping[str, Label], of: str = "model") -> Evaluation:
    """The metrics of `answers` against `labels`, both by id."""
    names = sorted(answers)
    metrics = metrics_of([answers[name] for name in names], [labels[name] for name in names])
    return Evaluation(part=part, metrics=metrics, of=of)


def evaluate_part(run: TrainingRun, part: str) -> Evaluation | None:
    """The metrics of a run's present model on one part of the data; connected ranks predict a share each.

    None if the part is empty, the data have no labels, or the workload cannot predict.
    """
    ids = getattr(run.data.split, part)
    if not ids or not run.data.labels or not hasattr(run.workload, "predict"):
        return None
    choice = run.spec.plan.choice
    predictor = Predictor(
        workload=run.workload,
        guard=run.guard,
        loads=run.data.loads,
        max_graphs=choice.batch_size,
        variant=choice.knobs.variant,
        device=run.device,
    )
    answers = predictor.predict(run.module.model, run.ranks.share(ids))
    return evaluate(part, run.ranks.gathered(answers), run.data.labels)


def evaluate_baselines(data: TrainingData) -> tuple[Evaluation, ...]:
    """The metrics of the baselines on every part that has samples; none without a catalogue.

    Raises:
        StructureError: a ligand's file is missing or has changed since the scan.
    """
    if data.catalogue is None:
        return ()
    parts = {part: getattr(data.split, part) for part in PARTS}
    found = baselines(data.catalogue, data.split)
    return tuple(
        evaluate(part, {name: answers[name] for name in ids}, data.labels, of=f"{baseline} baseline")
        for part, ids in parts.items()
        for baseline, answers in found.items()
        if ids
    )
