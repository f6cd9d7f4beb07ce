"""`compass.train` and `compass.predict`. Training is a process of its own, as from the command line: it needs the plan's environment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from compass.api.arguments import AnyPath, WorkloadSource, bytes_of, config_of, path_of, profile_of, source_of
from compass.checksum import json_without_checksum
from compass.errors import CompassError, InputError
from compass.files import read_record
from compass.optimizer_config import OptimizerConfig
from compass.planning.prober import ignore_progress
from compass.planning.request import Request
from compass.planning.session import scanned
from compass.probe.store import default_cache
from compass.profile import Profile
from compass.records import Progress, Stage
from compass.records.training import RESULTS
from compass.training.begin import begin
from compass.training.prediction import Predictions, predict_complexes, run_spec_of
from compass.training.prepare import TrainRequest, is_of_plan, prepare, process_environment
from compass.training.results import Results
from compass.training.run_lock import hand_on, lock_run
from compass.training.run_spec import Amount, find_run_spec, read_run_spec
from compass.units import parse_seconds

_BY_SIGNAL = 128
_COLOURED = ("FORCE_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "TTY_INTERACTIVE")
"""Variables, of notebooks for example, that make a pipe look like a terminal: its progress bar would fill the page."""


class TrainingFailed(CompassError):  # noqa: N818 - it names what happened
    """The process of a training ended with an error."""


class TrainingOptions(TypedDict, total=False):
    """What few trainings need, by keyword."""

    index: AnyPath
    """The index file of the dataset."""
    batching: Literal["batch_size", "batch_budget"]
    """How batches are made; by default as the plan recommends."""
    allow_changes: bool
    """Resume although data, model or settings changed."""
    stale: bool
    """Use a profile although hardware, versions or data differ."""
    devices: int
    """Processes on this machine."""
    rank_memory: Sequence[int | str]
    """What each of them may hold, where they differ: bytes, or sizes such as `"8GiB"`."""
    rank_speed: Sequence[float]
    """Their speeds relative to the plan's slowest, where they differ."""
    device: str
    """A torch device; by default the profile's."""
    workload: WorkloadSource
    """The profile's workload, named by you: its code runs only if you have named it, now or before."""
    trust: bool
    """Run the workload's code although you never named it."""
    cache: AnyPath
    """Folder of cached probes and scans."""
    watch: Callable[[Progress], None]
    """Called with the progress of the scan."""


def train(  # noqa: PLR0913 - all are named
    profile: Profile | AnyPath,
    stage: Stage,
    *,
    dataset: AnyPath | None = None,
    out: AnyPath | None = None,
    epochs: int | None = None,
    cycles: float | None = None,
    max_time: float | str | None = None,
    resume: bool = False,
    restart: bool = False,
    settings: Mapping[str, Any] | None = None,
    **options: Unpack[TrainingOptions],
) -> Results:
    """Train the plan of a stage in a process of its own, and return the results; messages go to `sys.stderr`.

    Args:
        profile: a profile, or its path.
        stage: the stage whose plan is trained.
        dataset: a PDBbind-style folder, or a CSV or Parquet manifest; by default the profile's.
        out: the folder of the run; by default `runs/STAGE`.
        epochs: passes over the training set; by default the configured ones.
        cycles: an alternative to `epochs`: number of cycles.
        max_time: another: seconds, or a time such as `"3h"`.
        resume: go on with the run in `out`.
        restart: begin the run in `out` anew; its checkpoints and tables are deleted.
        settings: single settings by dotted key, e.g. `{"training.learning_rate": 1e-4}`.
        options: see `TrainingOptions`.

    Raises:
        InputError: an argument cannot be used.
        TrainingFailed: the process ended with an error, e.g. out of memory.
        WorkerError: no worker can be started on this machine.
    """
    if unknown := sorted(options.keys() - TrainingOptions.__annotations__.keys()):
        raise TypeError(f"train() got unknown options: {', '.join(unknown)}")
    if resume and restart:
        raise InputError("restart", got="resume as well", expected="one of the two", fix="Leave one out.")
    plans, folder = profile_of(profile), path_of(out) or Path("runs") / stage
    max_time_s = parse_seconds(max_time, where="max_time") if isinstance(max_time, str) else max_time
    config = plans.config
    if (resume or restart) and find_run_spec(folder):
        with suppress(InputError):  # `prepare` says whether it matters
            before = read_run_spec(folder)
            config = before.config if resume or is_of_plan(before, plans, stage) else config
    request = TrainRequest(
        profile=plans,
        stage=stage,
        config=_with_dataset(config, settings, dataset, options),
        folder=folder,
        amount=Amount(epochs=epochs, cycles=cycles, max_time_s=max_time_s),
        resume=resume,
        restart=restart,
        **_of_request(options),
    )
    return _trained(request)


