import io
import logging
import re

import pytest
from rich.console import Console

from compass.errors import InputError
from compass.logs import logging_to

log = logging.getLogger("compass.probe")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "hardware_optimizer.log"


def test_the_file_keeps_everything_with_time_and_level(file, capsys):
    with logging_to(file, level="info"):
        log.debug("probe %d", 7)
        log.info("stage done")
    first, second = file.read_text().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} DEBUG   probe 7", first)
    assert second.endswith(" INFO    stage done")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == f"{second}\n"


@pytest.mark.parametrize(("level", "n_lines"), [("debug", 4), ("INFO", 3), ("warning", 2), ("error", 1)])
def test_the_console_follows_the_level(file, capsys, level, n_lines):
    with logging_to(file, level=level):
        for severity in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            log.log(severity, "said")
    assert len(capsys.readouterr().err.splitlines()) == n_lines
    assert len(file.read_text().splitlines()) == 4


def test_colour_codes_stay_out_of_the_file(file, capsys):
    with logging_to(file):
        log.info("\x1b[1;31mred\x1b[0m alert")
    assert file.read_text().endswith(" INFO    red alert\n")
    assert "\x1b" not in capsys.readouterr().err


def test_on_a_terminal_lines_go_to_the_live_console(file, capsys):
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with logging_to(file, console=console):
        log.info("what [is] tried")
    assert "what [is] tried" in console.file.getvalue()
    assert capsys.readouterr().err == ""


def test_a_second_run_is_added(file):
    for _ in range(2):
        with logging_to(file):
            log.info("once")
    assert len(file.read_text().splitlines()) == 2


def test_logging_is_left_as_it_was(file):
    logger = logging.getLogger("compass")
    before = logger.handlers[:], logger.level, logger.propagate
    with logging_to(file) as used:
        assert used is logger
    assert (logger.handlers, logger.level, logger.propagate) == before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (InputError("field", got="a", expected="b", fix="C."), "field: got a; expected b. C."),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_the_file_says_why_a_run_ended_early(file, capsys, error, said):
    with pytest.raises(type(error)), logging_to(file):
        raise error
    [line] = file.read_text().splitlines()
    assert line.endswith(f" ERROR   ended early: {said}")
    assert capsys.readouterr().err == ""  # whoever called it says it on the console


def test_a_bug_leaves_its_traceback_in_the_file(file):
    with pytest.raises(ZeroDivisionError), logging_to(file):
        _ = 1 / 0
    text = file.read_text()
    assert "ended early: division by zero\nTraceback (most recent call last):\n" in text


def test_an_unknown_level(file):
    with pytest.raises(InputError) as error, logging_to(file, level="loud"):
        pass
    assert str(error.value) == "--log-level: got 'loud'; expected one of debug, info, warning, error. Choose one."
    assert not file.exists()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda folder: folder / "nowhere", "No such file or directory"),
        (lambda folder: folder / "file", "Not a directory"),
    ],
)
def test_an_unwritable_place(tmp_path, make, reason):
    (tmp_path / "file").touch()
    path = make(tmp_path) / "hardware_optimizer.log"
    with pytest.raises(InputError) as error, logging_to(path):
        pytest.fail("work began")
    assert str(error.value) == (
        f"log {path}: got {reason}; expected a file in a writable folder. Choose another --out."
    )
