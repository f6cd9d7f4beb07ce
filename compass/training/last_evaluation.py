"""The evaluation that ends a run: the best model and two baselines on every part, the predictions, and the verdict.

Of a large training part a sample is evaluated: its error is known to a few per cent from some thousand complexes, and predicting
all of them can take longer than the training.
"""

from __future__ import annotations

import csv
import io
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from compass.checksum import ROW_CHECKSUM, row_with_checksum
from compass.data.splits.splits import PARTS
from compass.data.structures.structure_file import StructureError
from compass.files import spreadsheet_cell, write_text
from compass.records import Evaluation, RunVerdict
from compass.records.training import OF_LIGAND, OF_MEAN, OF_MODEL, PREDICTIONS
from compass.training.baselines import LIGAND, MEAN, baselines
from compass.training.evaluation import can_evaluate, evaluate, predict_ids
from compass.training.going_on import Unwritten
from compass.training.metrics import SIDES
from compass.training.verdict import PartErrors, judge_run, no_verdict, not_evaluated

if TYPE_CHECKING:
    from compass.training.build_run import TrainingRun
    from compass.training.data import TrainingData

log = logging.getLogger(__name__)

PREDICTION_FIELDS = ("id", "part", "pk", "relation", "predicted_pk", "ligand_pk")
"""Of the file of predictions; `ligand_pk` is the prediction from the ligand alone, empty without it."""
NO_BASELINES = "there are no baselines to compare with"
Answers = Mapping[str, Mapping[str, float]]
"""Predictions by id, for the model and each baseline by name."""


@dataclass(frozen=True)
class Evaluated:
    """The ids of each part that the last evaluation predicts."""

    ids: Mapping[str, tuple[str, ...]]
    n_train: int
    """Complexes in the training part."""

    @property
    def n(self) -> int:
        """Complexes in all parts."""
        return sum(map(len, self.ids.values()))

    def sample_of(self, part: str) -> int | None:
        """Complexes in `part`, if only a sample of them is evaluated."""
        return self.n_train if part == "train" and len(self.ids[part]) < self.n_train else None


def evaluated_ids(data: TrainingData, most_train: int, seed: int) -> Evaluated:
    """All complexes of validation and test, and of the training part at most `most_train`, drawn with `seed`."""
    train = data.split.train
    drawn = train if len(train) <= most_train else tuple(sorted(random.Random(seed).sample(train, most_train)))
    return Evaluated({"train": drawn, "val": data.split.val, "test": data.split.test}, len(train))


def evaluate_last(
    run: TrainingRun,
    n_updates: int,
    unwritten: Unwritten,
    on_progress: Callable[[str, int], None] = lambda _part, _n: None,
) -> tuple[tuple[Evaluation, ...], RunVerdict]:
    """The evaluations of a run's present model and of the baselines, and the verdict; the predictions are written.

    All ranks predict; what the others than the first return is incomplete.

    Args:
        run: the run, whose model is the best one.
        n_updates: weight updates that were made.
        unwritten: notes the file of the predictions, if it cannot be written.
        on_progress: called with the part and the number of its predicted complexes, or with `baselines` and 0.
    """
    rules = run.spec.config.training
    if not can_evaluate(run):
        return (), no_verdict(not_evaluated(run.spec.noun), n_updates, rules.few_updates)
    chosen = evaluated_ids(run.data, rules.evaluated_train, run.spec.config.seed)
    predicted: dict[str, float] = {}
    for part, ids in chosen.ids.items():
        if ids:
            predicted |= predict_ids(run, ids, partial(on_progress, part))
    if run.ranks.rank != 0:
        return (), no_verdict(not_evaluated(run.spec.noun), n_updates, rules.few_updates)
    on_progress("baselines", 0)
    answers = {OF_MODEL: predicted, **_baseline_answers(run, [name for ids in chosen.ids.values() for name in ids])}
    with unwritten.going_on(PREDICTIONS):
        write_predictions(run.data, chosen, answers, run.folder / PREDICTIONS)
    return _evaluations(run.data, chosen, answers), _judged(run.data, chosen, answers, n_updates, rules.few_updates)


def write_predictions(data: TrainingData, chosen: Evaluated, answers: Answers, path: Path) -> None:
    """Write a CSV table with a row for each evaluated complex."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*PREDICTION_FIELDS, ROW_CHECKSUM])
    for part, ids in chosen.ids.items():
        for name in ids:
            label, ligand = data.labels[name], answers.get(OF_LIGAND, {}).get(name)
            told = "" if ligand is None else f"{ligand:.3f}"
            cells = (
                spreadsheet_cell(name),
                part,
                f"{label.pk:.3f}",
                label.relation,
                f"{answers[OF_MODEL][name]:.3f}",
                told,
            )
            writer.writerow(row_with_checksum(dict(zip(PREDICTION_FIELDS, cells, strict=True))).values())
    write_text(text.getvalue(), path)


def _baseline_answers(run: TrainingRun, ids: Sequence[str]) -> Answers:
    """The baselines' predictions; none, with a warning, if the ligands' files cannot be read any more."""
    if run.data.catalogue is None:
        return {}
    try:
        found = baselines(run.data.catalogue, run.data.split, ids)
    except StructureError as error:
        log.warning("no baselines to compare with: %s", error)
        return {}
    return {OF_MEAN: found[MEAN], OF_LIGAND: found[LIGAND]}


def _evaluations(data: TrainingData, chosen: Evaluated, answers: Answers) -> tuple[Evaluation, ...]:
    return tuple(
        evaluate(
            part, {name: answers[who][name] for name in chosen.ids[part]}, data.labels, who, chosen.sample_of(part)
        )
        for who in answers
        for part in PARTS
        if chosen.ids[part]
    )


def _judged(data: TrainingData, chosen: Evaluated, answers: Answers, n_updates: int, few_updates: int) -> RunVerdict:
    if OF_LIGAND not in answers:
        return no_verdict(NO_BASELINES, n_updates, few_updates)
    errors = {}
    for part, ids in chosen.ids.items():
        values = [name for name in ids if data.labels[name].relation not in SIDES]
        truth = np.array([data.labels[name].pk for name in values])
        guesses = (np.array([answers[who][name] for name in values]) for who in (OF_MODEL, OF_LIGAND, OF_MEAN))
        errors[part] = PartErrors(*(guess - truth for guess in guesses))
    return judge_run(errors, n_updates, few_updates)
