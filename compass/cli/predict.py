"""`compass predict`: predictions of a trained model for a dataset."""

from __future__ import annotations

import csv
import sys
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption, CacheOption, DeviceOption, IndexOption, NamedWorkloadOption, TrustOption
from compass.cli.say import say
from compass.units import format_count

if TYPE_CHECKING:
    from compass.training.prediction import Predictions


def predict_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="E.g. runs/prototyping/checkpoints/best.ckpt.")
    ],
    dataset: Annotated[
        Path, typer.Argument(metavar="DATASET", help="Complexes: a folder, or a CSV or Parquet manifest.")
    ],
    index: IndexOption = None,
    out: Annotated[
        Path | None, typer.Option("--csv", metavar="FILE", help="File for the table. Default: stdout.")
    ] = None,
    device: DeviceOption = None,
    workload: NamedWorkloadOption = None,
    trust: TrustOption = False,
    cache: CacheOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Predict the affinity of every complex in a dataset, as CSV: id, predicted pK, and the label if there is one.

    Complexes without a prediction end the table, each with the reason.
    """
    from compass.cli.parse import check_csv
    from compass.cli.train import dataset_config
    from compass.config_files import SettingChange
    from compass.files import writing_text
    from compass.training.prediction import predict_complexes, run_spec_of

    check_csv(None if out is None else str(out), as_json=as_json)
    out = None if str(out) == "-" else out
    # Settings of the training set that do not apply here: its index file and its oversize policy.
    anew = [SettingChange("DATASET", "dataset.index", ""), SettingChange("DATASET", "dataset.oversize", "isolate")]
    config = dataset_config(run_spec_of(checkpoint).config, anew, dataset, index, cache)
    with redirect_stdout(sys.stderr):  # a model's own output must not mix with the table
        found = predict_complexes(checkpoint, config, device, workload=workload, trust=trust)
    if as_json:
        print_json(found.model_dump_json(indent=2))
        _report_unanswered(found)
        return
    with writing_text(out, option="--csv") if out else nullcontext(sys.stdout) as file:
        _write(file, found)
    if found.evaluation is not None:
        say(str(found.evaluation), err=True)
    _report_unanswered(found)


def _report_unanswered(found: Predictions) -> None:
    if found.unanswered:
        n_all = len(found.rows) + len(found.unanswered)
        say(
            f"no prediction for {format_count(len(found.unanswered))} of {format_count(n_all)} complexes: "
            "they end the table, each with its reason",
            fg="yellow",
            err=True,
        )


def _write(file: IO[str], found: Predictions) -> None:
    from compass.files import spreadsheet_cell

    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["id", "predicted_pk", "relation", "pk", "reason"])
    for row in found.rows:
        pk = "" if row.pk is None else f"{row.pk:.3f}"
        writer.writerow([spreadsheet_cell(row.id), f"{row.predicted_pk:.3f}", row.relation, pk, ""])
    for left in found.unanswered:
        writer.writerow([spreadsheet_cell(left.id), "", "", "", spreadsheet_cell(left.reason)])
