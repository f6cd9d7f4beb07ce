"""`compass show`: a profile as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption, ProfileOption, WordsArgument, stage_option
from compass.errors import InputError


def show(
    words: WordsArgument = None,
    profile_path: ProfileOption = None,
    stage: Annotated[list[str] | None, stage_option("Show only this stage, in full.")] = None,
    as_json: AsJsonOption = False,
    brief: Annotated[
        bool, typer.Option("--brief", help="With --json: the answers alone, in under 3 kB, for scripts.")
    ] = False,
) -> None:
    """Show the plans of a profile in a table, or one of them in full."""
    from compass.cli.parse import named, one_stage
    from compass.cli.runtime_table import print_runtime
    from compass.cli.tables import print_profile, print_stage
    from compass.profile import PROFILE_NAME, read_profile

    if brief and not as_json:
        raise InputError("--brief", got="no --json", expected="--json --brief", fix="Add --json, or leave out --brief.")
    stages, path = named(words, stage, profile_path)
    name = one_stage(stages)
    profile = read_profile(path or Path(PROFILE_NAME))
    if brief:
        from compass.reporting.brief import brief_answers

        print_json(json.dumps(brief_answers(profile, name), ensure_ascii=False))
    elif name is not None:
        print_stage(profile, name, as_json=as_json)
    elif as_json:
        print_json(profile.model_dump_json(indent=2))
    else:
        print_profile(profile)
        print_runtime(profile.runtime)
