"""The first steps in a run's folder, by the process that holds its lock: go on, begin anew, or nothing left to do."""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path

from compass.checksum import json_without_checksum
from compass.errors import InputError
from compass.files import read_record, sweep
from compass.records.training import CYCLES, EPOCHS, PREDICTIONS, RESULTS, RUN_SPEC
from compass.training.checkpoints import Checkpoints
from compass.training.prepare import TrainRequest, check_folder
from compass.training.results import Results
from compass.training.run_spec import RunSpec, find_run_spec, read_run_spec, write_run_spec

log = logging.getLogger(__name__)

_OF_CSV_LOGGER = re.compile(r"csv_\d+")
RUN_TABLES = (CYCLES, EPOCHS, RESULTS, PREDICTIONS)


def begin(request: TrainRequest, spec: RunSpec) -> Results | None:
    """Prepare the request's folder for the run that `spec` describes, and write its settings; the caller holds the lock.

    Returns:
        The results of a run that is resumed although it is finished: nothing is trained, and nothing in its folder changes.

    Raises:
        InputError: another run has begun there meanwhile, none of the run's checkpoints can be read, or the folder cannot be written.
    """
    folder = request.folder
    check_folder(request)
    checkpoints = Checkpoints(folder / "checkpoints", spec.config.training.keep_last)
    if spec.resume:
        is_alone = int(os.environ.get("WORLD_SIZE", "1")) == 1  # other ranks would wait for the settings
        if is_alone and (found := finished_results(spec, folder)):
            return found
        check_resumable(folder, checkpoints)
    if int(os.environ.get("GROUP_RANK", "0")) == 0:  # the others hold no lock on a folder that they may share
        _tidy(folder, checkpoints, spec, restart=request.restart)
    write_run_spec(spec, folder)
    return None


def _tidy(folder: Path, checkpoints: Checkpoints, spec: RunSpec, *, restart: bool) -> None:
    """Delete what must not go into the run: the start before, if there is nothing to go on from, and half-written files."""
    if restart or (checkpoints.is_empty and find_run_spec(folder)):
        if spec.resume:
            log.warning("no checkpoint was written yet: the run begins anew")
        clear(folder, checkpoints)
    (folder / RESULTS).unlink(missing_ok=True)  # those of a run that is extended would call it finished
    checkpoints.sweep()
    sweep(folder, (*RUN_TABLES, RUN_SPEC))


def finished_results(spec: RunSpec, folder: Path) -> Results | None:
    """The results in `folder`, if the run there is finished and `spec` asks for no more than it did."""
    path = folder / RESULTS
    if not path.exists() or find_run_spec(folder) is None:
        return None
    try:
        found = Results.model_validate_json(json_without_checksum(read_record(path).decode("utf-8")))
        before = read_run_spec(folder)
    except (InputError, OSError, ValueError):  # they are written again at the end
        return None
    return found if found.finished and not spec.allow_changes and spec.amount == before.amount else None


def check_resumable(folder: Path, checkpoints: Checkpoints) -> None:
    """Refuse to resume a run whose checkpoints are all damaged or deleted: it would begin at zero, without its best model.

    Raises:
        InputError: none can be read, and the run has had some: they are there, or it wrote results at its end.
    """
    has_had_some = not checkpoints.is_empty or (folder / RESULTS).exists()
    if has_had_some and checkpoints.newest() is None:
        raise InputError(
            f"checkpoints {checkpoints.folder}",
            got="none" if checkpoints.is_empty else "none that can be read",
            expected="at least one to resume from",
            fix="Begin the run anew with --restart, which deletes its checkpoints and tables.",
        )


def clear(folder: Path, checkpoints: Checkpoints) -> None:
    """Delete what an earlier start of the run wrote, so that its tables do not continue it."""
    checkpoints.clear()
    for name in RUN_TABLES:
        (folder / name).unlink(missing_ok=True)
    own = (path for path in folder.glob("csv_*") if _OF_CSV_LOGGER.fullmatch(path.name))
    for curves in (folder / "tensorboard", *own):
        shutil.rmtree(curves, ignore_errors=True)
