"""The report as one HTML file: everything inlined, so that it opens from a disk, offline, and asks for nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from importlib.resources import files
from typing import Any

from compass.errors import printable_lines
from compass.reporting.figure import LOOKS, Figure, Table
from compass.reporting.run_view import RunView
from compass.reporting.view import View

ASSETS = files("compass.reporting") / "assets"
MOST_ROWS = 60
"""A longer table is built when it is opened: thousands of rows would slow the page down."""


def html_page(view: View) -> str:
    """The report on a profile as the text of one HTML file."""
    return _rendered("page.html.j2", view)


def run_page(view: RunView) -> str:
    """The report on a training run as the text of one HTML file."""
    return _rendered("run.html.j2", view)


def _rendered(template: str, view: View | RunView) -> str:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FunctionLoader(asset),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(template).render(
        view=view,
        short=MOST_ROWS,
        style=Markup(asset("report.css")),  # noqa: S704 - our own file
        plotly=Markup(asset("plotly-basic.min.js") if view.figures else ""),  # noqa: S704 - checked against its digest
        script=Markup(asset("report.js")),  # noqa: S704 - our own file
        data=Markup(_embedded(_data(view))),  # noqa: S704 - JSON without what could end the element
    )
    return page.lstrip() + "\n"


def asset(name: str) -> str:
    """The text of a file beside this one."""
    return (ASSETS / name).read_text(encoding="utf-8")


def _data(view: View | RunView) -> dict[str, Any]:
    return {
        "looks": {role: asdict(look) for role, look in LOOKS.items()},
        "figures": {figure.key: _figure(figure) for figure in view.figures},
        "tables": {key: _table(table) for key, table in view.tables.items()},
    }


def _figure(figure: Figure) -> dict[str, Any]:
    return asdict(figure)


def _table(table: Table) -> dict[str, Any]:
    return {"headers": table.headers, "rows": [[_shown(cell) for cell in row] for row in table.rows]}


def _shown(value: Any) -> Any:
    """A text with its control characters as escapes; anything else as it is, our own markup too."""
    return printable_lines(value) if type(value) is str else value


def _embedded(data: dict[str, Any]) -> str:
    """JSON for a script element, without any text that would end it or start a comment."""
    text = json.dumps(data, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")
