"""`compass doctor`: is this machine ready for what the other commands do?"""

from __future__ import annotations

import json
from dataclasses import asdict

import typer

from compass.cli.json_text import print_json
from compass.cli.options import (
    AsJsonOption,
    CacheOption,
    ConfigOption,
    DatasetOption,
    IndexOption,
    ProfileArgument,
    ProfileOption,
    SetOption,
)
from compass.errors import printable_lines

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(
    profile: ProfileArgument = None,
    dataset: DatasetOption = None,
    index: IndexOption = None,
    profile_path: ProfileOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    cache: CacheOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Check this machine: torch and driver, memory, cores, allocators, disks, packages, clock, dataset and profile.

    One line for each check: ok, warn (it works, but slower or on another device) or fail, with the remedy.

    Exit codes: 0 no check failed, 2 bad input, 3 a check failed.
    """
    from compass.device import OtherPrograms

    others = OtherPrograms()  # counts while the rest is imported, which is this process's own time

    from compass.cli.parse import dataset_changes, load_settings, one_profile
    from compass.doctor.examination import Examination, examine
    from compass.probe.store import default_cache

    flags = dataset_changes(dataset, index, pocket_radius=None, max_atoms=None)
    config = load_settings(config_file, [*(set_values or ()), *flags])
    asked = Examination(config, cache or default_cache(), one_profile(profile, profile_path))
    found = examine(asked, others)
    if as_json:
        print_json(json.dumps({"checks": [asdict(result) for result in found]}, indent=2))
    else:
        width = max(len(result.check) for result in found)
        for result in found:
            level = typer.style(f"{result.level:<4}", fg=COLOURS[result.level])
            remedy = f". {result.remedy}" if result.remedy else ""
            typer.echo(f"{level}  " + printable_lines(f"{result.check:<{width}}  {result.says}{remedy}"))
    if any(result.level == "fail" for result in found):
        raise typer.Exit(3)