def _of_request(options: TrainingOptions) -> dict[str, Any]:
    """The options as a request has them."""
    workload = options.get("workload")
    return {
        "batching": options.get("batching"),
        "device": options.get("device"),
        "n_devices": options.get("devices"),
        "rank_bytes": tuple(bytes_of(one, where="rank_memory") or 0 for one in options.get("rank_memory", ())),
        "rank_speeds": tuple(options.get("rank_speed", ())),
        "stale": options.get("stale", False),
        "allow_changes": options.get("allow_changes", False),
        "workload": None if workload is None else source_of(workload),
        "trust": options.get("trust", False),
        "cache": path_of(options.get("cache")) or default_cache(),
    }


def _trained(request: TrainRequest) -> Results:
    """The results of the run that `request` describes, after it has ended."""
    spec, folder = prepare(request), request.folder
    lock = lock_run(folder)
    try:
        if done := begin(request, spec):
            return done
        _run(folder, process_environment(spec) | hand_on(lock), (lock,) if lock >= 0 else ())
    finally:
        if lock >= 0:
            os.close(lock)
    return Results.model_validate_json(json_without_checksum(read_record(folder / RESULTS).decode("utf-8")))


def predict(  # noqa: PLR0913 - all are named
    checkpoint: AnyPath,
    dataset: AnyPath,
    *,
    index: AnyPath | None = None,
    device: str | None = None,
    workload: WorkloadSource | None = None,
    trust: bool = False,
    settings: Mapping[str, Any] | None = None,
    cache: AnyPath | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Predictions:
    """Predict the affinity of every complex of a dataset with a trained model.

    Args:
        checkpoint: e.g. `runs/prototyping/checkpoints/best.ckpt`.
        dataset: a PDBbind-style folder, or a CSV or Parquet manifest; labels are not needed.
        index: the index file of the dataset.
        device: a torch device; by default an accelerator if there is one, else the CPU.
        workload: the checkpoint's workload, named by you: its code runs only if you have named it, now or before.
        trust: run the workload's code although you never named it.
        settings: single settings by dotted key.
        cache: folder of cached scans.
        watch: called with the progress of the scan.

    Raises:
        InputError: the checkpoint or the dataset cannot be read, or the model cannot predict.
    """
    path = Path(checkpoint).expanduser()
    # The training set's index file and oversize policy do not apply here.
    changes = {"dataset.index": "", "dataset.oversize": "isolate", **(settings or {})}
    where: TrainingOptions = {"cache": path_of(cache) or default_cache(), "watch": watch}
    if index is not None:
        where["index"] = index
    config = _with_dataset(run_spec_of(path).config, changes, dataset, where)
    named = None if workload is None else source_of(workload)
    return predict_complexes(path, config, device, workload=named, trust=trust)


def _with_dataset(
    base: OptimizerConfig, settings: Mapping[str, Any] | None, dataset: AnyPath | None, options: TrainingOptions
) -> OptimizerConfig:
    """`base` with changes; the dataset is scanned again, because its files may have changed."""
    changed = config_of(
        base,
        {**(settings or {}), "dataset.catalogue": ""},
        path=path_of(dataset),
        index=path_of(options.get("index")),
    )
    request = Request(config=changed, cache=path_of(options.get("cache")))
    return scanned(request, options.get("watch") or ignore_progress).config


def _run(folder: Path, environment: Mapping[str, str], descriptors: tuple[int, ...] = ()) -> None:
    """Run the process of the run in `folder` to its end, or until it has stopped at a signal, and pass on what it says.

    Raises:
        TrainingFailed: it ended with an error.
    """
    command = [sys.executable, "-m", "compass", "train-run", str(folder)]
    process = subprocess.Popen(
        command,
        env={name: value for name, value in environment.items() if name not in _COLOURED},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
        process_group=0,  # an interrupt of the group would be a second one, at which it stops without saving
    )
    last = ""
    try:
        for line in process.stderr or ():
            sys.stderr.write(line)
            last = line.strip() or last
    except KeyboardInterrupt:
        process.send_signal(signal.SIGINT)  # it writes a checkpoint and stops
        process.communicate()
        raise
    code = process.wait()
    if 0 < code <= _BY_SIGNAL or code < 0:
        raise TrainingFailed(f"training in {folder} ended with exit code {code}: {last.removeprefix('error: ')}")
