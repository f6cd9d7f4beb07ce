"""`compass show`: a profile as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compass.cli.options import AsJsonOption


def show(
    path: Annotated[
        Path | None, typer.Argument(metavar="PROFILE", help="Profile to read. Default: hardware_profile.json.")
    ] = None,
    stage: Annotated[str | None, typer.Option(metavar="STAGE", help="Show only this stage, in full.")] = None,
    as_json: AsJsonOption = False,
) -> None:
    """Show the plans of a profile in a table, or one of them in full."""
    from compass.cli.parse import parse_stage
    from compass.cli.runtime_table import print_runtime
    from compass.cli.tables import print_profile, print_stage
    from compass.profile import PROFILE_NAME, read_profile

    profile = read_profile(path or Path(PROFILE_NAME))
    if stage is not None:
        name = parse_stage(stage)
        print_stage(profile, name, as_json=as_json)
    elif as_json:
        typer.echo(profile.model_dump_json(indent=2))
    else:
        print_profile(profile)
        print_runtime(profile.runtime)
