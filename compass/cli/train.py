"""`compass train`: train a stage's plan, and compare its predictions with the measured time and memory."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compass.cli.json_text import print_json
from compass.cli.options import (
    AsJsonOption,
    CacheOption,
    DatasetOption,
    DeviceOption,
    IndexOption,
    NamedWorkloadOption,
    ProfileOption,
    SetOption,
    TrustOption,
    WordsArgument,
    stage_option,
)
from compass.cli.plain_console import PlainConsole
from compass.cli.say import say
from compass.errors import InputError
from compass.interrupts import interrupts_wait

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compass.config_files import SettingChange
    from compass.optimizer_config import OptimizerConfig
    from compass.profile import Profile
    from compass.records import Stage
    from compass.reporting.figure import Table
    from compass.training.prepare import TrainRequest
    from compass.training.results import Results
    from compass.training.run_spec import Amount, RunSpec

StageOption = Annotated[list[str] | None, stage_option("Stage whose plan is trained. With --resume: the run's.")]
RunFolder = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Folder of the run. Default: runs/STAGE.")
]


Epochs = Annotated[int | None, typer.Option(min=1, metavar="N", help="Passes over the training set.")]
Cycles = Annotated[float | None, typer.Option(metavar="N", help="Alternative to --epochs: number of 450-batch cycles.")]
MaxTime = Annotated[
    str | None, typer.Option(metavar="TIME", help="Alternative to --epochs: wall-clock limit, e.g. 20min or 3h.")
]
Batching = Annotated[
    str | None, typer.Option(metavar="HOW", help="batch_size or batch_budget. Default: the plan's recommendation.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")]
Restart = Annotated[
    bool, typer.Option("--restart", help="Begin the run in --out anew: its checkpoints and tables are deleted.")
]
AllowChanges = Annotated[bool, typer.Option("--allow-changes", help="Resume although data, model or settings changed.")]
Stale = Annotated[bool, typer.Option("--stale", help="Use a profile although hardware, versions or data differ.")]
Devices = Annotated[
    int | None, typer.Option(min=1, metavar="N", help="Processes on this machine. Default: the plan's.")
]
Nodes = Annotated[
    int | None,
    typer.Option(
        min=1, metavar="N", help="Machines, on each of which torchrun starts this command. Default: the plan's."
    ),
]
RankMemory = Annotated[
    str | None,
    typer.Option("--rank-memory", metavar="SIZE,…", help="Memory of each rank, where they differ, e.g. 8GiB,24GiB."),
]
RankSpeed = Annotated[
    str | None,
    typer.Option("--rank-speed", metavar="X,…", help="Speed of each rank relative to the plan's slowest, e.g. 1,2.2."),
]
LoggerOption = Annotated[
    list[str] | None,
    typer.Option(
        "--logger",
        metavar="NAME",
        help="Log to tensorboard, csv, wandb or mlflow; may be repeated. Default: tensorboard.",
    ),
]


def train_command(
    words: WordsArgument = None,
    stage: StageOption = None,
    profile_path: ProfileOption = None,
    dataset: DatasetOption = None,
    index: IndexOption = None,
    out: RunFolder = None,
    epochs: Epochs = None,
    cycles: Cycles = None,
    max_time: MaxTime = None,
    batching: Batching = None,
    resume: Resume = False,
    restart: Restart = False,
    allow_changes: AllowChanges = False,
    stale: Stale = False,
    workload: NamedWorkloadOption = None,
    trust: TrustOption = False,
    devices: Devices = None,
    nodes: Nodes = None,
    rank_memory: RankMemory = None,
    rank_speed: RankSpeed = None,
    device: DeviceOption = None,
    loggers: LoggerOption = None,
    set_values: SetOption = None,
    cache: CacheOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Train the planned model of a stage with the settings of its plan.

    Exit codes: 0 done, 1 a loader process died, 2 bad input, 3 out of memory, 130 or 143 stopped by a signal (a checkpoint is written).
    """
    from compass.cli.parse import named, one_stage
    from compass.probe.store import default_cache
    from compass.training.prepare import TrainRequest

    stages, profile_path = named(words, stage, profile_path)
    name, folder, before = _run_of(one_stage(stages), out, resume=resume, restart=restart)
    profile, before = _profile_of(name, profile_path, before, restart=restart)
    request = TrainRequest(
        profile=profile,
        stage=name,
        config=dataset_config((before or profile).config, _changes(set_values, loggers), dataset, index, cache),
        folder=folder,
        amount=_amount(epochs, cycles, max_time),
        batching=_batching(batching),
        device=device,
        n_devices=devices,
        n_nodes=nodes,
        rank_bytes=_sizes(rank_memory),
        rank_speeds=_speeds(rank_speed),
        stale=stale,
        resume=resume,
        restart=restart,
        allow_changes=allow_changes,
        workload=workload,
        trust=trust,
        cache=cache or default_cache(),
    )
    _become(request, as_json=as_json)


