"""The results of a training run as a table: each part of the data, by the model, the ligand alone and the mean."""

from __future__ import annotations

from collections.abc import Sequence

from compass.records import Evaluation, Metrics
from compass.records.nouns import of_data
from compass.records.training import OF_LIGAND, OF_MEAN, OF_MODEL
from compass.reporting.figure import Table

PART_NAMES = {"train": "training", "val": "validation", "test": "test"}
PREDICTORS = {OF_MODEL: "model", OF_LIGAND: "ligand alone", OF_MEAN: "mean"}
RESULTS_TITLE = "RMSE in pK, with Pearson's R"


def results_table(evaluations: Sequence[Evaluation], noun: str = "") -> Table:
    """A row for each evaluated part, and a column for the model and for each baseline; `noun` is the workload's."""
    found = {(one.part, one.of): one for one in evaluations}
    rows = tuple(
        (name, one.complexes, *(metric_words(found.get((part, of))) for of in PREDICTORS))
        for part, name in PART_NAMES.items()
        if (one := found.get((part, OF_MODEL))) is not None
    )
    return Table(("", of_data(noun), *PREDICTORS.values()), rows)


def metric_words(one: Evaluation | None) -> str:
    """An evaluation in a cell, e.g. `1.32, R 0.71`; empty if there is none."""
    if one is None:
        return ""
    metrics = one.metrics
    figures = [] if metrics.rmse is None else [f"{metrics.rmse:.2f}"]
    figures += [] if metrics.pearson is None else [f"R {metrics.pearson:.2f}"]
    return ", ".join([*figures, *_bounds(metrics)])


def sentence(text: str) -> str:
    """`text` with a capital and a full stop."""
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _bounds(metrics: Metrics) -> list[str]:
    return [] if metrics.bounds_kept is None else [f"{metrics.bounds_kept:.0%} of {metrics.n_bounds:,} bounds kept"]
