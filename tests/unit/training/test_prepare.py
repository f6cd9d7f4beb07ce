import os

import pytest

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.records import RuntimeSettings
from compass.records.training import RUN_SPEC, RUN_SPECS
from compass.training import run_spec
from compass.training.prepare import TrainRequest, check_folder, prepare, runtime_of
from compass.training.ranks import ranks_of
from compass.training.run_spec import await_run_spec, read_run_spec, write_run_spec


def request_of(profile, folder, **changes):
    return TrainRequest(profile=profile, stage="prototyping", config=OptimizerConfig(), folder=folder, **changes)


def test_a_folder_holds_one_run(profile, tmp_path):
    check_folder(request_of(profile, tmp_path))
    with pytest.raises(InputError, match=r"got no run to resume; expected the folder of a run\. Leave out --resume"):
        check_folder(request_of(profile, tmp_path, resume=True))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(
        InputError, match=r"got one that holds a run; expected a new one\. Continue that run with --resume, begin"
    ):
        check_folder(request_of(profile, tmp_path))
    (tmp_path / RUN_SPEC).touch()
    check_folder(request_of(profile, tmp_path, resume=True))


def test_processes_of_one_machine_share_its_threads(profile, tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    plan = profile.plans["prototyping"].model_copy(update={"runtime": RuntimeSettings(threads=8)})
    assert runtime_of(plan, request_of(profile, tmp_path)).threads == 8
    assert runtime_of(plan, request_of(profile, tmp_path, n_devices=3)).threads == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert runtime_of(plan, request_of(profile, tmp_path)).threads == 1


def test_run_settings_are_read_as_written(spec, tmp_path):
    write_run_spec(spec, tmp_path / "run")
    assert read_run_spec(tmp_path / "run") == spec


def test_errors_of_reading_run_settings(tmp_path):
    with pytest.raises(InputError, match=r"got no run\.json; expected the folder of a run\. Check the path\.$"):
        read_run_spec(tmp_path)
    (tmp_path / RUN_SPECS[1]).write_text('{"was": 1}')
    with pytest.raises(InputError) as caught:
        read_run_spec(tmp_path)
    assert str(caught.value) == (
        f"run folder {tmp_path}: got order.json, which cannot be read (ValidationError); expected the settings of a run by this "
        "version of Compass. Start a new run in another --out, or resume with --allow-changes."
    )


def test_settings_of_version_0_1_are_found_under_their_old_name(spec, profile, tmp_path):
    write_run_spec(spec, tmp_path).rename(tmp_path / RUN_SPECS[1])
    assert read_run_spec(tmp_path) == spec
    check_folder(request_of(profile, tmp_path, resume=True))


def test_later_processes_wait_for_the_settings_of_their_own_start(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(run_spec, "SPEC_PATIENCE_S", 0.3)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "second")
    monkeypatch.delitem(os.environ, "MASTER_PORT", raising=False)
    write_run_spec(spec.model_copy(update={"started_by": "first"}), tmp_path)
    with pytest.raises(InputError, match=r"got no run\.json; expected one from the first process on this machine"):
        await_run_spec(tmp_path)
    write_run_spec(spec.model_copy(update={"started_by": "second"}), tmp_path)
    assert await_run_spec(tmp_path).started_by == "second"


def test_a_folder_that_cannot_be_created(spec, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"expected a writable folder\. Choose another --out\.$"):
        write_run_spec(spec, tmp_path / "file" / "run")


def test_a_device_that_lightning_does_not_support(profile, tmp_path):
    with pytest.raises(InputError) as caught:
        prepare(request_of(profile, tmp_path, device="xpu:0"))
    assert str(caught.value) == (
        "--device: got xpu:0; expected one of cuda, mps, cpu, which Lightning supports. "
        "Use the plan in your own training loop: `compass export`."
    )


def test_processes_started_by_srun_without_torchrun(spec, monkeypatch):
    """Each would take itself to be the first rank."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert ranks_of(spec).n == 1
    with pytest.raises(InputError) as caught:
        ranks_of(spec.model_copy(update={"n_devices": 4}))
    assert str(caught.value) == (
        "--devices: got several processes started by srun; expected one, or several started by torchrun. "
        "Let srun start one task per node, which starts `torchrun`."
    )
