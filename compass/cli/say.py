"""Text on the terminal, with everything that a terminal would act on written as escapes: names come from files of other people."""

from __future__ import annotations

import typer

from compass.errors import printable_lines


def say(text: str, *, fg: str | None = None, err: bool = False) -> None:
    """Print `text`, in the colour `fg` on a terminal."""
    typer.secho(printable_lines(text), fg=fg, err=err)
