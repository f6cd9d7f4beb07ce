"""A profile from someone else: its texts neither act on a terminal nor become markup."""

import json

import pytest
from typer.testing import CliRunner

from compass.cli.app import app
from compass.integrations.slurm import slurm_script
from compass.profile import write_profile
from compass.records import Variant

EVIL = "x\x1b[31m\x1b]0;title\x07\x9b1m\u202e<script>alert(1)</script>[a](javascript:b) `c` :warning: [bold]"
ACTING = "\x1b\x07\x9b\u202e"


@pytest.fixture
def folder(profile, tmp_path, monkeypatch):
    """A folder whose profile has hostile texts wherever a text may stand."""
    monkeypatch.chdir(tmp_path)
    plan = profile.plans["prototyping"]
    changes = {
        "workload": EVIL,
        "hardware": profile.hardware.model_copy(update={"name": EVIL, "driver": EVIL}),
        "plans": {**profile.plans, "prototyping": plan.model_copy(update={"why": EVIL, "follows": EVIL})},
        "failures": {
            stage: one.model_copy(update={"reason": EVIL}) for stage, one in profile.failures.items()
        },
    }  # fmt: skip
    write_profile(profile.model_copy(update=changes), tmp_path / "hardware_profile.json")
    return tmp_path


@pytest.mark.parametrize(
    "args",
    [
        ["show"],
        ["show", "prototyping"],
        ["show", "validation"],
        ["show", "--json"],
        ["show", "--json", "--brief"],
        ["report", "--markdown", "-"],
        ["compare", "hardware_profile.json", "hardware_profile.json"],
        ["explain", "prototyping"],
    ],
    ids=" ".join,
)
def test_nothing_acts_on_a_terminal(folder, args):
    result = CliRunner().invoke(app, args)
    assert result.exit_code in {0, 2}, result.output
    assert not set(ACTING) & set(result.output)


def test_a_comment_of_a_script_stays_one(profile):
    evil = "x\nrm -rf ~ #"
    hardware = profile.hardware.model_copy(update={"name": evil, "kind": "cuda"})
    plan = profile.plans["prototyping"]
    choice = plan.choice.model_copy(
        update={"knobs": plan.choice.knobs.model_copy(update={"variant": Variant(options=((evil, 1),))})}
    )
    text = slurm_script(
        profile.model_copy(update={"hardware": hardware, "plans": {"prototyping": plan.model_copy(update={"choice": choice})}}),
        "prototyping",
    )  # fmt: skip
    assert [line for line in text.splitlines() if line.startswith("rm")] == []
    assert r"x\nrm -rf ~ #" in text


def test_json_keeps_the_text(folder):
    result = CliRunner().invoke(app, ["show", "--json"])
    assert json.loads(result.stdout)["workload"] == EVIL


def test_pages_have_neither_markup_nor_control_characters(folder):
    result = CliRunner().invoke(app, ["report", "--out", "page.html", "--markdown", "page.md"])
    assert result.exit_code == 0, result.output
    page, text = (folder / "page.html").read_text(), (folder / "page.md").read_text()
    for found in (page, text):
        assert not set(ACTING) & set(found)
        assert "<script>alert" not in found
    assert "[a](javascript" not in text.replace("\\[", "")
