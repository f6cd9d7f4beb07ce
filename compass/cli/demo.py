"""`compass demo`: a small, real dataset to try the other commands on."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption
from compass.cli.say import say


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write: a new or an empty one.")],
    force: Annotated[bool, typer.Option("--force", help="Write into a folder that is not empty.")] = False,
    as_json: AsJsonOption = False,
) -> None:
    """Write a small dataset of real structures and a custom workload, to try every command on. Needs no network.

    Exit codes: 0 done, 2 bad input.
    """
    from compass.demo.writing import COMMANDS, write_demo
    from compass.units import format_bytes

    written = write_demo(folder, force=force)
    if as_json:
        commands = [command for command, _ in COMMANDS]
        print_json(json.dumps({**asdict(written), "folder": str(written.folder), "next": commands}, indent=2))
        return
    say(
        f"wrote {written.folder}: {written.n_labelled} complexes with labels, {written.n_new} without, a manifest and a workload; "
        f"{written.n_files} files, {format_bytes(written.n_bytes)}\n\nnext, as in {written.folder / 'README.txt'}:\n"
        f"  cd {written.folder}"
    )
    for command, _ in COMMANDS:
        say(f"  {command}")
