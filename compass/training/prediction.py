"""A trained model's answers for complexes it may never have seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compass.data.scan.catalogue import Catalogue
from compass.data.scan.rows import Row
from compass.device import detect, meter_for, resolve
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.records import Record
from compass.training.checkpoints import read_checkpoint, run_spec_in
from compass.training.evaluation import Evaluation, Predictor, evaluate
from compass.training.guard import Guard
from compass.training.run_spec import RunSpec
from compass.workloads.building import build
from compass.workloads.registry import load_workload


class Prediction(Record):
    """One complex."""

    id: str
    predicted_pk: float
    pk: float | None = None
    """Its label, if it has one."""
    relation: str = ""


class Unanswered(Record):
    """A complex without a prediction."""

    id: str
    reason: str


class Predictions(Record):
    """What a checkpoint says of a dataset."""

    checkpoint: str
    rows: tuple[Prediction, ...]
    unanswered: tuple[Unanswered, ...] = ()
    """Every other complex of the dataset, and why it has no prediction."""
    evaluation: Evaluation | None
    """Of the labelled ones."""


def run_spec_of(checkpoint: Path) -> RunSpec:
    """What a checkpoint was trained by.

    Raises:
        InputError: no checkpoint that can be read.
    """
    return run_spec_in(read_checkpoint(checkpoint))


def predict(checkpoint: Path, config: OptimizerConfig, device: str | None = None) -> Predictions:
    """The answers of the model in `checkpoint` for every usable complex of the catalogue that `config` names.

    Raises:
        InputError: no checkpoint that can be read, or a workload that predicts nothing.
    """
    content = read_checkpoint(checkpoint)
    spec = run_spec_in(content)
    workload: Any = load_workload(spec.workload, config)
    if not hasattr(workload, "predict"):
        raise InputError(f"workload {spec.workload}", got="one without predict()", expected="one whose models predict",
                         fix="Add `predict(model, batch)` to it.")  # fmt: skip
    place = resolve(device)
    hardware = detect(place, limit_bytes=None, reserve_share=config.memory.reserve_share)
    meter, loads = meter_for(place, hardware), dict(workload.samples())
    model = build(workload, spec.plan.choice.knobs)
    if "shift" in content["model"].keys() - model.state_dict().keys():
        workload.start_at(model, 0.0)  # its own comes with the weights
    model.load_state_dict(content["model"])
    predictor = Predictor(
        workload=workload,
        guard=Guard(spec.plan.bytes_law, loads, hardware.budget_bytes, meter.obtainable_bytes),
        loads=loads,
        max_graphs=spec.plan.choice.batch_size,
        variant=spec.plan.choice.knobs.variant,
        device=place,
    )
    answers = predictor.predict(model.to(place), sorted(loads))
    catalogue = Catalogue.open(Path(config.dataset.catalogue))
    rows = {row.id: row for row in catalogue.usable}
    labels = {name: row.label for name, row in rows.items() if row.label is not None and name in answers}
    known = {name: answers[name] for name in labels}
    return Predictions(
        checkpoint=str(checkpoint),
        rows=tuple(
            Prediction(id=name, predicted_pk=answers[name])
            if name not in labels
            else Prediction(id=name, predicted_pk=answers[name], pk=labels[name].pk, relation=labels[name].relation)
            for name in sorted(answers)
        ),
        unanswered=tuple(unanswered(row) for row in catalogue.rows if row.id not in answers),
        evaluation=evaluate("all", known, labels) if known else None,
    )


def unanswered(row: Row) -> Unanswered:
    """Why a complex has no prediction: the reason of its rejection, or that the workload has no sample of it."""
    left_out = "usable, but not among the samples that the workload loads"
    return Unanswered(id=row.id, reason=left_out if row.usable else f"{row.reason}: {row.detail}")
