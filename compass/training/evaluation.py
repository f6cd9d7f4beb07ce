"""How good a model is: its predictions for a part of the data, in numbers that stand beside simpler answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from compass.data.splits.splits import PARTS
from compass.records import Batch, Load, Record
from compass.training.baselines import baselines
from compass.training.guard import Guard, batch_of
from compass.training.metrics import Metrics, judge
from compass.workloads.step import autocast, on_device

if TYPE_CHECKING:
    from compass.data.scan.rows import Label
    from compass.records import Variant
    from compass.training.data import TrainingData
    from compass.workloads.protocol import Workload


class Evaluation(Record):
    """One part of the data, judged."""

    part: str
    metrics: Metrics
    of: str = "model"
    """Or the baseline that it is of."""

    @property
    def score(self) -> float | None:
        """What the best checkpoint is chosen by; less is better."""
        return self.metrics.rmse

    def figures(self) -> dict[str, float]:
        """By name, as loggers take them."""
        found = self.metrics.model_dump()
        return {f"{self.part}_{name}": float(value) for name, value in found.items() if value is not None}

    def __str__(self) -> str:
        return f"{self.part}, {self.of}: {self.metrics}"


@dataclass(frozen=True)
class Predictor:
    """Answers of a workload's models, in batches that fit."""

    workload: Workload
    guard: Guard
    loads: Mapping[str, Load]
    max_graphs: int
    variant: Variant
    device: str

    def predict(self, model: torch.nn.Module, ids: Sequence[str]) -> dict[str, float]:
        """The answer for every one of `ids`, in evaluation mode and without gradients.

        Samples of like size go together; without gradients a batch holds far less than the guard allows for.
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
        with torch.no_grad(), autocast(model, self.variant):
            found = self.workload.predict(model, collated)  # type: ignore[attr-defined]
        return dict(zip((name for name, _ in batch.members), map(float, found.float().cpu()), strict=True))


def evaluate(part: str, answers: Mapping[str, float], labels: Mapping[str, Label], of: str = "model") -> Evaluation:
    """`answers` against `labels`."""
    names = sorted(answers)
    metrics = judge([answers[name] for name in names], [labels[name] for name in names])
    return Evaluation(part=part, metrics=metrics, of=of)


def baselines_of(data: TrainingData) -> tuple[Evaluation, ...]:
    """What needs no model of the complex, on every part that has samples."""
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
