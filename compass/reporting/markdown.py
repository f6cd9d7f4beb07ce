"""The report as Markdown, short enough for a pull request."""

from __future__ import annotations

import re
from collections.abc import Iterable

from compass.errors import printable
from compass.reporting.figure import Table
from compass.reporting.view import StageView, View

_MARKUP = re.compile(r"[*_`\[]")


def markdown(view: View) -> str:
    """The machine, the plans in a table, a paragraph on each, and the missing parts of the profile."""
    blocks = [f"## {plain_text(view.title)}", f"{plain_text(view.machine)}. {plain_text(view.question)}."]
    if view.stages:
        blocks.append(as_table(_summary(view)))
    for stage in view.stages:
        blocks += _stage(stage)
    blocks += [
        f"**{figure.title}.** {plain_text(figure.says)}"
        for figure in [*view.predictions, *([view.search] if view.search else [])]
    ]
    if view.missing:
        blocks.append("**Missing**\n\n" + as_list(view.missing))
    blocks.append(f"_{plain_text(view.created)}_" if view.created else "")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _stage(stage: StageView) -> list[str]:
    explanation = stage.explanation
    lines = [f"{one.more}: {one.says}" for one in explanation.purchases]
    return [
        f"**{stage.name}.** {plain_text(explanation.why)}. {plain_text(explanation.limited_by)}",
        _details("The score", as_list(explanation.score)) if explanation.score else "",
        _details("Predicted gain of more memory, time or data", as_list(lines)) if lines else "",
        _details("What devices would buy", as_table(stage.devices)) if stage.devices else "",
        _details("Next best", as_table(stage.alternatives)) if stage.alternatives.rows else "",
    ]


def _summary(view: View) -> Table:
    columns = ("stage", "choice", "parameters", view.rate_unit, "cycle", "memory", "limited by")
    return Table(columns, tuple(_summary_row(stage, view.rate_unit) for stage in view.stages))


def _summary_row(stage: StageView, rate_unit: str) -> tuple[str, ...]:
    values = {gauge.label: gauge.says for gauge in stage.gauges}
    figures = tuple(values.get(name, "") for name in ("parameters", "throughput", "cycle", "memory"))
    return (
        stage.name,
        stage.headline,
        figures[0],
        figures[1].removesuffix(f" {rate_unit}"),
        *figures[2:],
        stage.limited_by,
    )


def as_table(table: Table) -> str:
    """`table` in Markdown; all columns but the first are aligned to the right."""
    rule = "|".join(["---", *["---:"] * (len(table.headers) - 1)])
    rows = ["|".join(map(_cell, row)) for row in table.rows]
    return "\n".join(f"|{line}|" for line in ["|".join(table.headers), rule, *rows])


def _cell(text: str) -> str:
    return plain_text(text).replace("|", "\\|")


def _details(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def as_list(lines: Iterable[str]) -> str:
    """Each of `lines` as an item."""
    return "\n".join(f"- {plain_text(line)}" for line in lines)


def plain_text(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no line breaks, and control characters as escapes."""
    plain = printable(" ".join(text.split())).replace("<", "&lt;")
    return _MARKUP.sub(r"\\\g<0>", plain)
