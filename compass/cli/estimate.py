"""`compass estimate`: predicted memory and time of a configuration, without running it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from compass.cli.json_text import print_json
from compass.cli.options import (
    AsJsonOption,
    CacheOption,
    ConfigOption,
    DatasetSizeOption,
    DeviceOption,
    LigandOption,
    MaxAtomsOption,
    MemoryLimitOption,
    NameOption,
    PocketRadiusOption,
    ProteinOption,
    SetOption,
    WorkloadOption,
)
from compass.cli.say import say

if TYPE_CHECKING:
    from compass.estimating import Question
    from compass.optimizer import Request
    from compass.records import Estimates


BatchOption = Annotated[
    int | None,
    typer.Option(metavar="N", help="Graphs, or other samples, per batch. Default: the most whose upper bound fits."),
]
PrecisionOption = Annotated[
    Literal["fp32", "bf16", "fp16"] | None, typer.Option(help="Precision. Default: those that the stages search.")
]
AxisOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="A value on any axis of the space, as in precision=bf16."),
]

AllocatorName = Literal["fast", "tight", "tight_huge", "tcmalloc", "jemalloc", "mimalloc", "system"]
"""`compass.records.Allocator`, which help does not load."""


def estimate_command(
    layers: Annotated[int | None, typer.Option(metavar="N", help="Layers of the model.")] = None,
    channels: Annotated[int | None, typer.Option(metavar="N", help="Channels of the model.")] = None,
    whole_space: Annotated[bool, typer.Option("--all", help="Estimate every model of the search space.")] = False,
    batch: BatchOption = None,
    precision: PrecisionOption = None,
    checkpointing: Annotated[
        bool | None, typer.Option("--checkpointing/--no-checkpointing", help="Activation checkpointing.")
    ] = None,
    axis: AxisOption = None,
    allocator: Annotated[
        AllocatorName | None, typer.Option(help="Memory allocator. Default: the calibration's, as a rule fast.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Epochs of the whole training.")] = None,
    dataset_size: DatasetSizeOption = None,
    memory_limit: MemoryLimitOption = None,
    device: DeviceOption = None,
    protein: ProteinOption = None,
    ligand: LigandOption = None,
    name: NameOption = None,
    pocket_radius: PocketRadiusOption = None,
    max_atoms: MaxAtomsOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    workload: WorkloadOption = None,
    cache: CacheOption = None,
    csv: Annotated[str | None, typer.Option(metavar="FILE", help="Write CSV to FILE, or to stdout with -.")] = None,
    as_json: AsJsonOption = False,
) -> None:
    """Predict memory, step, cycle, epoch and training time, with intervals, for one model or for the whole space.

    Only the calibration is run, and only if the cache holds none from an earlier run.
    Exit codes: 0 it fits or may fit, 2 bad input, 3 nothing that was asked about fits the memory.
    """
    from compass.cli import parse
    from compass.estimating import Question
    from compass.optimizer import Request

    parse.check_one_or_all(layers, channels, whole_space=whole_space)
    parse.check_csv(csv, as_json=as_json)
    n_complexes = parse.parse_count(dataset_size)
    passes = Question.epochs if epochs is None else epochs
    axes = parse.parse_axes(axis or (), precision=precision, checkpointing=checkpointing)
    question = Question(layers, channels, batch, axes, allocator, passes)
    flags = parse.bench_changes(
        name=name, protein=protein, ligand=ligand, pocket_radius=pocket_radius, max_atoms=max_atoms
    )
    config = parse.load_settings(config_file, [*(set_values or ()), *flags])
    request = Request(
        config=config,
        workload=workload or Request.workload,
        device=device,
        memory_limit_bytes=parse.parse_memory_limit(memory_limit),
        dataset_size=n_complexes,  # no prompt: it only sets the number of batches per epoch
        cache=cache,
    )
    _report(_run(request, question), csv, as_json=as_json)


def _run(request: Request, question: Question) -> Estimates:
    from rich.console import Console

    from compass.cli.progress import live_progress
    from compass.estimating import estimate as answer

    with live_progress(Console(stderr=True)) as watch:
        return answer(request, question, watch=watch)


def _report(found: Estimates, csv: str | None, *, as_json: bool) -> None:
    from compass.cli.estimate_tables import print_estimates, write_csv

    if found.n_probes:
        say(f"calibrated with {found.n_probes} probes, which are kept in the cache", err=True)
    if as_json:
        print_json(found.model_dump_json(indent=2))
    elif csv is not None:
        write_csv(found.rows, csv)
    else:
        print_estimates(found)
    if all(row.fits == "no" for row in found.rows):
        raise typer.Exit(3)
