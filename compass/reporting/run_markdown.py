"""The report on a training run as Markdown, short enough for a pull request."""

from __future__ import annotations

from compass.reporting.markdown import as_list, as_table, plain_text
from compass.reporting.run_view import RunView


def run_markdown(view: RunView) -> str:
    """The verdict, the table of results, the promises beside the measurements, every plot in words, and the missing parts."""
    blocks = [f"## {plain_text(view.headline)}", f"{plain_text(view.subtitle)}."]
    if view.results.rows:
        blocks += [f"{view.results_title}:", as_table(view.results)]
    if view.promises.rows:
        blocks += [plain_text(view.promises_text), as_table(view.promises)]
    blocks += [f"**{figure.title}.** {plain_text(figure.says)}" for figure in view.figures]
    if view.missing:
        blocks.append("**Missing**\n\n" + as_list(view.missing))
    blocks.append(f"_{plain_text(view.created)}_")
    return "\n\n".join(blocks) + "\n"
