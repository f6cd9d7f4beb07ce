"""What is being tried, how much is left and how long that should take, live on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Column

from compass import records
from compass.units import format_seconds

Watch = Callable[[records.Progress], None]


@contextmanager
def live_progress(console: Console) -> Iterator[Watch]:
    """A line at the bottom of `console` that follows what its callable is told; nothing if nobody is looking."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with bar_on(console) as bar:
        task = bar.add_task("starting", total=None, left="")

        def watch(now: records.Progress) -> None:
            bar.update(
                task, description=f"{now.phase}: {now.what}", left=describe_rest(now),
                completed=now.n_done, total=max(now.n_expected, now.n_done) or None,
            )  # fmt: skip

        yield watch


def bar_on(console: Console) -> Progress:
    """What is going on, a bar, and on the right the field `left`."""
    what = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False, table_column=what),
        BarColumn(bar_width=12),
        TextColumn("{task.fields[left]}", markup=False, justify="right"),
        console=console,
        transient=True,
        expand=True,
    )


def describe_rest(now: records.Progress) -> str:
    """How many of how many are done, and how long the rest should take, e.g. `3/14, 12.0 s left`."""
    count = f"{now.n_done}/{now.n_expected}"
    return count if now.remaining_s is None else f"{count}, {format_seconds(now.remaining_s)} left"
