"""`compass fleet`: several machines, one profile for each kind of node, and which stage runs best where."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.examples import epilog
from compass.cli.flags import PlainCommand, PlainGroup
from compass.cli.json_text import print_json
from compass.cli.optimize import ForceOption, LogLevelOption, StagesOption
from compass.cli.options import (
    AsJsonOption,
    CacheOption,
    ConfigOption,
    DatasetOption,
    DatasetSizeOption,
    DeviceOption,
    IndexOption,
    MemoryLimitOption,
    SetOption,
    StagesArgument,
    WorkloadOption,
)
from compass.cli.say import say
from compass.cli.verbosity import with_verbosity
from compass.errors import InputError

if TYPE_CHECKING:
    from compass.fleet.optimize import FleetRequest
    from compass.fleet.record import FleetRecord
    from compass.planning.prober import Watch

AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="ADDRESS",
        help="local (this machine), auto (the Ray cluster here), ray://HOST:PORT or HOST:PORT. Default: local.",
    ),
]
SlurmOption = Annotated[
    str | None,
    typer.Option(metavar="PARTITION,…", help="Instead of --address: partitions of Slurm, a job on one node of each."),
]
FleetFileOption = Annotated[
    Path | None, typer.Option("--fleet", metavar="FILE", help="Fleet file: kinds, prices, power, delivery (YAML).")
]
KindsOption = Annotated[
    list[str] | None,
    typer.Option("--kinds", metavar="NAME,…", help="Kinds to plan for, with commas or repeated. Default: all."),
]
FolderOption = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Folder of the profiles and the table. Default: fleet.")
]
AllowSkewOption = Annotated[
    bool, typer.Option("--allow-skew", help="Plan for nodes with other versions of torch as kinds of their own.")
]


def describe_command(
    address: AddressOption = None,
    slurm: SlurmOption = None,
    fleet_file: FleetFileOption = None,
    workload: WorkloadOption = None,
    dataset: DatasetOption = None,
    index: IndexOption = None,
    device: DeviceOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    allow_skew: AllowSkewOption = False,
    as_json: AsJsonOption = False,
) -> None:
    """Show the kinds of node that are there, with their versions. Nothing is measured.

    Exit codes: 0 done, 2 bad input, or nodes lack something.
    """
    from compass.fleet.engines import LOCAL, engine_at
    from compass.fleet.optimize import describe_fleet

    asked = _asked(fleet_file, workload, dataset, index, device, config_file, set_values, allow_skew=allow_skew)
    if slurm is not None:
        from compass.fleet.slurm import describe_slurm, partitions_of

        record = describe_slurm(asked, partitions_of(_partitions(slurm, address)))
    else:
        with engine_at(address or LOCAL, asked.file.wait_s) as engine:
            record = describe_fleet(asked, engine, engine_name=address or LOCAL)
    if as_json:
        print_json(record.model_dump_json(indent=2))
    else:
        from compass.cli.fleet_tables import print_kinds

        print_kinds(record)


def optimize_command_of_fleet(
    words: StagesArgument = None,
    address: AddressOption = None,
    slurm: SlurmOption = None,
    fleet_file: FleetFileOption = None,
    kinds: KindsOption = None,
    stages: StagesOption = None,
    workload: WorkloadOption = None,
    dataset: DatasetOption = None,
    index: IndexOption = None,
    dataset_size: DatasetSizeOption = None,
    memory_limit: MemoryLimitOption = None,
    device: DeviceOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    allow_skew: AllowSkewOption = False,
    out: FolderOption = None,
    cache: CacheOption = None,
    log_level: LogLevelOption = None,
    as_json: AsJsonOption = False,
    force: ForceOption = False,
) -> None:
    """Plan every stage on each kind of node, and show which stage runs best on which kind.

    Exit codes: 0 done, 2 bad input, 3 a kind or a stage has no plan, 130 interrupted.
    """
    import dataclasses

    from compass.cli import parse

    partitions = None if slurm is None else _partitions(slurm, address)
    asked = _asked(fleet_file, workload, dataset, index, device, config_file, set_values, allow_skew=allow_skew)
    request = dataclasses.replace(
        asked.request,
        stages=parse.wanted_stages(words, stages),
        memory_limit_bytes=parse.parse_memory_limit(memory_limit),
        dataset_size=parse.dataset_size(dataset_size, asked.request.config, asked.request.workload),
        cache=cache,
        force=force,
    )
    names = tuple(name.strip() for entry in kinds or () for name in entry.split(","))
    asked = dataclasses.replace(asked, request=request, kinds=names, folder=out or asked.folder)
    record = _run(asked, address, partitions, log_level)
    _print_fleet(record, asked.folder, as_json=as_json)
    _exit_if_incomplete(record, asked.folder)


def show_command_of_fleet(
    folder: Annotated[
        Path | None, typer.Argument(metavar="FOLDER", help="Folder of the fleet. Default: fleet.", show_default=False)
    ] = None,
    as_json: AsJsonOption = False,
) -> None:
    """Show the table of a fleet again: each stage on each kind, and the recommended kinds."""
    from compass.fleet.record import FLEET_FOLDER, read_fleet

    folder = folder or FLEET_FOLDER
    record, _ = read_fleet(folder)
    _print_fleet(record, folder, as_json=as_json)


def _asked(
    fleet_file: Path | None,
    workload: str | None,
    dataset: Path | None,
    index: Path | None,
    device: str | None,
    config_file: Path | None,
    set_values: list[str] | None,
    *,
    allow_skew: bool,
) -> FleetRequest:
    from compass.cli import parse
    from compass.fleet.fleet_file import read_fleet_file
    from compass.fleet.optimize import FleetRequest
    from compass.planning.request import Request

    flags = parse.dataset_changes(dataset, index, pocket_radius=None, max_atoms=None)
    config = parse.load_settings(config_file, [*(set_values or ()), *flags])
    request = Request(config=config, workload=workload or Request.workload, device=device)
    return FleetRequest(request, read_fleet_file(fleet_file), allow_skew=allow_skew)


def _partitions(slurm: str, address: str | None) -> list[str]:
    """The names in `--slurm`."""
    names = [name.strip() for name in slurm.split(",") if name.strip()]
    if address is not None:
        raise InputError("--slurm", got="--address as well", expected="one of the two", fix="Leave one out.")
    if not names:
        raise InputError("--slurm", got=repr(slurm), expected="names of partitions", fix="See `sinfo`.")
    return names


def _run(asked: FleetRequest, address: str | None, partitions: list[str] | None, level: str | None) -> FleetRecord:
    from rich.console import Console

    from compass.cli.parse import check_output
    from compass.cli.progress import live_progress
    from compass.cli.verbosity import log_level
    from compass.logs import LOG_NAME, logging_to

    plan = _planning(asked, address, partitions)
    asked.folder.mkdir(parents=True, exist_ok=True)
    check_output(asked.folder / "fleet.json")
    console = Console(stderr=True)
    try:
        with (
            logging_to(asked.folder / LOG_NAME, level=level or log_level(), console=console),
            live_progress(console) as watch,
        ):
            return plan(watch)
    except KeyboardInterrupt:
        say(f"interrupted: finished stages are kept in {asked.folder}", fg="yellow", err=True)
        raise typer.Exit(130) from None


def _planning(asked: FleetRequest, address: str | None, partitions: list[str] | None) -> Callable[[Watch], FleetRecord]:
    """What plans the fleet. Everything that can be refused at once is refused here, before a folder is made."""
    from compass.fleet.engines import LOCAL, engine_at, require_extra
    from compass.fleet.optimize import optimize_fleet

    if partitions is not None:
        from compass.fleet.slurm import optimize_on_slurm, partitions_of

        require_extra("submitit", "slurm", "--slurm")
        found = partitions_of(partitions)
        return lambda watch: optimize_on_slurm(asked, found, watch=watch)

    if address not in {None, LOCAL}:
        require_extra("ray", "fleet", f"--address {address}")

    def plan(watch: Watch) -> FleetRecord:
        with engine_at(address or LOCAL, asked.file.wait_s) as engine:
            return optimize_fleet(asked, engine, engine_name=address or LOCAL, watch=watch)

    return plan


def _print_fleet(record: FleetRecord, folder: Path, *, as_json: bool) -> None:
    from compass.fleet.record import read_fleet
    from compass.fleet.table import fleet_table

    _, profiles = read_fleet(folder)
    table = fleet_table(record, profiles)
    if as_json:
        found = {"fleet": record.model_dump(mode="json"), "table": table.model_dump(mode="json")}
        print_json(json.dumps(found, indent=2, ensure_ascii=False))
        return
    from compass.cli.fleet_tables import print_fleet_table, print_kinds

    print_kinds(record)
    print_fleet_table(table)


def _exit_if_incomplete(record: FleetRecord, folder: Path) -> None:
    """End with exit code 3 if a kind, or a stage on a kind, has no plan."""
    from compass.fleet.record import read_fleet

    _, profiles = read_fleet(folder)
    failures = [f"{kind.name}: {kind.failure}" for kind in record.kinds if kind.failure]
    failures += [f"{name}, {stage}: {one.reason}" for name, p in profiles.items() for stage, one in p.failures.items()]
    for line in failures:
        say(line, fg="red", err=True)
    if failures:
        raise typer.Exit(3)


fleet_group = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    help="Several machines: a profile for each kind of node, and which stage runs best where.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
FLEET_COMMANDS: dict[str, Callable[..., None]] = {
    "describe": describe_command,
    "optimize": optimize_command_of_fleet,
    "show": show_command_of_fleet,
}
for _name, _command in FLEET_COMMANDS.items():
    fleet_group.command(_name, cls=PlainCommand, epilog=epilog(f"fleet {_name}"))(with_verbosity(_command))


@fleet_group.callback()
def _group() -> None:
    """Several machines: a profile for each kind of node, and which stage runs best where."""
