import io
import re

import pytest
from rich.console import Console

from compass.cli.progress import Pace, PlainProgress, bar_on, described, live_progress, waiting
from compass.logs import logging_to
from compass.records import Progress

NOW = Progress(phase="search", what="6 layers × 128 channels [fp32], batch 32 " * 3, n_done=3, n_expected=14,
               remaining_s=12.0)  # fmt: skip


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


def test_a_short_task_without_a_terminal_says_nothing():
    console = Console(file=io.StringIO(), force_terminal=False)
    with live_progress(console) as watch:
        watch(NOW)
    with waiting(console, "a worker"):
        pass
    assert console.file.getvalue() == ""


def told_in(minutes, console, clock):
    """The progress of a search of so many minutes, reported every second."""
    watch = PlainProgress(console, clock).watch
    for second in range(60 * minutes):
        watch(NOW.model_copy(update={"what": "6 layers", "n_done": second // 10, "remaining_s": 600.0 - second}))
        clock.now_s += 1


def test_without_a_terminal_a_line_every_half_minute():
    console, clock = Console(file=io.StringIO(), force_terminal=False), Clock()
    told_in(2, console, clock)
    assert console.file.getvalue().splitlines() == [
        "search: 6 layers: 3/14, 10 min left", "search: 6 layers: 6/14, 9 min left", "search: 6 layers: 9/14, 8 min left",
    ]  # fmt: skip


def test_a_quiet_console_stays_quiet():
    console = Console(file=io.StringIO(), force_terminal=False, quiet=True)
    told_in(2, console, Clock())
    assert console.file.getvalue() == ""


def test_a_command_that_logs_logs_its_progress(tmp_path, capsys):
    console = Console(file=io.StringIO(), force_terminal=False)
    with logging_to(tmp_path / "log", level="info"):
        told_in(1, console, Clock())
    assert console.file.getvalue() == ""
    [line] = (tmp_path / "log").read_text().splitlines()
    assert re.fullmatch(r"\S+ INFO    search: 6 layers: 3/14, 10 min left", line)
    assert capsys.readouterr().err.splitlines() == [line]


def test_what_is_tried_and_what_is_left_fit_in_80_columns():
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=80)
    with live_progress(console) as watch:
        watch(NOW)
    frames = re.sub(r"\x1b\[[?\d]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n").splitlines()
    [frame] = {line for line in frames if "search: 6 layers × 128 channels [fp32]" in line}
    assert re.search(r"3/14, 1[12] s left$", frame.rstrip())
    assert max(map(len, frames)) <= 80


@pytest.mark.parametrize("colours", ["standard", "256", "truecolor"])
def test_the_bar_is_told_from_its_ground_without_hue(colours):
    console = Console(file=io.StringIO(), force_terminal=True, color_system=colours, width=80)
    with bar_on(console) as bar:
        bar.add_task("half", total=2, completed=1, left="1/2")
    said = console.file.getvalue()
    assert "\x1b[1;34m" in said  # done: bold
    assert "\x1b[2m" in said  # not yet: dim


@pytest.mark.parametrize(
    ("remaining_s", "text"), [(None, "3/14"), (600.0, "3/14, 10 min left"), (0.5, "3/14, longer than expected")]
)
def test_the_rest_as_it_was_told(remaining_s, text):
    assert str(Pace(Clock()).rest(NOW.model_copy(update={"remaining_s": remaining_s}))) == text


def test_the_rest_counts_down():
    clock = Clock()
    rest = Pace(clock).rest(NOW)
    clock.now_s += 7
    assert str(rest) == "3/14, 5.0 s left"
    clock.now_s += 60
    assert str(rest) == "3/14, longer than expected"


def test_the_rest_at_the_pace_so_far():
    clock, said = Clock(), []
    pace = Pace(clock)
    for n_done in range(4):
        said.append(str(pace.rest(Progress(phase="calibrate", what=f"model {n_done}", n_done=n_done, n_expected=10))))
        clock.now_s += 3
    assert said == ["0/10", "1/10", "2/10, 24 s left", "3/10, 21 s left"]


def test_another_phase_has_a_pace_of_its_own():
    clock = Clock()
    pace = Pace(clock)
    said = []
    for phase, n_done in (("calibrate", 0), ("calibrate", 5), ("train", 0), ("train", 2)):
        said.append(str(pace.rest(Progress(phase=phase, what="a", n_done=n_done, n_expected=10))))
        clock.now_s += 10
    assert said == ["0/10", "5/10, 10 s left", "0/10", "2/10, 40 s left"]


def test_the_time_of_the_whole_run_comes_first():
    now = NOW.model_copy(update={"in_all_s": 240.0, "stage": "stage 2 of 4, production", "what": "6 × 128, batch 32"})
    assert str(Pace(Clock()).rest(now)) == "3/14, 4 min left in all"
    assert described(now) == "stage 2 of 4, production: search 6 × 128, batch 32"


def test_what_comes_after_an_overdue_step_is_still_to_come():
    clock = Clock()
    rest = Pace(clock).rest(NOW.model_copy(update={"in_all_s": 100.0, "later_s": 80.0}))
    said = []
    for seconds in (10, 10, 40, 160):
        clock.now_s += seconds
        said.append(str(rest))
    assert said == [
        "3/14, 90 s left in all", "3/14, 80 s left in all", "3/14, 2 min left in all", "3/14, 3 min left in all",
    ]  # fmt: skip
    last = Pace(clock).rest(NOW.model_copy(update={"in_all_s": 10.0}))
    clock.now_s += 10.5
    assert str(last) == "3/14, longer than expected"
    clock.now_s += 40
    assert str(last) == "3/14, 20 s left in all"


def test_a_step_of_minutes_is_reported_too():
    clock, console = Clock(), Console(file=io.StringIO(), force_terminal=False)
    shown = PlainProgress(console, clock)
    shown.watch(NOW.model_copy(update={"what": "a model", "in_all_s": 200.0}))
    for _ in range(7):
        clock.now_s += 10
        shown.report()
    assert console.file.getvalue().splitlines() == [
        "search: a model: 3/14, 3 min left in all",
        "search: a model: 3/14, 2 min left in all",
    ]
