"""`compass config`: all settings with their reasons, as a file to edit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from compass.cli.options import ConfigOption, SetOption
from compass.cli.say import say


def config(
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="File to write. Default: stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
) -> None:
    """Print or write all settings, each with its reason, as a Python file to edit."""
    from compass.cli.parse import load_settings
    from compass.config_files import render_config, write_config

    settings = load_settings(config_file, set_values)
    if out is None:
        typer.echo(render_config(settings), nl=False)
    else:
        write_config(settings, out, force=force)
        say(f"wrote {out}", err=True)
