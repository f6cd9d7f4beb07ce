"""What holds for every command alike: each property is asked of the whole tree, so that a new command has it too."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from compass.cli.app import app
from compass.cli.options import stages
from compass.doctor.checks import CheckResult
from compass.profile import write_profile
from compass.records import STAGES

NEEDED = {
    "compare": ["a.json"], "demo": ["folder"], "fit": ["visnet"], "predict": ["best.ckpt", "data"], "scan": ["data"],
    "train-run": ["run"], "workload check": ["visnet"],
}  # fmt: skip
"""What a command cannot do without, beside a stage and a profile."""
SECOND_WORD = {"compare"}
"""Commands whose first word is another profile."""


def leaves(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*path, name))
        else:
            yield " ".join((*path, name)), command


COMMANDS = dict(leaves(typer.main.get_command(app)))


def options(command) -> set[str]:
    return {name for param in command.params for name in param.opts if name.startswith("-")}


def arguments(command) -> list[str]:
    return [param.metavar or "" for param in command.params if param.param_type_name == "argument"]


def takes(command, word: str, flag: str) -> bool:
    """Whether `command` has anything to do with `word`, by position or by flag."""
    return flag in options(command) or any(word in name.split("|") for name in arguments(command))


TAKE_STAGES = [name for name, command in COMMANDS.items() if takes(command, "STAGE", "--stage")]
TAKE_PROFILES = [name for name, command in COMMANDS.items() if takes(command, "PROFILE", "--profile")]


@pytest.fixture(autouse=True)
def _workdir(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")


def said(name: str, *args: str) -> tuple[int, str]:
    """(exit code, error) of a command that is refused before it starts."""
    result = CliRunner().invoke(app, [*name.split(), *args], catch_exceptions=False)
    assert result.exit_code, result.stdout
    return result.exit_code, result.stderr


def needed(name: str) -> list[str]:
    return NEEDED.get(name, [])


def test_the_tree_has_what_is_looked_for():
    assert {"optimize", "fleet optimize", "show", "export", "explain", "verify", "train"} == set(TAKE_STAGES)
    assert {"show", "export", "explain", "verify", "train", "report", "doctor", "compare"} <= set(TAKE_PROFILES)
    assert set(COMMANDS) >= set(NEEDED)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_the_same_flags(name):
    assert {"--json", "--verbose", "-v", "--quiet", "-q"} <= options(COMMANDS[name])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_shows_words_and_not_types(name):
    page = CliRunner().invoke(app, [*name.split(), "--help"], catch_exceptions=False).stdout
    assert not {"<bool>", "<path>", "<str>", "<list[str]>"} & set(page.split())
    assert "[[" not in page
    assert ("[tool.compass]" in page) == ("--config" in options(COMMANDS[name]))


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("flags", [["-v", "-q"], ["--json", "true"]])
def test_every_command_refuses_flags_in_the_same_words(name, flags):
    code, error = said(name, *needed(name), *flags)
    assert code == 2
    assert error == {
        "-v": "error: -q: got -v as well; expected one of the two. Leave one out.\n",
        "--json": "error: --json: got the value 'true'; expected no value, because it is a flag. "
                  "Write --json alone, or leave it out.\n",
    }[flags[0]]  # fmt: skip


@pytest.mark.parametrize("name", TAKE_STAGES)
@pytest.mark.parametrize("word", ["prototypin", "production,smoke_tets", "validation,"])
def test_a_stage_is_a_word_or_a_flag(name, word):
    by_flag = [said(name, flag, word) for flag in ("--stage", "--stages")]
    assert by_flag[0] == by_flag[1]
    assert by_flag[0][0] == 2
    assert by_flag[0][1].startswith("error: --stage: got ")
    assert "expected one of smoke_test, prototyping, validation, production" in by_flag[0][1]
    if not word.endswith(","):
        assert said(name, word) == by_flag[0]


@pytest.mark.parametrize("name", TAKE_STAGES)
def test_a_right_stage_is_taken_either_way(name, tmp_path):
    """The command then fails for what it needs beside the stage, or not at all, the same each time."""
    (tmp_path / "hardware_profile.json").write_text("{}")
    settings = ["--config", "none.toml"] if "--config" in options(COMMANDS[name]) else []
    both = [
        said(name, *settings, *args) for args in (["validation"], ["--stage", "validation"], ["--stages", "validation"])
    ]
    assert both[0] == both[1] == both[2]
    assert "unexpected" not in both[0][1]


@pytest.mark.parametrize("name", TAKE_PROFILES)
def test_a_profile_is_a_word_or_a_flag(name, tmp_path, monkeypatch, profile):
    """One that is not there is named in the same words, the default's name is not."""
    write_profile(profile, Path("a.json"))
    words = needed(name)
    stage = ["--stage", "prototyping"] if name == "train" else []
    quick(monkeypatch)
    told = [run(name, *words, *stage, *args) for args in (["none.json"], ["--profile", "none.json"])]
    assert told[0] == told[1]
    assert "none.json" in told[0][1]
    assert run(name, *words, *stage, "a.json", "--profile", "none.json") == (
        2, "error: PROFILE: got a.json and none.json; expected one profile"
           f"{', and stages named ' + ', '.join(STAGES) if name in TAKE_STAGES else ''}. Name one file.\n",
    )  # fmt: skip


