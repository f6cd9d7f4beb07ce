"""Commands that Compass suggests: typed as they stand, they ask for the same again."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import compass
from compass.cli.app import app
from compass.commands import Asked, as_flag, as_option, command, optimize_again
from compass.config_files import changed_settings, load_config
from compass.planning.request import Request
from compass.units import parse_bytes

CHANGES = st.lists(
    st.sampled_from(
        [
            'stages.production.precision=["bf16"]',
            "stages.prototyping.target_s=1800",
            'stages.validation.allocator=["fast", "tcmalloc"]',
            "space.options.heads=4",
            "space.layers=[2, 6]",
            "runtime.threads=3",
            "runtime.waiting=sleep",
            "dataset.pocket_radius=null",
            "dataset.path=/data/a folder",
            "dataset.index=/data/it's.lst",
            "test_bench.name=1e10",
            "training.epochs=7",
            "seed=5",
        ]
    ),
    unique_by=lambda change: change.partition("=")[0],
)


@given(
    changes=CHANGES,
    limit_bytes=st.none() | st.integers(2**30, 2**40),
    size=st.none() | st.integers(1, 10**6),
    device=st.sampled_from([None, "cpu", "cuda:1"]),
    workload=st.sampled_from(["visnet", "schnet", "/home/a b/my_model.py:Model"]),
)
def test_the_command_asks_for_the_same_again(monkeypatch_optimize, changes, limit_bytes, size, device, workload):
    asked = Request(
        config=load_config(None, changes), stages=("validation",), workload=workload, device=device,
        memory_limit_bytes=limit_bytes, dataset_size=size, out=Path("other.json"),
    )  # fmt: skip
    text = optimize_again(asked.asked, asked.workload, stages=asked.stages, out=asked.out)
    assert monkeypatch_optimize(shlex.split(text)[1:]) == asked


@pytest.fixture(scope="module")
def monkeypatch_optimize():
    """Runs a command line and returns the request that it would have planned."""
    with pytest.MonkeyPatch.context() as patch:
        seen = []
        patch.setattr("compass.cli.optimize._run", lambda request, _: seen.append(request))
        patch.setattr("compass.cli.optimize._report", lambda *_, **__: None)

        def run(arguments):
            result = CliRunner().invoke(app, arguments)
            assert result.exit_code == 0, result.output
            return seen.pop()

        yield run


def test_defaults_are_left_out():
    assert changed_settings(load_config()) == {}
    assert optimize_again(Asked(), "visnet", out=Path("hardware_profile.json")) == "compass optimize"
    changed = optimize_again(Asked(memory_limit_bytes=2**32), "visnet", changes={"--memory-limit": "6GiB"})
    assert changed == "compass optimize --memory-limit 6GiB"


@given(st.integers(2**20, 2**42))
def test_a_size_is_not_rounded(n_bytes):
    assert parse_bytes(as_flag(n_bytes), where="") == n_bytes


def test_words_are_quoted_for_a_shell():
    assert command("verify", {"--profile": "my plan.json", "--stage": ""}, ["--update"]) == (
        "compass verify --profile 'my plan.json' --update"
    )
    assert as_option(Path("hardware_profile.json")) == as_option(None) == ""
    assert as_option(Path("a/b.json")) == "a/b.json"


def test_the_dataset_from_python(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr("compass.api.optimizing.run", lambda request, **_: seen.append(request))
    compass.optimize(dataset=tmp_path, settings={"seed": 5}, memory_limit="2GiB")
    [request] = seen
    assert (request.config.dataset.path, request.config.seed) == (str(tmp_path), 5)
    assert request.asked.dataset == str(tmp_path)
