"""Predictions of a trained model for the complexes of a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from compass.data.scan.catalogue import Catalogue
from compass.data.scan.rows import Label, Row
from compass.device import detect, meter_for, resolve
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.planning.trust import check_trusted
from compass.records import Evaluation, Load, Record
from compass.temporary import own_temporary_folder
from compass.training.checkpoints import read_checkpoint, run_spec_in
from compass.training.evaluation import Predictor, evaluate
from compass.training.guard import Guard
from compass.training.run_spec import RunSpec
from compass.workloads.building import build
from compass.workloads.registry import load_workload


class Prediction(Record):
    """The prediction for one complex."""

    id: str
    predicted_pk: float
    pk: float | None = None
    """Its label; None without one."""
    relation: str = ""
    """Of the label: `=`, `~`, `<` or `>`; empty without one."""


class Unanswered(Record):
    """A complex without a prediction."""

    id: str
    reason: str


class Predictions(Record):
    """The predictions of a checkpoint's model for a dataset."""

    checkpoint: str
    rows: tuple[Prediction, ...]
    unanswered: tuple[Unanswered, ...] = ()
    """Every other complex of the dataset, and why it has no prediction."""
    evaluation: Evaluation | None
    """The metrics on labelled complexes; None without any."""

    def __repr__(self) -> str:
        left = f", none for {len(self.unanswered):,}" if self.unanswered else ""
        return (
            f"<predictions for {len(self.rows):,} complexes{left}{f': {self.evaluation}' if self.evaluation else ''}>"
        )


def run_spec_of(checkpoint: Path) -> RunSpec:
    """The settings of the run that wrote the checkpoint at this path.

    Raises:
        InputError: it is no checkpoint that can be read.
    """
    return run_spec_in(read_checkpoint(checkpoint))


def predict_complexes(
    checkpoint: Path,
    config: OptimizerConfig,
    device: str | None = None,
    *,
    workload: str | None = None,
    trust: bool = False,
) -> Predictions:
    """The predictions of the model in `checkpoint` for every usable complex of the catalogue in `config`.

    Its workload's code runs if the user names it as `workload`, says `trust`, or has named it before.

    Raises:
        InputError: it is no checkpoint that can be read, or its workload is not trusted or cannot predict.
    """
    content = read_checkpoint(checkpoint)
    spec = run_spec_in(content)
    check_trusted(spec.workload, named=workload, trust=trust)
    with own_temporary_folder():
        return _predicted(checkpoint, content, spec, config, device)


def _predicted(
    checkpoint: Path, content: dict[str, Any], spec: RunSpec, config: OptimizerConfig, device: str | None
) -> Predictions:
    workload: Any = load_workload(spec.workload, config)
    if not hasattr(workload, "predict"):
        raise InputError(
            f"workload {spec.workload}",
            got="one without predict()",
            expected="one whose models predict",
            fix="Add `predict(model, batch)` to it.",
        )
    model = _trained_model(workload, spec, content["model"])
    loads = dict(workload.samples())
    predictor = _predictor(workload, spec, loads, config, resolve(device))
    answers = predictor.predict(model.to(predictor.device), sorted(loads))
    catalogue = Catalogue.open(Path(config.dataset.catalogue))
    labels = {row.id: row.label for row in catalogue.usable if row.label is not None and row.id in answers}
    known = {name: answers[name] for name in labels}
    return Predictions(
        checkpoint=str(checkpoint),
        rows=tuple(_row(name, answers[name], labels.get(name)) for name in sorted(answers)),
        unanswered=tuple(unanswered(row) for row in catalogue.rows if row.id not in answers),
        evaluation=evaluate("all", known, labels) if known else None,
    )


def _trained_model(workload: Any, spec: RunSpec, weights: dict[str, torch.Tensor]) -> torch.nn.Module:
    model: torch.nn.Module = build(workload, spec.plan.choice.knobs)
    if "shift" in weights.keys() - model.state_dict().keys():
        workload.start_at(model, 0.0)  # creates the buffer; its value is among the weights
    model.load_state_dict(weights)
    return model


def _predictor(workload: Any, spec: RunSpec, loads: dict[str, Load], config: OptimizerConfig, device: str) -> Predictor:
    hardware = detect(device, limit_bytes=None, reserve_share=config.memory.reserve_share)
    meter, choice = meter_for(device, hardware), spec.plan.choice
    return Predictor(
        workload=workload,
        guard=Guard(spec.plan.bytes_law, loads, hardware.budget_bytes, meter.obtainable_bytes),
        loads=loads,
        max_graphs=choice.batch_size,
        variant=choice.knobs.variant,
        device=device,
    )


def unanswered(row: Row) -> Unanswered:
    """Why a complex has no prediction: the reason of its rejection, or that the workload has no sample of it."""
    left_out = "usable, but not among the samples that the workload loads"
    return Unanswered(id=row.id, reason=left_out if row.usable else f"{row.reason}: {row.detail}")


def _row(name: str, answer: float, label: Label | None) -> Prediction:
    if label is None:
        return Prediction(id=name, predicted_pk=answer)
    return Prediction(id=name, predicted_pk=answer, pk=label.pk, relation=label.relation)
