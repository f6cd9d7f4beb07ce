"""`compass env`: the hardware and versions of this machine, as a worker sees them."""

from __future__ import annotations

import typer

from compass.cli.options import AsJsonOption, ConfigOption, DeviceOption, MemoryLimitOption, SetOption, WorkloadOption


def env(
    device: DeviceOption = None,
    memory_limit: MemoryLimitOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    workload: WorkloadOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Show the device, its memory, and the versions that measurements depend on."""
    from rich.console import Console

    from compass.cli.parse import parse_memory_limit
    from compass.cli.progress import waiting
    from compass.cli.tables import print_description
    from compass.config_files import load_config
    from compass.device import available_cores
    from compass.optimizer import Request
    from compass.probe.local import LocalRunner
    from compass.records import RuntimeSettings

    config = load_config(config_file, set_values or ())
    runner = LocalRunner(
        config,
        RuntimeSettings(threads=config.runtime.threads or available_cores()),
        workload=workload or Request.workload,
        device=device,
        limit_bytes=parse_memory_limit(memory_limit),
    )
    try:
        with waiting(Console(stderr=True), "starting a worker"):
            description = runner.describe()
    finally:
        runner.close()
    if as_json:
        typer.echo(description.model_dump_json(indent=2))
    else:
        print_description(description)
