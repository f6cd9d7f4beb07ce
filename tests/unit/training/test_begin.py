import logging
import shutil

import pytest
import torch

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.records.training import CYCLES, EPOCHS, RESULTS
from compass.training.begin import RUN_TABLES, begin
from compass.training.checkpoints import Checkpoints, Progressed
from compass.training.prepare import TrainRequest
from compass.training.results import Results
from compass.training.run_spec import Amount, read_run_spec, write_run_spec
from compass.training.verdict import STOPPED, no_verdict


@pytest.fixture
def begun(spec, profile, tmp_path):
    """A folder with a run that has a checkpoint, tables, and what a killed process left; and the request for it."""
    folder = tmp_path / "run"
    write_run_spec(spec, folder)
    Checkpoints(folder / "checkpoints", 2).write(spec, Progressed(n_batches=9), {"w": torch.ones(2)}, {}, [])
    for name in RUN_TABLES:
        (folder / name).write_text("before\n")
    (folder / "tensorboard").mkdir()
    (folder / "checkpoints" / ".batch-000000018.ckpt.1234abcd").write_bytes(b"half")
    (folder / f".{RESULTS}.1234abcd").write_bytes(b"half")

    def make(**changes):
        return TrainRequest(
            profile=profile, stage="prototyping", config=OptimizerConfig(), folder=folder, **changes
        )  # fmt: skip

    return make


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def results(*, finished=True):
    return Results(
        finished=finished, at=Progressed(n_batches=9), cycles=(), evaluations=(), verdict=no_verdict(STOPPED, 9, 500),
        split=0, deferred=0, out_of_memory=0, skipped=(), checkpoint="",
    )  # fmt: skip


def test_resuming_keeps_everything_but_litter(begun, spec):
    request = begun(resume=True)
    assert begin(request, spec.model_copy(update={"resume": True})) is None
    kept = {*RUN_TABLES} - {RESULTS}  # the results are written at the end
    assert files(request.folder) == sorted(["checkpoints/batch-000000009.ckpt", "run.json", *kept])


def test_beginning_anew_deletes_what_the_run_has_written(begun, spec):
    request = begun(restart=True)
    assert begin(request, spec) is None
    assert files(request.folder) == ["run.json"]
    assert not (request.folder / "tensorboard").exists()


def test_only_what_a_run_writes_is_deleted(begun, spec):
    request = begun(restart=True)
    for name in ("csv_1", "csv_exports"):
        (request.folder / name).mkdir()
    begin(request, spec)
    assert not (request.folder / "csv_1").exists()
    assert (request.folder / "csv_exports").exists()


def test_a_folder_without_a_run_is_not_begun_anew(begun, spec):
    request = begun(restart=True)
    (request.folder / "run.json").unlink()
    with pytest.raises(InputError, match=r"got no run to restart; expected the folder of a run\. Leave out --restart"):
        begin(request, spec)


def test_a_start_that_was_killed_early_leaves_nothing_behind(begun, spec):
    request = begun()
    shutil.rmtree(request.folder / "checkpoints")
    begin(request, spec)
    assert files(request.folder) == ["run.json"]


def test_other_ranks_do_not_wait_for_a_run_that_has_ended(begun, spec, monkeypatch):
    request = begun(resume=True)
    (request.folder / RESULTS).write_text(results().model_dump_json())
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert begin(request, spec.model_copy(update={"resume": True})) is None


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew_and_says_so(begun, spec, caplog):
    request = begun(resume=True)
    (request.folder / "checkpoints" / "batch-000000009.ckpt").unlink()
    (request.folder / RESULTS).unlink()
    with caplog.at_level(logging.WARNING):
        begin(request, spec.model_copy(update={"resume": True}))
    assert files(request.folder) == ["run.json"]
    assert "no checkpoint was written yet: the run begins anew" in caplog.text


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_anew_in_silence(begun, spec):
    request = begun(resume=True)
    path = request.folder / "checkpoints" / "batch-000000009.ckpt"
    path.write_bytes(path.read_bytes()[:-9])
    before = files(request.folder)
    with pytest.raises(InputError) as caught:
        begin(request, spec.model_copy(update={"resume": True}))
    assert str(caught.value) == (
        f"checkpoints {request.folder / 'checkpoints'}: got none that can be read; expected at least one to resume from. "
        "Begin the run anew with --restart, which deletes its checkpoints and tables."
    )
    assert files(request.folder) == before


def test_a_run_whose_checkpoints_were_deleted_after_its_end_is_not_begun_anew_in_silence(begun, spec):
    """Its tables and its best model would go."""
    request = begun(resume=True)
    (request.folder / RESULTS).write_text(results().model_dump_json())
    (request.folder / "checkpoints" / "batch-000000009.ckpt").unlink()
    before = files(request.folder)
    with pytest.raises(
        InputError, match=r": got none; expected at least one to resume from\. Begin the run anew with --restart"
    ):
        begin(request, spec.model_copy(update={"resume": True, "amount": Amount(epochs=200)}))
    assert files(request.folder) == before


def test_a_finished_run_is_left_alone_unless_more_is_asked(begun, spec):
    request = begun(resume=True)
    (request.folder / RESULTS).write_text(results().model_dump_json())
    before, settings = files(request.folder), read_run_spec(request.folder)
    again = spec.model_copy(update={"resume": True})
    assert begin(request, again) == results()
    assert (files(request.folder), read_run_spec(request.folder)) == (before, settings)
    more = again.model_copy(update={"amount": Amount(epochs=200)})
    assert begin(request, more) is None
    assert read_run_spec(request.folder).amount == Amount(epochs=200)
    assert begin(request, more) is None, "an extension that was killed is not finished"


@pytest.mark.parametrize("content", [results(finished=False).model_dump_json(), "{", "{}"])
def test_a_run_that_was_stopped_goes_on(begun, spec, content):
    request = begun(resume=True)
    (request.folder / RESULTS).write_text(content)
    assert begin(request, spec.model_copy(update={"resume": True})) is None
    assert (request.folder / CYCLES).exists()
    assert (request.folder / EPOCHS).exists()


def test_a_run_that_began_meanwhile_is_not_overwritten(begun, spec):
    with pytest.raises(InputError, match=r"begin it anew with --restart, or choose another --out\.$"):
        begin(begun(), spec)
