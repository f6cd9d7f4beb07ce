"""`compass fit`: one model as it is, with the largest safe batch and the fastest way to train it."""

from __future__ import annotations

from typing import Annotated

import typer

from compass.cli.optimize import DryRunOption, ForceOption, LogLevelOption, OutOption, run_request
from compass.cli.options import (
    FAMILY_NAMES,
    AsJsonOption,
    CacheOption,
    ConfigOption,
    DatasetOption,
    DatasetSizeOption,
    DeviceOption,
    IndexOption,
    MemoryLimitOption,
    SetOption,
)

MODEL_TEXT = (
    "What makes the model: file.py:NAME, a LightningModule, a function that returns (module, loader, loss), or a workload. "
    f"Or a family, with --layers and --channels: {', '.join(FAMILY_NAMES)}."
)


def fit_command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help=MODEL_TEXT)],
    layers: Annotated[int | None, typer.Option(metavar="N", help="Depth, if MODEL is a family.")] = None,
    channels: Annotated[int | None, typer.Option(metavar="N", help="Width, if MODEL is a family.")] = None,
    max_batch: Annotated[int | None, typer.Option(metavar="N", help="Most samples in a batch.")] = None,
    effective_batch: Annotated[int | None, typer.Option(metavar="N", help="Samples in a weight update.")] = None,
    precision: Annotated[
        str | None,
        typer.Option(metavar="NAME,…", help="fp32, bf16 or fp16, or several: then the fastest. Default: fp32."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Epochs of the training whose time is told.")] = None,
    dataset: DatasetOption = None,
    index: IndexOption = None,
    dataset_size: DatasetSizeOption = None,
    memory_limit: MemoryLimitOption = None,
    device: DeviceOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    out: OutOption = None,
    cache: CacheOption = None,
    log_level: LogLevelOption = None,
    as_json: AsJsonOption = False,
    force: ForceOption = False,
    dry_run: DryRunOption = False,
) -> None:
    """Plan one model as it is: the largest safe batch, the fastest way to train it, and how long an epoch takes.

    Exit codes: 0 done, 2 bad input, 3 no batch can be trained, 130 interrupted.
    """
    from compass.cli import parse
    from compass.config_files import SettingChange
    from compass.planning.request import FITTED, Request, fit_settings

    wanted = fit_settings(
        max_batch, effective_batch, precision.split(",") if precision else None, epochs, layers, channels
    )
    flags = [
        SettingChange(f"--{key.rpartition('.')[2].replace('_', '-')}", key, value) for key, value in wanted.items()
    ]
    flags += parse.dataset_changes(dataset, index, pocket_radius=None, max_atoms=None)
    config = parse.load_settings(config_file, [*(set_values or ()), *flags])
    request = Request(
        config=config,
        stages=FITTED,
        workload=model,
        device=device,
        memory_limit_bytes=parse.parse_memory_limit(memory_limit),
        dataset_size=parse.dataset_size(dataset_size, config, model),
        out=out or Request.out,
        cache=cache,
        force=force,
    )
    run_request(request, log_level, as_json=as_json, dry_run=dry_run)
