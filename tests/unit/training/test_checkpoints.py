import random
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from compass.errors import InputError
from compass.training.checkpoints import (
    BEST,
    BrokenWeights,
    Checkpoints,
    Progressed,
    check_split,
    check_unchanged,
    load_weights,
    random_state,
    read_checkpoint,
    run_spec_in,
    set_random_state,
)
from compass.training.run import resume
from compass.training.stream import Position


def write(checkpoints, spec, n_batches):
    progressed = Progressed(position=Position(1, 2), n_batches=n_batches, n_updates=3, best=0.5, waiting=(("a", 0.1),))
    return checkpoints.write(spec, progressed, {"w": torch.arange(3.0)}, {"state": {}}, [random_state("cpu")])


def test_a_checkpoint_is_read_as_written(tmp_path, spec):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    path = write(checkpoints, spec, 7)
    content = read_checkpoint(path)
    assert torch.equal(content["model"]["w"], torch.arange(3.0))
    assert Progressed.model_validate_json(content["progressed"]).position == Position(1, 2)
    assert checkpoints.newest()["progressed"] == content["progressed"]


def test_the_last_few_are_kept(tmp_path, spec):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    for n_batches in (5, 50, 500):
        write(checkpoints, spec, n_batches)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["batch-000000050.ckpt", "batch-000000500.ckpt"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_checkpoint_is_skipped(tmp_path, spec, share, caplog):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    good, bad = write(checkpoints, spec, 5), write(checkpoints, spec, 6)
    bad.write_bytes(bad.read_bytes()[: int(share * bad.stat().st_size)])
    found = Progressed.model_validate_json(checkpoints.newest()["progressed"])
    assert found.n_batches == 5
    assert "using the checkpoint before it" in caplog.text
    good.unlink()
    bad.unlink()
    assert checkpoints.newest() is None


def test_random_states_are_restored():
    state = random_state("cpu")
    drawn = torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    set_random_state(state, "cpu")
    again = torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    assert torch.equal(drawn[0], again[0])
    assert (drawn[1] == again[1]).all()
    assert drawn[2] == again[2]


def test_changed_settings_are_refused(spec):
    rules = spec.config.training.model_copy(update={"learning_rate": 0.1})
    other = spec.model_copy(update={"config": spec.config.model_copy(update={"training": rules, "seed": 5})})
    check_unchanged(spec, spec)
    with pytest.raises(
        InputError, match=r"^--resume: got seed 0 → 5; learning .*; expected the settings that the run began with\. "
    ):
        check_unchanged(spec, other)
    with pytest.raises(
        InputError, match=r"^--resume: got dataset  → other labels; expected the settings that the run began with\. "
    ):
        check_unchanged(spec, spec.model_copy(update={"dataset": "other labels"}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"got no such file; expected a checkpoint of `compass train`\. Check the path\.$"),
        (
            b"nonsense",
            r"got a file that cannot be read \(UnpicklingError\); expected an undamaged checkpoint of `compass train`\. ",
        ),
        ({"model": {}}, r"got a file of another program; expected a checkpoint of `compass train`\. Check the path\.$"),
        ({"format": 9}, r"got format 9; expected at most 3\. Upgrade Compass\.$"),
    ],
)
def test_errors_of_reading_a_checkpoint(tmp_path, content, message):
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)


def test_checkpoints_ahead_of_a_resumed_run_are_deleted(tmp_path, spec):
    """The newest were damaged, so that training resumed from an older one."""
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    for name in ("batch-000000900.ckpt", "batch-000000800.ckpt"):
        (tmp_path / name).write_bytes(b"damaged")
    write(checkpoints, spec, 850)
    assert [path.name for path in tmp_path.iterdir()] == ["batch-000000850.ckpt"]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: check_split("one", "other"),
         "--resume: got another split of the data; expected the split that the run began with. "
         "Restore its lists, clusters or years, or pass --allow-changes."),
        (lambda: run_spec_in({"format": 1, "order": '{"was": 1}', "compass": "0.1"}),
         "checkpoint: got one written by Compass 0.1, whose run settings this version cannot read; expected one of this version. "
         "Use the Compass that wrote it."),
        (lambda: load_weights(torch.nn.Linear(2, 2), {"model": {"w": torch.ones(3)}}),
         "--resume: got the weights of another model; expected weights of the planned model. Start a new run in another --out."),
    ],
)  # fmt: skip
def test_errors_of_resuming(refused, message):
    with pytest.raises(InputError) as caught:
        refused()
    assert str(caught.value) == message


