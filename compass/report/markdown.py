"""The report as Markdown, short enough for a pull request."""

from __future__ import annotations

from collections.abc import Iterable

from compass.report.figure import Table
from compass.report.view import StageView, View

SUMMARY_COLUMNS = ("stage", "choice", "parameters", "graphs/s", "cycle", "memory", "limited by")


def markdown(view: View) -> str:
    """The machine, the plans in a table, a paragraph on each, and the missing parts of the profile."""
    blocks = [f"## {_plain(view.title)}", f"{_plain(view.machine)}. {_plain(view.question)}."]
    if view.stages:
        blocks.append(_table(Table(SUMMARY_COLUMNS, tuple(_summary(stage) for stage in view.stages))))
    for stage in view.stages:
        blocks += _stage(stage)
    blocks += [
        f"**{figure.title}.** {_plain(figure.says)}"
        for figure in [*view.predictions, *([view.search] if view.search else [])]
    ]
    if view.missing:
        blocks.append("**Missing**\n\n" + _list(view.missing))
    blocks.append(f"_{_plain(view.created)}_" if view.created else "")
    return "\n\n".join(block for block in blocks if block) + "\n"


def _stage(stage: StageView) -> list[str]:
    explanation = stage.explanation
    lines = [f"{one.more}: {one.says}" for one in explanation.purchases]
    return [
        f"**{stage.name}.** {_plain(explanation.why)}. {_plain(explanation.limited_by)}",
        _details("The score", _list(explanation.score)) if explanation.score else "",
        _details("Predicted gain of more memory, time or data", _list(lines)) if lines else "",
        _details("Next best", _table(stage.alternatives)) if stage.alternatives.rows else "",
    ]


def _summary(stage: StageView) -> tuple[str, ...]:
    values = {gauge.label: gauge.says for gauge in stage.gauges}
    figures = tuple(values.get(name, "") for name in ("parameters", "throughput", "cycle", "memory"))
    return (
        stage.name,
        stage.headline,
        figures[0],
        figures[1].removesuffix(" graphs/s"),
        *figures[2:],
        stage.limited_by,
    )


def _table(table: Table) -> str:
    rule = "|".join(["---", *["---:"] * (len(table.headers) - 1)])
    rows = ["|".join(map(_cell, row)) for row in table.rows]
    return "\n".join(f"|{line}|" for line in ["|".join(table.headers), rule, *rows])


def _cell(text: str) -> str:
    return _plain(text).replace("|", "\\|")


def _details(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n\n</details>"


def _list(lines: Iterable[str]) -> str:
    return "\n".join(f"- {_plain(line)}" for line in lines)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: no markup, and no line breaks."""
    return " ".join(text.split()).replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
