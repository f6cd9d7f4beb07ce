"""`compass export`: a plan as settings for another program."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compass.cli.options import AsJsonOption, ProfileOption, WordsArgument, stage_option
from compass.cli.say import say


def export(
    words: WordsArgument = None,
    profile_path: ProfileOption = None,
    stage: Annotated[list[str] | None, stage_option("Stage whose plan is exported. Default: production.")] = None,
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="Format: json, yaml, env, hydra, slurm or torchrun.")
    ] = "json",
    seeds: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="With slurm: an array of N jobs, each with its own seed.")
    ] = 1,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write. Default: stdout.")] = None,
    as_json: AsJsonOption = False,
) -> None:
    """Print a stage's plan as settings: model, batch size, accumulation, precision, trainer, environment.

    Format env is for a shell: eval "$(compass export --format env)". Format hydra is a config group.
    Format slurm is a batch script that trains the plan, and goes on after it was stopped or requeued.
    Format torchrun is a shell script that starts a process for each device of the plan.
    """
    from compass.cli.parse import check_output, named, one_stage
    from compass.errors import InputError
    from compass.files import write_text
    from compass.integrations.formats import FORMATS, exported
    from compass.profile import PROFILE_NAME, read_profile

    if form not in FORMATS:
        raise InputError("--format", got=repr(form), expected=f"one of {', '.join(FORMATS)}", fix="Name one of these.")
    if as_json and form != "json":
        raise InputError("--json", got=f"format {form}", expected="json", fix="Leave out one of --json and --format.")
    if seeds > 1 and form != "slurm":
        raise InputError("--seeds", got=f"format {form}", expected="slurm", fix="Add --format slurm, or leave it out.")
    stages, path = named(words, stage, profile_path)
    profile = read_profile(path or Path(PROFILE_NAME))
    text = exported(profile, one_stage(stages) or "production", form, seeds)
    if out is None:
        typer.echo(text, nl=False)
    else:
        check_output(out)
        write_text(text, out)
        say(f"wrote {out}", err=True)
