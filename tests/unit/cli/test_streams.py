"""The streams of a command, in a process of its own whose descriptors are as they may be."""

import os
import subprocess
import sys

import pytest

from compass.cli.plain_console import PlainConsole
from compass.cli.say import say
from compass.cli.streams import tamed
from compass.cli.tables import plain_table, print_rows

PROGRAM = "from compass.cli.streams import prepare_streams; prepare_streams()\n"


def ended(code, *, way='exec "$@"', **variables):
    """(exit code, output, messages) of `code` after the streams are prepared; `way` redirects its descriptors."""
    done = subprocess.run(
        ["sh", "-c", way, "sh", sys.executable, "-c", PROGRAM + code],
        capture_output=True, env={**os.environ, **variables}, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("ascii", b"A x -> ."),
        ("latin-1", "Å × -> ·".encode("latin-1")),
        ("gbk", "A × → ·".encode("gbk")),
        ("utf-8", "Å × → ·".encode()),
    ],
)
def test_text_is_written_in_what_the_encoding_has(encoding, expected):
    code = "import typer; typer.echo('Å × → ·'); typer.echo('Å × → ·', err=True); print('Å × → ·')"
    assert ended(code, PYTHONIOENCODING=encoding) == (0, expected + b"\n" + expected + b"\n", expected + b"\n")


def test_a_full_output_is_an_error_of_the_user_s_machine():
    code, _, messages = ended(
        "from compass.errors import InputError\ntry: print('x', flush=True)\n"
        "except InputError as error:\n    import sys; sys.stderr.write(str(error)); sys.exit(7)",
        way='exec "$@" >/dev/full',
    )  # fmt: skip
    assert code == 7
    assert messages.decode() == (
        "standard output: got No space left on device; expected an output that can be written. "
        "Make room, or send it elsewhere."
    )


@pytest.mark.parametrize("way", ['exec "$@" 2>/dev/full', 'exec "$@" 2>&-'])
def test_messages_that_nobody_takes_are_dropped(way):
    assert ended("import sys; sys.stderr.write('x' * 9999); sys.stderr.flush(); print('done')", way=way) == (
        0,
        b"done\n",
        b"",
    )


def test_a_reader_that_has_gone_ends_the_command_silently():
    script = '"$@"; echo $? >&2'
    code, _, messages = ended(
        "import time\nfor n in range(99): print(n, flush=True); time.sleep(0.01)", way=f"({script}) | head -1"
    )
    assert (code, messages) == (0, b"141\n")


def test_closed_descriptors_are_not_given_to_files(tmp_path):
    code = f"import os; file = open({str(tmp_path / 'a')!r}, 'w'); os.write(2, b'library') ; print(file.fileno() > 2)"
    assert ended(code, way='exec "$@" 0<&- 2>&-') == (0, b"True\n", b"")
    assert (tmp_path / "a").read_text() == ""


def test_only_colours_and_the_cursor_reach_a_terminal():
    text = "a\x1b[31mred\x1b[0m\x1b[2K\r\n\tb\x1b]0;title\x07 \x9b31m \u202e \x1b]52;c;eA==\x07"
    assert tamed(text) == ("a\x1b[31mred\x1b[0m\x1b[2K\r\n\tb\\x1b]0;title\\x07 \\x9b31m \\u202e \\x1b]52;c;eA==\\x07")
    assert tamed("× Å 蛋白") == "× Å 蛋白"


def test_names_bring_no_colours(capsys):
    say("a\x1b[31mb\nc\td", err=True)
    PlainConsole().print("x\x1b[31my :warning: [bold]z[/bold]")
    table = plain_table("t\x1b[1m", ["h"], [["c\x1b[31m"]])
    PlainConsole().print(table)
    print_rows([("label\x1b[31m", "text\x9b")])
    out, err = capsys.readouterr()
    assert err == "a\\x1b[31mb\nc\td\n"
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert r"x\x1b[31my :warning: [bold]z[/bold]" in out
    assert r"c\x1b[31m" in out
    assert r"t\x1b[1m" in out
    assert r"text\x9b" in out