def _amount(epochs: int | None, cycles: float | None, max_time: str | None) -> Amount:
    """How long to train, as the flags say."""
    from compass.training.run_spec import Amount
    from compass.units import parse_seconds

    max_time_s = None if max_time is None else parse_seconds(max_time, where="--max-time")
    return Amount(epochs=epochs, cycles=cycles, max_time_s=max_time_s)


def _changes(set_values: list[str] | None, loggers: list[str] | None) -> list[str | SettingChange]:
    """The settings that flags change."""
    from compass.config_files import SettingChange

    named = [SettingChange("--logger", "training.loggers", tuple(loggers))] if loggers else []
    return [*(set_values or ()), *named]


def _run_of(
    stage: Stage | None, out: Path | None, *, resume: bool, restart: bool
) -> tuple[Stage, Path, RunSpec | None]:
    """The stage and the folder of a run, and the settings that it began with if it goes on or begins anew."""
    from compass.records import STAGES
    from compass.training.run_spec import find_run_spec, read_run_spec

    if resume and restart:
        raise InputError("--restart", got="--resume as well", expected="one of the two", fix="Leave one out.")
    continues = resume or restart
    if stage is not None:
        folder = out or Path("runs") / stage
        return stage, folder, _readable(folder) if continues and find_run_spec(folder) else None
    if out is not None and continues:
        before = read_run_spec(out)
        return before.plan.stage, out, before
    raise InputError(
        "--stage",
        got="nothing",
        expected=f"one of {', '.join(STAGES)}",
        fix="Name the stage whose plan is trained; with --resume, --out FOLDER names the run instead.",
    )


def _readable(folder: Path) -> RunSpec | None:
    """The settings of the run in `folder`; None if they cannot be read, which matters only where they must not change."""
    from compass.training.run_spec import read_run_spec

    try:
        return read_run_spec(folder)
    except InputError:
        return None


def _profile_of(
    stage: Stage, path: Path | None, before: RunSpec | None, *, restart: bool
) -> tuple[Profile, RunSpec | None]:
    """The profile at `path`, or that of the run `before`; and that run, unless it begins anew by another plan."""
    from compass.profile import PROFILE_NAME, read_profile
    from compass.training.prepare import is_of_plan

    began_with = Path(before.profile) if before and before.profile else Path(PROFILE_NAME)
    profile = read_profile(path or began_with)
    if before and restart and not is_of_plan(before, profile, stage):
        before = None
    return profile, before


def train_run(
    folder: Annotated[Path, typer.Argument(help="Folder of the run, with its run.json.")],
    as_json: AsJsonOption = False,
) -> None:
    """Run one process of a training; `compass train` starts it."""
    from rich.console import Console

    from compass.cli.progress import live_progress
    from compass.cli.verbosity import log_level
    from compass.logs import logging_to
    from compass.temporary import own_temporary_folder
    from compass.training.run import run_training
    from compass.training.run_lock import keep_lock
    from compass.training.run_spec import LOG, read_run_spec

    spec = read_run_spec(folder)
    is_first = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0"
    if is_first:
        keep_lock(folder)
    console = Console(stderr=True, quiet=not is_first)
    level = log_level() if is_first else "error"
    with (
        own_temporary_folder(),
        logging_to(folder / (LOG if is_first else os.devnull), level=level, console=console),
        live_progress(console) as watch,
        redirect_stdout(sys.stderr),  # output of the model's own code
    ):
        results = run_training(spec, folder, watch)
    if not is_first:
        return
    if as_json:
        print_json(results.model_dump_json(indent=2))
    else:
        _report(results, folder, spec.noun)
    if results.stopped_by:
        raise typer.Exit(128 + results.stopped_by)
    if results.unwritten:
        raise _incomplete(folder, results)


def _incomplete(folder: Path, results: Results) -> InputError:
    missing = "; ".join(f"{name} not written ({reason})" for name, reason in results.unwritten)
    return InputError(
        f"run folder {folder}",
        got=missing,
        expected="room for all files of the run",
        fix="Make room, and resume the run: what is missing is written.",
    )


def dataset_config(
    base: OptimizerConfig,
    changes: Sequence[str | SettingChange] | None,
    dataset: Path | None,
    index: Path | None,
    cache: Path | None,
) -> OptimizerConfig:
    """`base` with `changes` and the flags' values; the dataset is scanned again, because its files may have changed."""
    from compass.cli import parse
    from compass.cli.progress import live_progress
    from compass.config_files import SettingChange, load_config
    from compass.planning.request import Request
    from compass.planning.session import scanned

    flags = parse.dataset_changes(dataset, index, pocket_radius=None, max_atoms=None)
    config = load_config(None, [*(changes or ()), *flags, SettingChange("--dataset", "dataset.catalogue", "")], base)
    from rich.console import Console

    with live_progress(Console(stderr=True)) as watch:
        return scanned(Request(config=config, cache=cache), watch).config


