"""What is being tried, how much is left and how long that should take, live on a terminal and nowhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from compass import records
from compass.units import format_seconds

_Watch = Callable[[records.Progress], None]
ENOUGH = 2
"""Things done before their pace says how long the rest will take."""


@contextmanager
def live_progress(console: Console) -> Iterator[_Watch]:
    """A line at the bottom of `console` that follows what its callable is told; nothing if nobody is looking."""
    if not console.is_terminal:
        yield lambda _: None
        return
    with bar_on(console) as bar:
        task, pace = bar.add_task("starting", total=None, left=""), Pace()

        def watch(now: records.Progress) -> None:
            rest = pace.rest(now)
            bar.update(
                task, description=f"{now.phase}: {now.what}", left=rest,
                completed=now.n_done, total=max(now.n_expected, now.n_done) or None,
            )  # fmt: skip

        yield watch


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """A line that says what is being waited for; nothing if nobody is looking."""
    if not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@dataclass
class Rest:
    """How many of how many are done, and when the rest should be, counted down as time goes by."""

    count: str
    until_s: float | None
    clock: Callable[[], float] = time.monotonic

    def __str__(self) -> str:
        if self.until_s is None:
            return self.count
        left_s = self.until_s - self.clock()
        return f"{self.count}, {format_seconds(left_s)} left" if left_s >= 1 else f"{self.count}, soon"


class Pace:
    """How long a phase's steps took so far, for phases that cannot say how long the rest will take."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase, self._since_s, self._n_before = "", 0.0, 0

    def rest(self, now: records.Progress) -> Rest:
        """What is left of the phase: as it was told, or at the pace so far."""
        time_s = self._clock()
        what = f"{now.phase} {now.what.partition(':')[0]}" if now.phase == "search" else now.phase
        if what != self._phase:
            self._phase, self._since_s, self._n_before = what, time_s, now.n_done
        remaining_s, n_here = now.remaining_s, now.n_done - self._n_before
        if remaining_s is None and n_here >= ENOUGH:
            remaining_s = (time_s - self._since_s) / n_here * (now.n_expected - now.n_done)
        until_s = None if remaining_s is None else time_s + remaining_s
        return Rest(f"{now.n_done}/{now.n_expected}", until_s, self._clock)


class RestColumn(ProgressColumn):
    """The field `left` as it stands now: a text, or something that counts down."""

    def render(self, task: Task) -> Text:
        """One line."""
        return Text(str(task.fields["left"]), justify="right", no_wrap=True)


def bar_on(console: Console) -> Progress:
    """What is going on, a bar, and on the right the field `left`.

    The bar is told from its ground by brightness, not by hue alone, on dark terminals and on light ones.
    """
    what = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return Progress(
        SpinnerColumn(style="default"),
        TextColumn("{task.description}", markup=False, table_column=what),
        BarColumn(
            bar_width=12, complete_style="bold blue", finished_style="bold blue", pulse_style="bold blue", style="dim"
        ),
        RestColumn(),
        console=console,
        transient=True,
        expand=True,
    )