def test_an_older_checkpoint_without_a_split_digest_passes():
    check_split("", "anything")


def test_run_settings_in_a_checkpoint_of_version_0_1_are_read(tmp_path, spec):
    content = read_checkpoint(write(Checkpoints(tmp_path, keep_last=1), spec, 5))
    assert run_spec_in(content) == spec
    content["order"] = content.pop("run_spec")
    assert run_spec_in({**content, "format": 1}) == spec


@pytest.mark.parametrize(
    "content",
    [
        {"format": 2},
        {"format": 2, "model": {}},
        {"format": 1, "model": {}, "run_spec": "{}"},
        {"format": 2, "model": 3, "run_spec": "{}"},
    ],
)
def test_a_checkpoint_without_its_parts_is_refused(tmp_path, content):
    """Formats before the third have no seal: one flipped bit in the name of a part and it is missing."""
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(
        InputError, match="got a file without weights or settings of its run; expected an undamaged checkpoint"
    ):
        read_checkpoint(tmp_path / "x.ckpt")


def test_a_folder_that_is_cleared_has_nothing_left_of_a_run(tmp_path, spec):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    assert checkpoints.is_empty
    checkpoints.write_best(spec, 0.5, {"w": torch.ones(2)})
    assert checkpoints.is_empty  # the best model alone is none to go on from
    write(checkpoints, spec, 7)
    assert not checkpoints.is_empty
    for name in (".batch-000000008.ckpt.0123abcd", ".best.ckpt.0123abcd"):  # of a killed process
        (tmp_path / name).touch()
    (tmp_path / "notes.txt").touch()
    checkpoints.clear()
    checkpoints.clear()  # nothing is left to delete
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert checkpoints.is_empty


def test_what_killed_processes_left_is_swept_and_the_rest_stays(tmp_path, spec):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    path = write(checkpoints, spec, 7)
    (tmp_path / ".batch-000000008.ckpt.0123abcd").touch()
    checkpoints.sweep()
    assert list(tmp_path.iterdir()) == [path]


def test_only_checkpoints_of_a_run_are_taken_for_such(tmp_path, spec):
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    for name in ("batch-last.ckpt", "batch-000000009.ckpt.old"):
        (tmp_path / name).touch()
    assert checkpoints.is_empty
    write(checkpoints, spec, 7)
    assert (tmp_path / "batch-last.ckpt").exists()
    assert Progressed.model_validate_json(checkpoints.newest()["progressed"]).n_batches == 7


def test_a_checkpoint_has_all_that_a_run_goes_on_from(tmp_path, spec):
    path = write(Checkpoints(tmp_path, keep_last=1, buffers=("mask",)), spec, 7)
    content = read_checkpoint(path)
    assert set(content) == {"format", "compass", "run_spec", "progressed", "model", "buffers", "optimizer", "random"}
    assert (content["format"], tuple(content["buffers"]), content["optimizer"]) == (3, ("mask",), {"state": {}})
    assert set(content["random"][0]) >= {"torch", "numpy", "python"}
    assert Progressed.model_validate_json(content["progressed"]).waiting == (("a", 0.1),)


def test_the_best_model_has_its_score(tmp_path, spec):
    Checkpoints(tmp_path, keep_last=1).write_best(spec, 0.25, {"w": torch.ones(2)})
    content = read_checkpoint(tmp_path / "best.ckpt")
    assert content["score"] == 0.25
    assert run_spec_in(content) == spec


