"""The input of a report on a training run: the files in its folder, as far as they can be read, and a list of missing parts."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from compass.checksum import ROW_CHECKSUM, is_row_whole, without_checksum
from compass.errors import InputError
from compass.files import MOST_TABLE_BYTES, read_file, read_record
from compass.optimizer_config import OptimizerConfig
from compass.records import Cycle, Evaluation, Fingerprint, RunVerdict, StagePlan
from compass.records.training import BEST_MODEL, CYCLES, EPOCHS, PREDICTIONS, RESULTS

_MOST_BAD_ROWS = 1_000
"""Of a table. A file with more is something else, and to try every row takes minutes."""
RESULT_FIELDS: dict[str, Any] = {
    "finished": bool,
    "evaluations": tuple[Evaluation, ...],
    "verdict": RunVerdict,
    "split": int,
    "deferred": int,
    "out_of_memory": int,
    "skipped": tuple[str, ...],
}
"""The fields of the results that a report shows, with their types."""


@dataclass(frozen=True)
class Epoch:
    """One epoch's training loss and validation metrics; None where there is none."""

    number: int
    n_updates: int
    train_loss: float | None
    val_rmse: float | None
    val_pearson: float | None


@dataclass(frozen=True)
class PredictedComplex:
    """One complex of the last evaluation, in pK."""

    id: str
    part: str
    pk: float
    relation: str
    predicted_pk: float
    ligand_pk: float | None
    """The prediction from the ligand alone; None without it."""

    @property
    def is_bound(self) -> bool:
        """Whether its label says only on which side of `pk` the truth lies."""
        return self.relation in {"<", ">"}


@dataclass(frozen=True)
class RunEvidence:
    """A training run of which any part may be missing; `missing` has a sentence for each."""

    name: str
    """Of the folder."""
    plan: StagePlan | None = None
    config: OptimizerConfig | None = None
    fingerprint: Fingerprint | None = None
    workload: str = ""
    noun: str = ""
    """What the workload's data consist of, in the plural; empty: of complexes, in batches of graphs."""
    batching: str = ""
    amount: Mapping[str, Any] | None = None
    """`epochs`, `cycles` or `max_time_s` as asked for."""
    budget_bytes: int | None = None
    finished: bool | None = None
    """None: there are no results yet."""
    evaluations: tuple[Evaluation, ...] = ()
    verdict: RunVerdict | None = None
    elapsed_s: float | None = None
    """Batches and validations; without the last evaluation."""
    n_updates: int | None = None
    split: int = 0
    deferred: int = 0
    out_of_memory: int = 0
    skipped: tuple[str, ...] = ()
    cycles: tuple[Cycle, ...] = ()
    epochs: tuple[Epoch, ...] = ()
    predictions: tuple[PredictedComplex, ...] = ()
    best: str = ""
    """The best model's file; empty without one."""
    missing: tuple[str, ...] = ()


def read_run(folder: Path, settings: Path) -> RunEvidence:
    """The readable parts of the run in `folder`; `settings` is its file of settings.

    Raises:
        InputError: the settings are no JSON object.
    """
    try:
        spec = from_json(read_record(settings), allow_partial=True)
    except (OSError, ValueError):
        spec = None
    if not isinstance(spec, dict):
        raise InputError(
            f"run folder {folder}",
            got=f"{settings.name}, which cannot be read",
            expected="the settings of a run",
            fix="Start the run again in another folder.",
        )
    missing: list[str] = []
    spec = _as_written(spec, settings.name, missing)
    fields = _settings(spec, settings.name, missing) | _results(folder, missing)
    cycles = tuple(_rows(folder / CYCLES, _cycle, missing, "No cycle has ended"))
    epochs = tuple(_rows(folder / EPOCHS, _epoch, missing, "No epoch has ended"))
    predictions: tuple[PredictedComplex, ...] = ()
    if fields.get("evaluations"):
        predictions = tuple(_rows(folder / PREDICTIONS, _prediction, missing, "The predictions were not kept"))
    best = folder / BEST_MODEL
    return RunEvidence(
        name=str(folder),
        cycles=cycles,
        epochs=epochs,
        predictions=predictions,
        best=str(best) if best.exists() else "",
        missing=tuple(missing),
        **fields,
    )


def _as_written(data: dict[str, Any], name: str, missing: list[str]) -> dict[str, Any]:
    """`data` without its checksum; a wrong one is noted in `missing`."""
    values, as_written = without_checksum(data)
    if not as_written:
        missing.append(f"{name} was changed after the run, or is damaged.")
    return values


