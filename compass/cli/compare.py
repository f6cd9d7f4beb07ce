"""`compass compare`: two profiles side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption, ProfileOption
from compass.cli.say import say

if TYPE_CHECKING:
    from compass.reporting.compare import Comparison


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="First profile.")],
    b: Annotated[
        Path | None,
        typer.Argument(metavar="B", help="Second profile. Default: hardware_profile.json.", show_default=False),
    ] = None,
    profile_path: ProfileOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Compare two profiles, e.g. of two machines or two versions, and describe the differences.

    The second one may be given by --profile too, as in other commands.
    """
    from compass.cli.parse import one_profile
    from compass.profile import PROFILE_NAME
    from compass.reporting.compare import compare_profiles
    from compass.reporting.evidence import read_evidence

    found = compare_profiles(read_evidence(a), read_evidence(one_profile(b, profile_path) or Path(PROFILE_NAME)))
    if as_json:
        import json
        from dataclasses import asdict

        print_json(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        _print(found)


def _print(found: Comparison) -> None:
    from compass.cli.plain_console import PlainConsole
    from compass.cli.tables import plain_table

    console = PlainConsole()
    for letter, name in zip("AB", found.names, strict=True):
        console.print(f"{letter}: {name}")
    for line in found.surroundings or ("same machine, versions, data and settings",):
        console.print(line)
    for stage in found.stages:
        console.print()
        console.print(plain_table(stage.stage, stage.table.headers, stage.table.rows))
        for line in stage.says:
            console.print(line)
    for text in found.missing:
        say(f"missing: {text}", fg="yellow", err=True)
