"""Progress: the present step, how much is left, and how long that should take.

A terminal shows one line that changes. Without a terminal, in a batch system's log for example, a line is logged every half minute.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.table import Column
from rich.text import Text

from compass import records
from compass.cli.verbosity import is_quiet
from compass.errors import printable
from compass.units import format_duration

_Watch = Callable[[records.Progress], None]
log = logging.getLogger(__name__)

PLAIN_S = 30.0
"""Seconds between two lines without a terminal: a log of a day's run stays below three thousand lines."""
OVERDUE_SHARE = 0.5
"""A step that takes longer than expected is expected to take so much of its excess once more: it may end at any moment, or late."""
ENOUGH = 2
"""Steps done before their pace is used to estimate the rest."""


@contextmanager
def live_progress(console: Console) -> Iterator[_Watch]:
    """A line at the bottom of `console` that shows the progress passed to the yielded function; nothing with -q."""
    if is_quiet():
        yield lambda _: None
        return
    if not console.is_terminal:
        watching, ended = PlainProgress(console), threading.Event()
        threading.Thread(target=watching.report_until, args=(ended,), daemon=True).start()
        try:
            yield watching.watch
        finally:
            ended.set()
        return
    with bar_on(console) as bar:
        task, pace = bar.add_task("starting", total=None, left=""), Pace()

        def watch(now: records.Progress) -> None:
            rest = pace.rest(now)
            bar.update(
                task,
                description=described(now),
                left=rest,
                completed=now.n_done,
                total=max(now.n_expected, now.n_done) or None,
            )

        yield watch


def described(now: records.Progress) -> str:
    """The present step in a line: `stage 2 of 4, production: certify 5 layers × 96 channels, fp32, batch 9`."""
    return printable(f"{now.stage}: {now.phase} {now.what}" if now.stage else f"{now.phase}: {now.what}")


class PlainProgress:
    """Progress in lines of their own, one every `PLAIN_S`, also while a single step takes minutes."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._pace, self._lines = Pace(clock), PlainLines(console, clock)
        self._line = "starting"
        self._rest: Rest | None = None

    def watch(self, now: records.Progress) -> None:
        """Take note of `now`, and report it if it is time."""
        self._line, self._rest = described(now), self._pace.rest(now)
        self.report()

    def report(self) -> None:
        """Report the present step, unless the last line is too recent."""
        self._lines.add(lambda: self._line if self._rest is None else f"{self._line}: {self._rest}")

    def report_until(self, ended: threading.Event) -> None:
        """Report every `PLAIN_S` seconds until the task has `ended`."""
        while not ended.wait(1.0):
            self.report()


class PlainLines:
    """Lines about a long task, at most one every `PLAIN_S`: logged if this command logs, else written to `console`."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console, self._clock = console, clock
        self._told_s = clock()

    def add(self, line: Callable[[], str]) -> None:
        """Report `line`, unless the last one is too recent."""
        if self._clock() - self._told_s < PLAIN_S:
            return
        self._told_s = self._clock()
        if log.hasHandlers() and log.isEnabledFor(logging.INFO):
            log.info("%s", line())
        elif not self._console.quiet:
            self._console.file.write(f"{line()}\n")
            self._console.file.flush()


@contextmanager
def waiting(console: Console, what: str) -> Iterator[None]:
    """Show `what` while the block runs. Nothing without a terminal, or with -q."""
    if is_quiet() or not console.is_terminal:
        yield
        return
    with console.status(what):
        yield


@dataclass
class Rest:
    """The number of finished steps, and the remaining time, counted down as time goes by."""

    count: str
    until_s: float | None
    clock: Callable[[], float] = time.monotonic

    in_all: bool = False
    """Whether it is the time of the whole run."""
    later_s: float = 0.0
    """Seconds of what comes after the present step."""

    @property
    def left_s(self) -> float | None:
        """Seconds that are left now; below zero where it takes longer than expected, None if nothing is known."""
        if self.until_s is None:
            return None
        left_s = self.until_s - self.clock()
        overdue_s = self.later_s - left_s
        if self.in_all and overdue_s > 0:  # what comes after the present step does not become less
            return self.later_s + OVERDUE_SHARE * overdue_s
        return left_s

    def __str__(self) -> str:
        left_s = self.left_s
        if left_s is None:
            return self.count
        if left_s < 1:
            return f"{self.count}, longer than expected"
        return f"{self.count}, {format_duration(left_s)} left{' in all' if self.in_all else ''}"


class Pace:
    """The pace of a phase so far, for phases that give no estimate of the remaining time."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._phase, self._since_s, self._n_before = "", 0.0, 0

    def rest(self, now: records.Progress) -> Rest:
        """The rest of the phase: as given by the phase, or at the pace so far."""
        time_s = self._clock()
        if now.in_all_s is not None:
            return Rest(
                f"{now.n_done}/{now.n_expected}", time_s + now.in_all_s, self._clock, in_all=True, later_s=now.later_s
            )
        what = now.phase
        if what != self._phase:
            self._phase, self._since_s, self._n_before = what, time_s, now.n_done
        remaining_s, n_here = now.remaining_s, now.n_done - self._n_before
        if remaining_s is None and n_here >= ENOUGH:
            remaining_s = (time_s - self._since_s) / n_here * (now.n_expected - now.n_done)
        until_s = None if remaining_s is None else time_s + remaining_s
        return Rest(f"{now.n_done}/{now.n_expected}", until_s, self._clock)


class RestColumn(ProgressColumn):
    """The column of the field `left`: a text, or a value that counts down."""

    def render(self, task: Task) -> Text:
        """The field as one line."""
        return Text(str(task.fields["left"]), justify="right", no_wrap=True)


def bar_on(console: Console) -> Progress:
    """A progress line: the present step, a bar, and the field `left`.

    The bar differs from its background in brightness, not in hue alone, on dark and on light terminals.
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
