"""The options that commands share, each written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Settings: a .py, .toml or .json file. See `compass config`."),
]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting, e.g. stages.prototyping.target_s=1800."),
]
Device = Annotated[
    str | None, typer.Option(metavar="DEVICE", help="cuda, xpu, mps or cpu. Default: the best there is.")
]
MemoryLimit = Annotated[
    str | None, typer.Option(metavar="SIZE", help="The most memory training may use, e.g. 6GiB. Enforced.")
]
Workload = Annotated[
    str | None, typer.Option(metavar="NAME", help="A model family, package.module:factory or file.py:factory.")
]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on stdout, and nothing else there.")]
