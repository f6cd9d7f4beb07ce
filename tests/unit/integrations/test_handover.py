import errno
import json
import os
import shlex
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import compass
from compass.api.arguments import config_of, source_of
from compass.cli.app import app
from compass.errors import InputError
from compass.integrations.formats import as_env, as_hydra, as_json, as_yaml
from compass.integrations.settings import settings_of, trainer_settings
from compass.optimizer import Request
from compass.optimizer_config import OptimizerConfig
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.profile import write_profile
from compass.training.schedule import learning_rate


class AtTheTop:
    """Something that a worker can import."""


# ----------------------------------------------------------------------------------------------------------- settings


def test_settings_say_what_the_plan_is(profile):
    settings = settings_of(profile, "prototyping")
    assert settings["model"] == {"layers": 6, "channels": 128, "heads": 8, "lmax": 1, "checkpointing": False}
    assert (settings["batch_size"], settings["accumulate"], settings["precision"]) == (32, 2, "fp32")
    assert settings["trainer"] == trainer_settings(profile, "prototyping") == {
        "accelerator": "cpu", "devices": 1, "precision": "32-true", "accumulate_grad_batches": 2,
        "gradient_clip_val": profile.config.training.clip_norm,
    }  # fmt: skip
    assert settings["batching"] == "batch_size"
    plans = {"prototyping": profile.plans["prototyping"].model_copy(update={"accumulate": 8})}
    more = settings_of(profile.model_copy(update={"plans": plans}), "prototyping")
    assert more["learning_rate"] == learning_rate(256, profile.config.training) == 2 * settings["learning_rate"]
    assert settings["environment"]["OMP_NUM_THREADS"] == "2"
    assert "PYTHONUNBUFFERED" not in settings["environment"]


# ------------------------------------------------------------------------------------------------------------ formats

scalars = st.one_of(
    st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp")), max_size=12),
)  # fmt: skip
trees = st.recursive(
    scalars, lambda inner: st.dictionaries(st.from_regex(r"[a-z][a-z_]{1,6}x", fullmatch=True), inner), max_leaves=8
)
groups = st.dictionaries(st.from_regex(r"[a-z][a-z_]{1,6}x", fullmatch=True), trees, max_size=5)


@given(groups)
def test_what_is_written_is_read_back(settings):
    assert json.loads(as_json(settings)) == settings
    assert (yaml.safe_load(as_yaml(settings)) or {}) == settings
    assert (yaml.safe_load(as_hydra(settings)) or {}) == settings


def test_a_hydra_group_has_its_package():
    assert as_hydra({"batch_size": 3}) == "# @package compass\nbatch_size: 3\n"


def test_a_shell_reads_the_variables(profile):
    text = as_env(
        {"batch_size": 3, "model": {"rbf-x": "a 'b' $c"}, "fast": True, "environment": {"OMP_NUM_THREADS": "2"}}
    )
    assert text == (
        "unset COMPASS_BATCH_BUDGET_BYTES COMPASS_EPOCH_S COMPASS_TRAINING_S OMP_WAIT_POLICY MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ GLIBC_TUNABLES "
        "PYTORCH_ALLOC_CONF PYTORCH_CUDA_ALLOC_CONF\n"
        "export COMPASS_BATCH_SIZE=3\n"
        f"export COMPASS_MODEL_RBF_X={shlex.quote(chr(97) + ' ' + chr(39) + 'b' + chr(39) + ' $c')}\n"
        "export COMPASS_FAST=true\nexport OMP_NUM_THREADS=2\n"
    )
    if sys.platform != "win32":
        told = subprocess.run(
            ["sh", "-c", f'{text}echo "$COMPASS_MODEL_RBF_X"'], capture_output=True, text=True, check=True
        )
        assert told.stdout == "a 'b' $c\n"


@pytest.mark.parametrize("form", ["json", "yaml", "env", "hydra"])
def test_compass_export(profile, tmp_path, form):
    path, out = tmp_path / "profile.json", tmp_path / "settings"
    write_profile(profile, path)
    shown = CliRunner().invoke(app, ["export", str(path), "--stage", "prototyping", "--format", form])
    assert shown.exit_code == 0, shown.output
    assert (
        CliRunner()
        .invoke(app, ["export", str(path), "--stage", "prototyping", "--format", form, "--out", str(out)])
        .exit_code
        == 0
    )
    assert out.read_text() == shown.stdout
    assert "32" in shown.stdout


