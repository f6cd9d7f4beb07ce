"""`compass train` and `compass predict` up to where a run's process takes over."""

import os
import sys

import pytest
from typer.testing import CliRunner

from compass.cli import app
from compass.profile import write_profile
from compass.training import prepare
from compass.training.order import read_order


@pytest.fixture
def start(profile, tmp_path, monkeypatch):
    """`compass train` with these arguments: its result, and what it would have become."""
    became = []
    monkeypatch.setattr(os, "execve", lambda _, command, environment: became.append((command, environment)))
    monkeypatch.setattr(prepare, "check_fresh", lambda wish: wish.profile.fingerprint)
    write_profile(profile, tmp_path / "p.json")

    def run(*arguments):
        given = ["train", "--profile", str(tmp_path / "p.json"), "--out", str(tmp_path / "run"), *arguments]
        return CliRunner().invoke(app, given), became

    return run


def test_the_run_is_a_process_under_the_plans_settings(start, profile, tmp_path):
    result, [(command, environment)] = start("--stage", "prototyping", "--cycles", "2", "--set", "training.epochs=3")
    assert result.exit_code == 0, result.output
    assert command == [sys.executable, "-m", "compass", "train-run", str(tmp_path / "run")]
    assert environment["OMP_NUM_THREADS"] == str(profile.plans["prototyping"].runtime.threads)
    order = read_order(tmp_path / "run")
    assert order.plan == profile.plans["prototyping"]
    assert (order.amount.cycles, order.config.training.epochs, order.batching) == (2, 3, "batch_size")
    assert order.budget_bytes == order.plan.certificate.ceiling_bytes


def test_a_time_is_read(start, tmp_path):
    start("--stage", "prototyping", "--max-time", "1.5h")
    assert read_order(tmp_path / "run").amount.max_time_s == 5400


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "prototype"], "--stage: got 'prototype'; expected one of"),
        (["--stage", "validation"], "stage validation: got a stage that found nothing"),
        (
            ["--stage", "prototyping", "--batching", "all"],
            "--batching: got 'all'; expected batch_size or batch_budget.",
        ),
        (
            ["--stage", "prototyping", "--max-time", "soon"],
            "--max-time: got 'soon'; expected a time above zero such as 90s",
        ),
        (["--stage", "prototyping", "--set", "training.epoch=3"], "training.epoch"),
        (["--stage", "prototyping", "--resume"], "got no run to go on with"),
    ],
)
def test_what_cannot_be_used_is_refused_before_anything_starts(start, arguments, message):
    result, became = start(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())
    assert not became


def test_predict_refuses_what_is_no_checkpoint(tmp_path):
    result = CliRunner().invoke(app, ["predict", str(tmp_path / "x.ckpt"), str(tmp_path)])
    assert result.exit_code == 2
    assert "got no such file; expected a checkpoint of `compass train`" in " ".join(result.output.split())
