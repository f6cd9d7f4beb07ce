import re
import shlex

import pytest
import typer
from typer.testing import CliRunner

from compass.cli.app import CLI_COMMANDS, app
from compass.cli.examples import EXAMPLES
from compass.cli.fleet import FLEET_COMMANDS
from compass.cli.options import FAMILY_NAMES, STAGES_TEXT
from compass.errors import InputError
from compass.optimizer import Request
from compass.records import STAGES
from compass.workloads import registry


@pytest.fixture(autouse=True)
def _workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def helped(*args: str) -> str:
    result = CliRunner().invoke(app, [*args, "--help"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_what_help_names_without_loading_it_is_what_there_is():
    assert ", ".join(STAGES) == STAGES_TEXT
    assert set(FAMILY_NAMES) == set(registry.FAMILIES)
    assert FAMILY_NAMES[0] == Request.workload


def test_the_first_page_names_stages_and_families():
    page = " ".join(helped().split())
    assert all(name in page for name in (*STAGES, *FAMILY_NAMES))


@pytest.mark.parametrize("command", EXAMPLES)
def test_every_command_has_examples_and_both_flags(command):
    page = helped(*command.split())
    for example in EXAMPLES[command]:
        assert example in page
    assert all(flag in page for flag in ("--verbose", "--quiet", "-v", "-q"))
    assert "<bool>" not in page


def test_no_command_is_without_examples():
    of_fleet = {f"fleet {name}" for name in FLEET_COMMANDS}
    assert {*CLI_COMMANDS, "workload check", *of_fleet} == set(EXAMPLES)


def commands_of(example: str) -> list[list[str]]:
    """The arguments of each `compass …` in a line for a shell."""
    return [shlex.split(part) for part in re.findall(r"compass ([^)\"]+)", example)]


@pytest.mark.parametrize("example", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_can_be_parsed(example):
    group = typer.main.get_command(app)
    assert commands_of(example)
    for args in commands_of(example):
        context = group.make_context("compass", args)
        name, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        if hasattr(command, "resolve_command"):
            context = command.make_context(name, rest, parent=context)
            name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        assert command.make_context(name, rest, parent=context).params


def test_more_and_less_is_told(monkeypatch):
    told = []
    monkeypatch.setattr("compass.cli.optimize._report", lambda *_, **__: None)

    def optimize(request, *, watch):
        import logging

        log = logging.getLogger("compass.optimizer")
        log.debug("a probe")
        log.info("a stage")
        log.warning("a doubt")
        told.append(request)

    monkeypatch.setattr("compass.optimizer.optimize", optimize)
    said = {
        flag: CliRunner().invoke(app, ["optimize", *([flag] if flag else [])], catch_exceptions=False).stderr
        for flag in ("", "-v", "-q")
    }
    assert [line.split()[-1] for line in said[""].splitlines()] == ["stage", "doubt"]
    assert [line.split()[-1] for line in said["-v"].splitlines()] == ["probe", "stage", "doubt"]
    assert [line.split()[-1] for line in said["-q"].splitlines()] == ["doubt"]


def test_more_and_less_at_once():
    result = CliRunner().invoke(app, ["schema", "-v", "-q"], catch_exceptions=False)
    assert (result.exit_code, result.stderr) == (
        2,
        "error: -q: got -v as well; expected one of the two. Leave one out.\n",
    )


def test_a_projects_settings_are_used_and_named(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.compass]\nseed = 5\n")
    result = CliRunner().invoke(app, ["config"], catch_exceptions=False)
    assert "seed=5," in result.stdout
    assert result.stderr == f"settings from [tool.compass] in {tmp_path / 'pyproject.toml'}\n"
    quiet = CliRunner().invoke(app, ["config", "-q"], catch_exceptions=False)
    assert (quiet.stdout, quiet.stderr) == (result.stdout, "")
    (tmp_path / "mine.toml").write_text("seed = 6")
    named = CliRunner().invoke(app, ["config", "--config", "mine.toml"], catch_exceptions=False)
    assert "seed=6," in named.stdout
    assert named.stderr == ""


def test_an_unknown_key_of_a_project_names_the_file(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[tool.compass]\nsed = 5\n")
    result = CliRunner().invoke(app, ["config"])
    assert result.exit_code == 2
    assert f"config {tmp_path / 'pyproject.toml'}: sed: got the unknown key 'sed'" in result.stderr
    assert not isinstance(result.exception, InputError)