def test_what_another_plan_left_is_unset():
    text = as_env({"environment": {"OMP_WAIT_POLICY": "passive", "MALLOC_MMAP_THRESHOLD_": "65536"}})
    told = subprocess.run(
        ["sh", "-c", f'{text}echo "$OMP_WAIT_POLICY $MALLOC_MMAP_THRESHOLD_ $GLIBC_TUNABLES."'],
        capture_output=True, text=True, check=True, env={"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PATH": os.environ["PATH"]},
    )  # fmt: skip
    assert told.stdout == "passive 65536 .\n"


def test_compass_export_to_a_file_that_cannot_be_written(profile, tmp_path, monkeypatch):
    write_profile(profile, tmp_path / "profile.json")
    monkeypatch.setattr(os, "fsync", no_room)
    shown = CliRunner().invoke(
        app, ["export", str(tmp_path / "profile.json"), "--stage", "prototyping", "--out", str(tmp_path / "s")]
    )
    assert (shown.exit_code, shown.stderr) == (2, f"error: output {tmp_path / 's'}: got No space left on device; "
                                                  "expected a file in a writable folder. Choose another --out.\n")  # fmt: skip


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_compass_export_of_an_unknown_format():
    shown = CliRunner().invoke(app, ["export", "--format", "xml"])
    assert shown.exit_code == 2
    assert (
        shown.stderr.strip()
        == "error: --format: got 'xml'; expected one of json, yaml, env, hydra, slurm, torchrun. Name one of these."
    )


# ------------------------------------------------------------------------------------------------------------- calls


def test_a_class_is_found_by_its_file():
    assert source_of("visnet") == "visnet"
    assert source_of(AtTheTop) == f"{__file__}:AtTheTop"


def test_a_class_within_a_function_cannot_be_found():
    class Inside:
        pass

    with pytest.raises(InputError) as caught:
        source_of(Inside)
    assert str(caught.value) == (
        f"workload: got {Inside!r}; expected a class or function at the top of a file. "
        "Move it to a file of its own: a worker process imports it from there."
    )
    with pytest.raises(InputError, match=r"^workload: got <class 'int'>; expected a class"):
        source_of(int)


def test_settings_change_what_is_given(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("seed = 3\n[space]\nlayers = [3, 5]\n")
    for config in (file, str(file), OptimizerConfig(seed=3).model_copy(update={"space": config_of(file, {}).space})):
        found = config_of(config, {"space.channels": (32, 64)})
        assert (found.seed, found.space.layers, found.space.channels) == (3, (3, 5), (32, 64))
    with pytest.raises(InputError, match=r"^settings\['space.chanels'\]: got the unknown key"):
        config_of(None, {"space.chanels": 3})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stages": "prod"}, "stages: got 'prod'; expected one or more of smoke_test, prototyping, validation, production. Name them so."),
        ({"stages": ["smoke"]}, "stages: got ['smoke']; expected one or more of smoke_test, prototyping, validation, production. Name them so."),
        ({"stages": ()}, "stages: got (); expected one or more of smoke_test, prototyping, validation, production. Name them so."),
        ({"dataset_size": 0}, "dataset_size: got 0; expected a whole number above zero. Give the number of samples you train on."),
    ],
)  # fmt: skip
def test_what_a_call_refuses(given, message):
    with pytest.raises(InputError) as caught:
        compass.optimize("visnet", **given)
    assert str(caught.value) == message


def test_a_stage_by_its_name_alone(monkeypatch):
    asked = []
    monkeypatch.setattr("compass.api.optimizing.run", lambda request, **_: asked.append(request))
    compass.optimize("visnet", stages="production")
    assert asked[0].stages == ("production",)


@pytest.mark.slow
def test_optimizing_another_machine(tmp_path):
    runner = SimulatedRunner(machine_named("RTX 3060 Laptop 6GB"))
    out = tmp_path / "profile.json"
    given = {"stages": ("smoke_test",), "dataset_size": 5_000, "memory_limit": "4GiB", "out": out}
    profile = compass.optimize("visnet", settings={"stages.prototyping.checkpointing": [False]}, runner=runner, **given)
    assert compass.load_profile(out) == profile
    assert (set(profile.plans), profile.dataset_size) == ({"smoke_test"}, 5_000)
    assert compass.optimize(Request(stages=("smoke_test",), out=out), runner=runner).plans.keys() == {"smoke_test"}
