import os

import pytest

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.records import RuntimeSettings
from compass.training import run_spec
from compass.training.prepare import TrainRequest, check_folder, prepare, runtime_of
from compass.training.ranks import ranks_of
from compass.training.run_spec import ORDER, await_run_spec, read_run_spec, write_run_spec


def request_of(profile, folder, **changes):
    return TrainRequest(profile=profile, stage="prototyping", config=OptimizerConfig(), folder=folder, **changes)


def test_a_folder_holds_one_run(profile, tmp_path):
    check_folder(request_of(profile, tmp_path))
    with pytest.raises(InputError, match=r"got no run to go on with; expected one that has begun\. Leave out --resume"):
        check_folder(request_of(profile, tmp_path, resume=True))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(InputError, match=r"got one that holds a run; expected a new one\. Go on with it by --resume"):
        check_folder(request_of(profile, tmp_path))
    (tmp_path / ORDER).touch()
    check_folder(request_of(profile, tmp_path, resume=True))


def test_processes_of_one_machine_share_its_threads(profile, tmp_path, monkeypatch):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    plan = profile.plans["prototyping"].model_copy(update={"runtime": RuntimeSettings(threads=8)})
    assert runtime_of(plan, request_of(profile, tmp_path)).threads == 8
    assert runtime_of(plan, request_of(profile, tmp_path, n_devices=3)).threads == 2
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "16")
    assert runtime_of(plan, request_of(profile, tmp_path)).threads == 1


def test_an_order_is_read_as_it_was_written(spec, tmp_path):
    write_run_spec(spec, tmp_path / "run")
    assert read_run_spec(tmp_path / "run") == spec


def test_what_is_no_order_says_so(tmp_path):
    with pytest.raises(
        InputError, match=r"got no order that can be read \(FileNotFoundError\); expected the folder of a run"
    ):
        read_run_spec(tmp_path)


def test_later_processes_wait_for_the_order_of_their_own_start(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(run_spec, "PATIENCE_S", 0.3)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "second")
    monkeypatch.delitem(os.environ, "MASTER_PORT", raising=False)
    write_run_spec(spec.model_copy(update={"started_by": "first"}), tmp_path)
    with pytest.raises(InputError, match=r"got no order; expected one from the first process of this machine"):
        await_run_spec(tmp_path)
    write_run_spec(spec.model_copy(update={"started_by": "second"}), tmp_path)
    assert await_run_spec(tmp_path).started_by == "second"


def test_a_folder_that_cannot_be_made_says_so(spec, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"expected a writable folder\. Choose another --out\.$"):
        write_run_spec(spec, tmp_path / "file" / "run")


def test_a_device_that_lightning_does_not_train_on(profile, tmp_path):
    with pytest.raises(InputError) as caught:
        prepare(request_of(profile, tmp_path, device="xpu:0"))
    assert str(caught.value) == (
        "--device: got xpu:0; expected one of cuda, mps, cpu: Lightning trains on no other device. "
        "Hand the plan to a loop of your own: `compass export`."
    )


def test_processes_that_only_a_batch_system_knows_of(spec, monkeypatch):
    """Each would take itself for the first."""
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    assert ranks_of(spec).n == 1
    with pytest.raises(InputError) as caught:
        ranks_of(spec.model_copy(update={"n_devices": 4}))
    assert str(caught.value) == (
        "--devices: got several processes that srun started; expected one, or several by torchrun. "
        "Give srun one task a node, and have that start `torchrun`."
    )