def _sizes(given: str | None) -> tuple[int, ...]:
    """The bytes that `--rank-memory` names."""
    from compass.units import parse_bytes

    return tuple(parse_bytes(one, where="--rank-memory") for one in given.split(",")) if given else ()


def _speeds(given: str | None) -> tuple[float, ...]:
    """The speeds that `--rank-speed` names."""
    found = []
    for text in (given or "").split(",") if given else ():
        try:
            speed = float(text)
        except ValueError:
            speed = 0.0
        if not 0 < speed < float("inf"):
            raise InputError(
                "--rank-speed", got=repr(text), expected="a number above 0 for each rank", fix="Write them with commas."
            )
        found.append(speed)
    return tuple(found)


def _batching(given: str | None) -> Literal["batch_size", "batch_budget"] | None:
    if given not in {None, "batch_size", "batch_budget"}:
        raise InputError("--batching", got=repr(given), expected="batch_size or batch_budget", fix="Choose one.")
    return given  # type: ignore[return-value]


def _become(request: TrainRequest, *, as_json: bool) -> None:
    """Write the settings of the run, and replace this process by its process, which signals and torchrun then reach directly."""
    from compass.cli.verbosity import as_flags
    from compass.training.begin import begin
    from compass.training.prepare import prepare, process_environment
    from compass.training.run_lock import hand_on, lock_run
    from compass.training.run_spec import await_run_spec

    handed: dict[str, str] = {}
    if int(os.environ.get("LOCAL_RANK", "0")) == 0:
        spec = prepare(request)
        handed = hand_on(lock_run(request.folder)) if int(os.environ.get("GROUP_RANK", "0")) == 0 else {}
        done = begin(request, spec)
        if done is not None:
            _report_finished(done, request.folder, spec.noun, as_json=as_json)
            return
    else:
        spec = await_run_spec(request.folder)
    flags = [*(["--json"] if as_json else []), *as_flags()]
    command = [sys.executable, "-m", "compass", "train-run", str(request.folder), *flags]
    sys.stdout.flush()
    with interrupts_wait():  # for the process that takes over, in `main`
        os.execve(sys.executable, command, process_environment(spec) | handed)  # noqa: S606 - our own interpreter


def _report_finished(results: Results, folder: Path, noun: str, *, as_json: bool) -> None:
    if as_json:
        print_json(results.model_dump_json(indent=2))
        return
    _report(results, folder, noun)
    say("This run was finished before: nothing was trained. A larger --epochs extends it.", fg="yellow", err=True)


def _report(results: Results, folder: Path, noun: str = "") -> None:
    """Print the last cycle, the metrics, the verdict and what comes next; `noun` is the workload's."""
    from compass.cli.tables import print_commands
    from compass.reporting.results import RESULTS_TITLE, results_table, sentence
    from compass.training.going_on import CHECKPOINT
    from compass.units import format_count

    for cycle in results.cycles[-1:]:
        say(str(cycle))
    if results.evaluations:
        _print_table(RESULTS_TITLE, results_table(results.evaluations, noun))
    say(f"\n{sentence(str(results.verdict))}")
    if results.not_finite:
        were = "1 update was" if results.not_finite == 1 else f"{format_count(results.not_finite)} updates were"
        say(f"{were} left out: loss or gradient was not finite", fg="yellow", err=True)
    is_saved = CHECKPOINT not in dict(results.unwritten)
    stopped = "stopped, with a checkpoint:" if is_saved else "stopped, without a new checkpoint:"
    say(f"\n{'wrote' if results.finished else stopped} {folder}")
    print_commands(_next(results, folder, noun))


def _next(results: Results, folder: Path, noun: str) -> list[tuple[str, str]]:
    """(command, what it is for) after a training."""
    from compass.commands import command

    found = [(command("report", {}, [str(folder)]), "see the curves, and predicted against true")]
    if not results.finished:
        found.insert(0, (command("train", {"--out": str(folder)}, ["--resume"]), "go on"))
    if results.checkpoint and not noun:  # `compass predict` reads complexes
        found.append((command("predict", {}, [results.checkpoint, "YOUR_COMPLEXES"]), "use the best model"))
    return found


def _print_table(title: str, table: Table) -> None:

    from compass.cli.tables import plain_table

    typer.echo()
    PlainConsole().print(plain_table(title, table.headers, table.rows))
