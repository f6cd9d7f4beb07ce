"""The runtime settings of a profile: the chosen values, their gains, and the reasons."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.table import Table

from compass.cli.plain_console import PlainConsole
from compass.records import RuntimeChoice


def print_runtime(choices: Sequence[RuntimeChoice]) -> None:
    """Print the table; nothing if the profile has no runtime settings."""
    if choices:
        PlainConsole().print(runtime_table(choices))


def runtime_table(choices: Iterable[RuntimeChoice]) -> Table:
    """One row per setting; the reasons name the times of other values."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, collapse_padding=True)
    table.add_column("setting", no_wrap=True)
    table.add_column("chosen")
    table.add_column("gain", justify="right")
    table.add_column("why")
    for choice in choices:
        name = f"{choice.setting} ({choice.stage})" if choice.stage else choice.setting
        gain = "" if choice.gain is None else f"{choice.gain:.2f}×"
        table.add_row(name, choice.chosen, gain, choice.why)
    return table
