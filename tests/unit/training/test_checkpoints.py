import random

import numpy as np
import pytest
import torch

from compass.errors import InputError
from compass.training.checkpoints import (
    Checkpoints,
    Progressed,
    check_split,
    check_unchanged,
    random_state,
    read_checkpoint,
    run_spec_in,
    set_random_state,
    take_weights,
)
from compass.training.stream import Position


def write(checkpoints, spec, n_batches):
    progressed = Progressed(position=Position(1, 2), n_batches=n_batches, n_updates=3, best=0.5, waiting=(("a", 0.1),))
    return checkpoints.write(spec, progressed, {"w": torch.arange(3.0)}, {"state": {}}, [random_state("cpu")])


def test_what_is_written_is_read(tmp_path, spec):
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
def test_one_that_was_cut_gives_way_to_the_one_before(tmp_path, spec, share, caplog):
    checkpoints = Checkpoints(tmp_path, keep_last=2)
    good, bad = write(checkpoints, spec, 5), write(checkpoints, spec, 6)
    bad.write_bytes(bad.read_bytes()[: int(share * bad.stat().st_size)])
    found = Progressed.model_validate_json(checkpoints.newest()["progressed"])
    assert found.n_batches == 5
    assert "the one before is taken" in caplog.text
    good.unlink()
    bad.unlink()
    assert checkpoints.newest() is None


def test_random_states_come_back():
    state = random_state("cpu")
    drawn = torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    set_random_state(state, "cpu")
    again = torch.rand(3), np.random.rand(3), random.random()  # noqa: NPY002
    assert torch.equal(drawn[0], again[0])
    assert (drawn[1] == again[1]).all()
    assert drawn[2] == again[2]


def test_another_run_is_not_gone_on_with(spec):
    rules = spec.config.training.model_copy(update={"learning_rate": 0.1})
    other = spec.model_copy(update={"config": spec.config.model_copy(update={"training": rules, "seed": 5})})
    check_unchanged(spec, spec)
    with pytest.raises(InputError, match=r"^--resume: got seed 0 → 5; learning .*; expected the run as it was\. "):
        check_unchanged(spec, other)
    with pytest.raises(InputError, match=r"^--resume: got dataset  → other labels; expected the run as it was\. "):
        check_unchanged(spec, spec.model_copy(update={"dataset": "other labels"}))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"got no such file; expected a checkpoint of `compass train`\. Check the path\.$"),
        (
            b"nonsense",
            r"got a file that cannot be read \(UnpicklingError\); expected a whole checkpoint of `compass train`\. ",
        ),
        ({"model": {}}, r"got another program's; expected a checkpoint of `compass train`\. Check the path\.$"),
        ({"format": 9}, r"got format 9; expected at most 1\. Upgrade Compass\.$"),
    ],
)
def test_what_is_no_checkpoint_says_so(tmp_path, content, message):
    path = tmp_path / "x.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(InputError, match=message):
        read_checkpoint(path)


def test_a_future_that_was_given_up_does_not_push_out_what_is_written_now(tmp_path, spec):
    """The newest were damaged, and training went on from an older one."""
    checkpoints = Checkpoints(tmp_path, keep_last=1)
    for name in ("batch-000000900.ckpt", "batch-000000800.ckpt"):
        (tmp_path / name).write_bytes(b"damaged")
    write(checkpoints, spec, 850)
    assert [path.name for path in tmp_path.iterdir()] == ["batch-000000850.ckpt"]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: check_split("one", "other"),
         "--resume: got another split of the data; expected the run as it was. "
         "Put its lists, clusters or years back, or allow it with --allow-changes."),
        (lambda: run_spec_in({"order": '{"was": 1}', "compass": "0.1"}),
         "checkpoint: got the order of a run by Compass 0.1; expected one of this version. Use the Compass that wrote it."),
        (lambda: take_weights(torch.nn.Linear(2, 2), {"model": {"w": torch.ones(3)}}),
         "--resume: got the weights of another model; expected those of this plan's. Start a new run."),
    ],
)  # fmt: skip
def test_what_cannot_go_on_says_why(refused, message):
    with pytest.raises(InputError) as caught:
        refused()
    assert str(caught.value) == message


def test_an_older_checkpoint_does_not_tell_its_split():
    check_split("", "anything")
