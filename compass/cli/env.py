"""`compass env`: the hardware and versions of this machine, as a worker sees them."""

from __future__ import annotations

import json

from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption, ConfigOption, DeviceOption, MemoryLimitOption, SetOption, WorkloadOption


def env(
    device: DeviceOption = None,
    memory_limit: MemoryLimitOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    workload: WorkloadOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Show the device, its memory, the versions that measurements depend on, and the allocators of a CPU."""
    from rich.console import Console

    from compass.cli.parse import load_settings, parse_memory_limit
    from compass.cli.progress import waiting
    from compass.cli.tables import print_description
    from compass.device import available_cores
    from compass.optimizer import Request
    from compass.probe.local import LocalRunner
    from compass.records import RuntimeSettings

    config = load_settings(config_file, set_values)
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
    allocators = found_allocators() if description.hardware.on_host else {}
    if as_json:
        print_json(json.dumps(description.model_dump(mode="json") | {"allocators": allocators}, indent=2))
    else:
        print_description(description, allocators)


def found_allocators() -> dict[str, str]:
    """Every C allocator with what it is or, if it cannot be used here, what would add it."""
    from compass.probe.preload import is_offered, library_name
    from compass.records import ALLOCATORS

    found: dict[str, str] = {}
    for name, kind in ALLOCATORS.items():
        if is_offered(name):
            found[name] = f"{kind.about} ({library_name(name)})" if kind.library else kind.about
        elif kind.package:
            found[name] = f"{kind.about}; not installed (Debian: apt install {kind.package})"
    return found