def run(name: str, *args: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, [*name.split(), *args], catch_exceptions=False)
    return result.exit_code, result.stdout + result.stderr


def quick(monkeypatch):
    """`doctor` only names the profile."""
    monkeypatch.setattr(
        "compass.doctor.examination.examine",
        lambda asked, _others: (CheckResult("profile", "ok", str(asked.profile)),),
    )


@pytest.mark.parametrize("name", ["demo", "config", "schema", "export", "show", "explain", "compare"])
def test_json_is_json_and_nothing_else(name, profile):
    write_profile(profile, Path("hardware_profile.json"))
    write_profile(profile, Path("a.json"))
    stage = ["prototyping"] if name in TAKE_STAGES else []
    result = CliRunner().invoke(app, [name, *needed(name), *stage, "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)


def test_settings_as_json_load_back():
    first = CliRunner().invoke(app, ["config", "--set", "seed=7", "--json"], catch_exceptions=False).stdout
    Path("mine.json").write_text(first)
    assert (
        CliRunner().invoke(app, ["config", "--config", "mine.json", "--json"], catch_exceptions=False).stdout == first
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["config", "--json", "--out", "c.py"], "--json: got --out as well; expected one of the two. Leave one out."),
        (["export", "--json", "--format", "env"], "--json: got format env; expected json. Leave out one of --json and --format."),
        (["optimize", "pdbbind/"], "STAGE: got 'pdbbind'; expected one of smoke_test, prototyping, validation, production. "
                                   "A dataset is named by --dataset pdbbind, a profile to write by --out."),
    ],
)  # fmt: skip
def test_what_does_not_go_together(args, message):
    assert said(args[0], *args[1:]) == (2, f"error: {message}\n")


def test_a_shell_completes_stages():
    assert stages("pro") == ["prototyping", "production"]
    assert stages("") == list(STAGES)
    for name in TAKE_STAGES:
        for param in COMMANDS[name].params:
            if "STAGE" in (param.metavar or "").replace(",", "|").split("|"):
                context = COMMANDS[name].make_context(name, needed(name), resilient_parsing=True)
                assert [found.value for found in param.shell_complete(context, "smo")] == ["smoke_test"]


def test_no_function_of_a_command_is_left_without_help():
    for name, command in COMMANDS.items():
        assert inspect.getdoc(command.callback), name
        assert all(param.help for param in command.params), name


WRONG = {
    "--memory-limit": ("6", "error: --memory-limit: got '6', which would be bytes; "),
    "--dataset-size": ("19kk", "error: --dataset-size: got '19kk'; expected a whole number above zero, such as 19000 or 19k. "),
    "--set": ("stages.prototyping.target=1", "error: --set stages.prototyping.target: got the unknown key 'target'; expected a setting "
              "of Compass. Did you mean target_s?"),
    "--config": ("none.toml", "error: config none.toml: got No such file or directory; expected a file that can be read. "),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "flag"), [(name, flag) for name, one in COMMANDS.items() for flag in WRONG if flag in options(one)]
)
def test_a_wrong_value_is_refused_in_the_same_words_everywhere(name, flag, profile):
    write_profile(profile, Path("hardware_profile.json"))
    value, message = WRONG[flag]
    more = {"estimate": ["--layers", "2", "--channels", "32"], "train": ["prototyping"]}.get(name, [])
    more += ["--trust"] if "--trust" in options(COMMANDS[name]) else []
    code, error = said(name, *needed(name), *more, flag, value)
    assert (code, error[: len(message)]) == (2, message)
