"""A run goes on without the files that it cannot write."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.training.checkpoints import Progressed, _write
from compass.training.going_on import Unwritten, forgive
from compass.training.lost_ranks import RankLost, is_lost

FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_failure_is_warned_of_once_and_forgotten_after_a_success(caplog):
    unwritten = Unwritten()
    for _ in range(3):
        with unwritten.going_on("cycles.csv"):
            raise FULL
    assert unwritten.reasons == {"cycles.csv": "No space left on device"}
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "cycles.csv was not written (No space left on device); the run goes on, and tries again with the next one"
    ]
    with unwritten.going_on("cycles.csv"):
        pass
    assert unwritten.reasons == {}
    with unwritten.going_on("results.json"):
        raise InputError("output x", got="Read-only file system", expected="y", fix="z")
    assert unwritten.reasons == {"results.json": "Read-only file system"}


def test_other_errors_escape():
    with pytest.raises(KeyError), Unwritten().going_on("x"):
        raise KeyError("x")


def test_a_writer_is_forgiven(caplog):
    def fail():
        raise FULL

    writer = SimpleNamespace(write=fail, flush=fail, close=lambda: 7)
    forgive(writer, ("write", "flush", "close"), "the curves of x", set())
    assert (writer.write(), writer.flush(), writer.close()) == (None, None, 7)
    assert [record.message for record in caplog.records] == [
        "the curves of x cannot be written (No space left on device); the run goes on without"
    ]


def test_a_checkpoint_on_a_full_disk_is_an_error_of_the_disk(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(
        torch, "save", lambda *_: (_ for _ in ()).throw(RuntimeError("PytorchStreamWriter failed\nat …"))
    )
    with pytest.raises(OSError, match="PytorchStreamWriter failed") as caught:
        _write({"model": {}}, tmp_path / "a.ckpt")
    assert caught.value.filename == str(tmp_path / "a.ckpt")
    assert list(tmp_path.iterdir()) == []


def run_of(n, *, is_empty=False):
    return SimpleNamespace(
        ranks=SimpleNamespace(n=n, rank=0),
        checkpoints=SimpleNamespace(
            kept=("No checkpoint was written yet. Begin anew", "--restart")
            if is_empty
            else ("Checkpoints are kept. Go on", "--resume")
        ),
        spec=SimpleNamespace(n_devices=n, config=OptimizerConfig()),
        folder=Path("runs/x"),
    )


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[/gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:28552."),
        RuntimeError("[pair.cc:553] Connection reset by peer"),
        RuntimeError("NCCL error in: ProcessGroupNCCL.cpp:2, remote process exited or there was a network error"),
        RuntimeError("[Rank 1] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=4)"),
        ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    ],
)
def test_words_of_a_lost_connection(error):
    assert is_lost(error, run_of(2))
    assert not is_lost(error, run_of(1))
    outer = RuntimeError("backward failed")
    outer.__cause__ = error
    assert is_lost(outer, run_of(2))


def test_other_errors_are_no_lost_connection():
    assert not is_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"), run_of(2))


def test_how_to_go_on(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    start = "process 0 of 2: another process of this run has ended, and it cannot go on alone. "
    assert str(RankLost(run_of(2))) == (
        f"{start}Checkpoints are kept. Go on with `compass train --out runs/x --devices 2 --resume`"
    )
    assert str(RankLost(run_of(2, is_empty=True))) == (
        f"{start}No checkpoint was written yet. Begin anew with `compass train --out runs/x --devices 2 --restart`"
    )
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    assert str(RankLost(run_of(2))) == (
        f"{start}Checkpoints are kept. Go on with `compass train --out runs/x --resume`, started by torchrun as before"
    )


def test_a_run_whose_updates_were_all_left_out_is_an_error():
    from compass.training.run import NothingLearnt

    at = Progressed(n_updates=12, n_left_out=12)
    assert at.n_made == 0
    lower = OptimizerConfig().training.learning_rate / 3
    assert str(NothingLearnt(run_of(1), at)) == (
        "all 12 updates were left out: loss or gradient was not finite. Checkpoints are kept. Go on with a lower learning rate: "
        f"`compass train --out runs/x --resume --allow-changes --set training.learning_rate={lower:.2g}`; "
        "or lower training.clip_norm, or train in fp32"
    )
    [only] = str(NothingLearnt(run_of(1, is_empty=True), Progressed(n_updates=1, n_left_out=1))).splitlines()
    assert only.startswith(
        "the only update was left out: loss or gradient was not finite. No checkpoint was written yet. Begin anew "
    )
    assert "--restart --set" in only