def _settings(spec: Mapping[str, Any], name: str, missing: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "plan": StagePlan,
        "config": OptimizerConfig,
        "fingerprint": Fingerprint,
        "workload": str,
        "batching": str,
        "amount": dict[str, float | None],
        "budget_bytes": int,
    }
    fields |= {"noun": str} if "noun" in spec else {}  # runs of Compass 0.1 have none
    return _known(spec, fields, name, missing)


def _results(folder: Path, missing: list[str]) -> dict[str, Any]:
    path = folder / RESULTS
    try:
        found = from_json(read_record(path))
    except FileNotFoundError:
        missing.append(f"{RESULTS}: the run has not ended, or it was killed.")
        return {}
    except (OSError, ValueError):
        found = None
    if not isinstance(found, dict):
        missing.append(f"{RESULTS} cannot be read.")
        return {}
    found = _as_written(found, RESULTS, missing)
    at = found["at"] if isinstance(found.get("at"), dict) else {}
    if "verdict" not in found:
        missing.append("The verdict: an older Compass trained this run.")
        found = {name: value for name, value in found.items() if name != "verdict"}
    return {
        **_known(found, {name: kind for name, kind in RESULT_FIELDS.items() if name in found}, RESULTS, missing),
        **_known(
            at,
            {name: kind for name, kind in (("elapsed_s", float), ("n_updates", int)) if name in at},
            RESULTS,
            missing,
        ),
    }


def _known(given: Mapping[str, Any], fields: Mapping[str, Any], name: str, missing: list[str]) -> dict[str, Any]:
    """Those of `fields`, types by name, that `given` holds and that can be read; the others are noted in `missing`."""
    found = {}
    for field, kind in fields.items():
        try:
            found[field] = TypeAdapter[Any](kind).validate_python(given[field])
        except (KeyError, ValidationError):
            missing.append(f"`{field}` in {name} cannot be read.")
    return found


def _rows(path: Path, read: Any, missing: list[str], without: str) -> Iterator[Any]:
    """The rows of a table, each as `read` makes it; `without` says what it means that there is no table."""
    try:
        text = read_file(path, MOST_TABLE_BYTES).decode("utf-8", errors="replace")
    except FileNotFoundError:
        missing.append(f"{without}: there is no {path.name}.")
        return
    except OSError:
        missing.append(f"{path.name} cannot be read.")
        return
    n_rows = n_bad = 0
    try:
        for row in csv.DictReader(StringIO(text, newline="")):
            n_rows += 1
            if (found := _row_as(read, row)) is not None:
                yield found
                continue
            n_bad += 1
            if n_bad > _MOST_BAD_ROWS:
                missing.append(f"{path.name} is damaged: more than {_MOST_BAD_ROWS:,} of its rows cannot be read.")
                return
    except csv.Error:
        missing.append(f"{path.name} cannot be read after row {n_rows}.")
    if n_bad:
        missing.append(f"{n_bad} of {n_rows} rows of {path.name} cannot be read.")


def _row_as(read: Any, row: Mapping[str, str]) -> Any:
    """What `read` makes of a row; None if it is not whole or cannot be read."""
    try:
        if is_row_whole(row):
            return read({name: cell for name, cell in row.items() if name != ROW_CHECKSUM})
    except (ValueError, KeyError, TypeError):
        pass
    return None


def _cycle(row: Mapping[str, str]) -> Cycle:
    found = Cycle.model_validate(row)
    if min(found.n_batches, found.predicted_s, found.measured_s) <= 0:
        raise ValueError(found)
    return found


def _epoch(row: Mapping[str, str]) -> Epoch:
    return Epoch(
        number=int(row["epoch"]),
        n_updates=int(row["updates"]),
        train_loss=_number(row.get("train_loss")),
        val_rmse=_number(row.get("val_rmse")),
        val_pearson=_number(row.get("val_pearson")),
    )


def _prediction(row: Mapping[str, str]) -> PredictedComplex:
    found = PredictedComplex(
        id=row["id"],
        part=row["part"],
        pk=float(row["pk"]),
        relation=row["relation"],
        predicted_pk=float(row["predicted_pk"]),
        ligand_pk=_number(row["ligand_pk"]),
    )
    if not math.isfinite(found.pk + found.predicted_pk):
        raise ValueError(found)
    return found


def _number(text: str | None) -> float | None:
    """The finite number in a cell; None if it is empty or no such number."""
    value = float(text) if text else math.nan
    return value if math.isfinite(value) else None
