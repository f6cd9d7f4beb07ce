"""`compass optimize`: find and certify a plan for each stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.json_text import print_json
from compass.cli.options import (
    AsJsonOption,
    CacheOption,
    ConfigOption,
    DatasetOption,
    DatasetSizeOption,
    DeviceOption,
    IndexOption,
    LigandOption,
    MaxAtomsOption,
    MemoryLimitOption,
    NameOption,
    PocketRadiusOption,
    ProteinOption,
    SetOption,
    StagesArgument,
    WorkloadOption,
    stage_option,
)
from compass.cli.say import say

if TYPE_CHECKING:
    from compass.optimizer import Request
    from compass.profile import Profile


StagesOption = Annotated[list[str] | None, stage_option("Stages to plan, with commas or repeated. Default: all.")]
DevicesOption = Annotated[
    int,
    typer.Option("--devices", min=1, metavar="N", help="Devices that train together; on a CPU, shares of its cores."),
]
NodesOption = Annotated[
    int, typer.Option("--nodes", min=1, metavar="N", help="Machines like this one, with as many devices each.")
]
OutOption = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Profile to write. Default: hardware_profile.json.")
]
StorageOption = Annotated[
    str | None, typer.Option(metavar="URL", help="Optuna study to write: a database URL or a journal file.")
]
SamplerOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Search strategy: structured, or Optuna's gp, tpe, random, grid.")
]
LogLevelOption = Annotated[
    str | None,
    typer.Option(
        metavar="LEVEL", help="Messages on the console: debug (as -v), info, warning (as -q) or error. Default: info."
    ),
]
ForceOption = Annotated[
    bool, typer.Option("--force", help="Replace a profile of another workload or dataset; a copy is kept.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the planned work, and stop.")]


def optimize_command(
    words: StagesArgument = None,
    stages: StagesOption = None,
    dataset: DatasetOption = None,
    index: IndexOption = None,
    dataset_size: DatasetSizeOption = None,
    memory_limit: MemoryLimitOption = None,
    device: DeviceOption = None,
    devices: DevicesOption = 1,
    nodes: NodesOption = 1,
    protein: ProteinOption = None,
    ligand: LigandOption = None,
    name: NameOption = None,
    pocket_radius: PocketRadiusOption = None,
    max_atoms: MaxAtomsOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    workload: WorkloadOption = None,
    out: OutOption = None,
    cache: CacheOption = None,
    storage: StorageOption = None,
    sampler: SamplerOption = None,
    log_level: LogLevelOption = None,
    as_json: AsJsonOption = False,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Find a training configuration for each stage of development, and certify that it runs on this machine.

    Exit codes: 0 done, 2 bad input, 3 a stage found no plan, 130 interrupted.
    """
    from compass.cli import parse
    from compass.config_files import SettingChange
    from compass.optimizer import Request

    flags = parse.bench_changes(
        name=name, protein=protein, ligand=ligand, pocket_radius=pocket_radius, max_atoms=max_atoms
    )
    flags += parse.dataset_changes(dataset, index, pocket_radius=pocket_radius, max_atoms=max_atoms)
    flags += [SettingChange("--sampler", "search.sampler", sampler)] if sampler is not None else []
    config = parse.load_settings(config_file, [*(set_values or ()), *flags])
    request = Request(
        config=config,
        stages=parse.wanted_stages(words, stages),
        workload=workload or Request.workload,
        device=device,
        memory_limit_bytes=parse.parse_memory_limit(memory_limit),
        dataset_size=parse.dataset_size(dataset_size, config, workload or Request.workload),
        n_devices=devices,
        n_nodes=nodes,
        out=out or Request.out,
        cache=cache,
        storage=storage,
        force=force,
    )
    run_request(request, log_level, as_json=as_json, dry_run=dry_run)


def run_request(request: Request, log_level: str | None, *, as_json: bool, dry_run: bool) -> None:
    """Plan what is asked for and print the plans; or, for a dry run, check it and print the planned work."""
    if dry_run:
        from compass.cli.dry_run import print_dry_run

        print_dry_run(request, as_json=as_json)
        return
    _report(_run(request, log_level), request, as_json=as_json)


def _run(request: Request, level: str | None) -> Profile:
    from rich.console import Console

    from compass import optimizer
    from compass.cli.parse import check_output
    from compass.cli.progress import live_progress
    from compass.cli.verbosity import log_level
    from compass.logs import LOG_NAME, logging_to

    check_output(request.out)
    console = Console(stderr=True)
    try:
        with (
            logging_to(request.out.parent / LOG_NAME, level=level or log_level(), console=console),
            live_progress(console) as watch,
        ):
            return optimizer.optimize(request, watch=watch)
    except KeyboardInterrupt:
        say(f"interrupted: finished stages are kept in {request.out}", fg="yellow", err=True)
        raise typer.Exit(130) from None


def _report(profile: Profile, request: Request, *, as_json: bool) -> None:
    from compass.cli.tables import failure_line, print_commands, print_profile
    from compass.reporting.answers import next_commands

    if as_json:
        print_json(profile.model_dump_json(indent=2))
    else:
        print_profile(profile)
        say(f"\nwrote {request.out}")
        print_commands(next_commands(profile, request.out))
    failures = [profile.failures[stage] for stage in request.stages if stage in profile.failures]
    for failure in failures:
        say(failure_line(failure), fg="red", err=True)
    if failures:
        raise typer.Exit(3)
