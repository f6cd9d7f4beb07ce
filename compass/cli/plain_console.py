"""Tables and texts on the terminal: as they are, but with everything that a terminal would act on written as escapes."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from compass.errors import printable_lines


class PlainConsole(Console):
    """A console that prints texts as they are, without markup, emoji and control characters."""

    def __init__(self, *, stderr: bool = False, soft_wrap: bool = False) -> None:
        super().__init__(stderr=stderr, soft_wrap=soft_wrap, highlight=False, markup=False, emoji=False)

    def render_str(self, text: str, **settings: Any) -> Text:
        """`text` as rich's text; also that of a table's cells."""
        return super().render_str(printable_lines(text), **settings)