@pytest.mark.parametrize("content", [[1], {}, {"model": {}}])
def test_a_file_of_another_program_is_told_from_a_checkpoint(tmp_path, content):
    path = tmp_path / "x.ckpt"
    torch.save(content, path)
    with pytest.raises(InputError, match="got a file of another program"):
        read_checkpoint(path)


def test_the_seal_may_be_missing_from_older_formats_only(tmp_path, spec):
    content = {"model": {"w": torch.ones(1)}, "run_spec": "{}"}
    path = tmp_path / "x.ckpt"
    torch.save({"format": 2, **content}, path)
    assert read_checkpoint(path)["format"] == 2
    torch.save({"format": 3, **content}, path)
    with pytest.raises(InputError, match=r"got a file that is damaged \(its checksum is missing\)"):
        read_checkpoint(path)


def test_whole_numbers_and_tensors_alone_are_judged_as_weights(tmp_path, spec):
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    model = {"steps": torch.tensor(3), "note": "text", "w": torch.ones(2)}
    checkpoints.write(spec, Progressed(n_batches=1), model, {}, [])
    assert checkpoints.newest()["model"]["note"] == "text"
    with pytest.raises(BrokenWeights, match=r"^w is no longer finite, and batch-000000002\.ckpt is not written$"):
        checkpoints.write(spec, Progressed(n_batches=2), {**model, "w": torch.tensor([torch.nan, 1.0])}, {}, [])


def test_a_run_begins_at_nothing():
    assert Progressed().model_dump() == {
        "position": (0, 0), "n_batches": 0, "n_updates": 0, "n_left_out": 0, "n_graphs": 0, "elapsed_s": 0.0, "best": None, "split": "", "waiting": (),
        "epoch_loss": 0.0, "epoch_graphs": 0,
    }  # fmt: skip


def test_the_folder_of_the_checkpoints_is_made(tmp_path, spec):
    folder = tmp_path / "a" / "b"
    Checkpoints(folder, keep_last=1).write_best(spec, 0.5, {"w": torch.ones(2)})
    assert [path.name for path in folder.iterdir()] == ["best.ckpt"]
    assert Checkpoints(tmp_path / "none", keep_last=1).newest() is None


def test_a_best_model_that_is_lost_is_found_anew(spec, tmp_path, caplog, monkeypatch):
    """Else no later epoch would be kept unless it beat the lost one, and the run could not be evaluated at its end."""
    monkeypatch.setattr("compass.training.run._set_position", lambda *_: None)
    model = torch.nn.Linear(2, 1)
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.write(spec, Progressed(n_batches=9, best=0.5), model.state_dict(), {}, [])
    checkpoints.write_best(spec, 0.5, model.state_dict())
    left = SimpleNamespace(training_s=lambda *_: 1.0, evaluation_s=lambda: 1.0)
    callback = SimpleNamespace(display=SimpleNamespace(left=left))
    run = SimpleNamespace(
        checkpoints=checkpoints, spec=spec.model_copy(update={"resume": True}),
        data=SimpleNamespace(split=SimpleNamespace(digest="")), module=SimpleNamespace(model=model),
    )  # fmt: skip
    resume(run, callback)
    assert callback.at.best == 0.5
    for damage in (lambda path: path.write_bytes(path.read_bytes()[:-1]), Path.unlink):
        damage(tmp_path / BEST)
        resume(run, callback)
        assert callback.at.best is None
    assert [line for line in caplog.messages if "best model" in line] == [
        "the best model so far is lost: the best one of the epochs from here on takes its place"
    ] * 2
    assert f"checkpoint {tmp_path / BEST}: got a file that is damaged" in caplog.text


def test_checkpoints_are_called_kept_only_if_there_are_some(spec, tmp_path):
    checkpoints = Checkpoints(tmp_path, 2)
    checkpoints.write_best(spec, 0.5, {"w": torch.ones(2)})
    assert checkpoints.kept == ("No checkpoint was written yet. Begin anew", "--restart")
    checkpoints.write(spec, Progressed(n_batches=9), {"w": torch.ones(2)}, {}, [])
    assert checkpoints.kept == ("Checkpoints are kept. Go on", "--resume")
