"""`compass config`: all settings with their reasons, as a file to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption, ConfigOption, SetOption
from compass.cli.say import say
from compass.errors import InputError


def config(
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write. Default: stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    as_json: AsJsonOption = False,
) -> None:
    """Print or write all settings, each with its reason, as a Python file to edit; with --json, print their values.

    `--config` reads either.
    """
    from compass.cli.parse import load_settings
    from compass.config_files import render_config, write_config

    if as_json and out is not None:
        raise InputError("--json", got="--out as well", expected="one of the two", fix="Leave one out.")
    settings = load_settings(config_file, set_values)
    if as_json:
        print_json(settings.model_dump_json(indent=2))
    elif out is None:
        typer.echo(render_config(settings), nl=False)
    else:
        write_config(settings, out, force=force)
        say(f"wrote {out}", err=True)
