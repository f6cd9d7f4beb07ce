import io

import pytest
from rich.console import Console

from compass.cli.progress import describe_rest, live_progress
from compass.records import Progress

NOW = Progress(phase="search", what="6 layers × 128 channels [fp32], batch 32 " * 3, n_done=3, n_expected=14,
               remaining_s=12.0)  # fmt: skip


def test_quiet_when_nobody_is_looking():
    console = Console(file=io.StringIO(), force_terminal=False)
    with live_progress(console) as watch:
        watch(NOW)
    assert console.file.getvalue() == ""


def test_what_is_tried_and_what_is_left_fit_in_80_columns():
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=80)
    with live_progress(console) as watch:
        watch(NOW)
    frames = console.file.getvalue().replace("\r", "\n").splitlines()
    [frame] = {line for line in frames if "search: 6 layers × 128 channels [fp32]" in line}
    assert frame.rstrip().endswith("3/14, 12.0 s left")


@pytest.mark.parametrize(("remaining_s", "text"), [(None, "3/14"), (600.0, "3/14, 10.0 min left")])
def test_the_rest(remaining_s, text):
    assert describe_rest(NOW.model_copy(update={"remaining_s": remaining_s})) == text
