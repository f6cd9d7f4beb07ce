"""Real training runs of small models on real crops, in processes like those of a user."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch

from benchmarks.faults.tiny_plan import FINGERPRINT, tiny_plan
from benchmarks.real_crops import write_crops
from compass.config_files import load_config
from compass.data.scan.scan import scan_source
from compass.records import Affine, RankShare
from compass.training.checkpoints import Checkpoints, Progressed, not_finite, read_checkpoint
from compass.training.prepare import process_environment
from compass.training.results import Results
from compass.training.run_spec import Amount, RunSpec, read_run_spec, write_run_spec
from compass.units import GIB, MIB

N_CROPS = 12


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Small real pockets around residues that are taken as ligands."""
    return write_crops(tmp_path_factory.mktemp("crops"), np.linspace(3.0, 6.0, N_CROPS))


@pytest.fixture(scope="module")
def catalogue(manifest, tmp_path_factory):
    """The catalogue of the crops."""
    return scan_source(manifest, load_config(), tmp_path_factory.mktemp("cache"), workers=1)


@pytest.fixture
def make_spec(catalogue):
    """Makes the settings of a run of a small model on the crops."""

    def make(*changes, batch_size=3, shape=(2, 16), budget_bytes=2 * GIB, **fields):
        config = load_config(
            None,
            [f"dataset.catalogue={catalogue}", "dataset.oversize_share=0", "batch.effective_batch=6", "cycle_batches=10",
             "training.checkpoint_s=0.0001", *changes],
        )  # fmt: skip
        plan = tiny_plan(batch_size=batch_size, shape=shape, budget_bytes=budget_bytes)
        return RunSpec(
            plan=plan, workload="visnet", config=config, fingerprint=FINGERPRINT, budget_bytes=budget_bytes,
            batching="batch_size", device="cpu", **{"amount": Amount(epochs=4), **fields},
        )  # fmt: skip

    return make


def start(spec, folder, *, prefix=(), **settings):
    """Starts the process of a run."""
    write_run_spec(spec, folder)
    environment = process_environment(spec) | {"PYTHONPATH": os.getcwd()}  # noqa: PTH109
    command = [*(prefix or [sys.executable]), "-m", "compass", "train-run", str(folder), "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **pipes, **settings)


def finish(process, code=0):
    """Waits for the process and returns its results."""
    out, err = process.communicate(timeout=240)
    assert process.returncode == code, err[-3000:]
    return Results.model_validate_json(out)


def weights(folder):
    return Checkpoints(folder / "checkpoints", 2).newest()["model"]


def wait_for_batches(folder, n_batches):
    """Until a checkpoint has so many batches behind it."""
    until = time.monotonic() + 120
    while time.monotonic() < until:
        found = sorted((folder / "checkpoints").glob("batch-*.ckpt"))
        if found and int(found[-1].stem.removeprefix("batch-")) >= n_batches:
            return
        time.sleep(0.005)
    raise AssertionError("no checkpoint came")


def test_a_run_leaves_what_it_promises(make_spec, manifest, tmp_path):
    spec = make_spec("dataset.index=INDEX")  # of the training set: predicting looks for none beside a manifest
    results = finish(start(spec, tmp_path))
    assert results.finished
    assert results.at.n_batches == 4 * 4  # of ten complexes to train on, three a batch
    assert {(found.part, found.of) for found in results.evaluations} == {
        (part, of) for part in ("train", "val", "test") for of in ("model", "mean baseline", "ligand baseline")
    }
    assert [cycle.n_batches for cycle in results.cycles] == [10, 6]
    assert all(0 < cycle.peak_bytes <= 2 * GIB and cycle.measured_s > 0 for cycle in results.cycles)
    assert results.verdict.n_updates == 8
    assert results.verdict.says.startswith("no verdict: the test set has ")
    assert len((tmp_path / "predictions.csv").read_text().splitlines()) == 1 + N_CROPS
    assert " INFO    expected: " in (tmp_path / "training.log").read_text()
    assert " WARNING only 8 weight updates in all, " in (tmp_path / "training.log").read_text()
    assert {"run.json", "results.json", "cycles.csv", "epochs.csv", "training.log", "tensorboard"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert len((tmp_path / "cycles.csv").read_text().splitlines()) == 3
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert read_checkpoint(best)["score"] == results.at.best
    check_prediction(best, manifest, results)


def check_prediction(checkpoint, manifest, results):
    """What the best model says of all complexes agrees with what the run said of its parts."""
    command = [sys.executable, "-m", "compass", "predict", str(checkpoint), str(manifest), "--json"]
    answer = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert len(answer["rows"]) == N_CROPS
    squares = [
        found.metrics.n * found.metrics.rmse**2
        for found in results.evaluations
        if found.of == "model" and found.metrics.n
    ]
    assert answer["evaluation"]["metrics"]["rmse"] == pytest.approx((sum(squares) / N_CROPS) ** 0.5, rel=1e-4)


def test_eight_complexes_are_learnt_by_heart(make_spec, tmp_path):
    spec = make_spec(
        "training.split.val_share=0", "training.split.test_share=0.3", "training.learning_rate=0.01", "batch.effective_batch=8",
        "training.checkpoint_s=1000", batch_size=8, amount=Amount(epochs=150),
    )  # fmt: skip
    results = finish(start(spec, tmp_path))
    [found] = [item for item in results.evaluations if (item.part, item.of) == ("train", "model")]
    assert found.metrics.n == 8
    assert found.metrics.rmse < 0.2


def test_killed_and_resumed_it_ends_with_the_same_weights(make_spec, tmp_path):
    """In the middle of an epoch, three times, as hard as a process can be killed."""
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    spec = make_spec("training.dropout=0.1", amount=Amount(epochs=8))
    finish(start(spec, straight))
    for n_batches in (2, 10, 18):
        process = start(spec.model_copy(update={"resume": True}), broken)
        wait_for_batches(broken, n_batches)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    results = finish(start(spec.model_copy(update={"resume": True}), broken))
    assert results.finished
    ends = weights(straight), weights(broken)
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("loader_workers", [0, 2])
def test_asked_to_stop_it_saves_and_says_so(make_spec, tmp_path, loader_workers):
    """With all its processes: a terminal and a batch system signal the whole group."""
    spec = make_spec("training.checkpoint_s=1000", amount=Amount(epochs=5000), loader_workers=loader_workers)
    process = start(spec, tmp_path, start_new_session=True)
    until = time.monotonic() + 120
    while "expected:" not in (tmp_path / "training.log").read_text() if (tmp_path / "training.log").exists() else True:
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(2)
    os.killpg(process.pid, signal.SIGUSR1)
    wait_for_batches(tmp_path, 1)
    os.killpg(process.pid, signal.SIGTERM)
    results = finish(process, code=128 + signal.SIGTERM)
    assert not results.finished
    saved = Progressed.model_validate_json(Checkpoints(tmp_path / "checkpoints", 2).newest()["progressed"])
    assert saved.n_batches == results.at.n_batches
    assert saved.n_batches % 2 == 0  # between two updates


def test_a_time_that_is_up_at_the_end_of_a_cycle_and_an_epoch_ends_both_once(make_spec, tmp_path):
    """Every epoch is a batch here, and every cycle."""
    spec = make_spec("cycle_batches=1", batch_size=10, amount=Amount(epochs=10_000, max_time_s=3.0))
    results = finish(start(spec, tmp_path))
    assert results.finished
    assert 0 < results.at.n_batches == len(results.cycles) < 10_000
    epochs = [line.partition(",")[0] for line in (tmp_path / "epochs.csv").read_text().splitlines()[1:]]
    assert len(set(epochs)) == len(epochs) == results.at.n_batches


def test_out_of_memory_under_the_ceiling_is_survived(make_spec, tmp_path):
    """The law knows nothing, so that the guard lets everything pass; the system does not."""
    wanted = {"batch_size": 10, "shape": (4, 80), "amount": Amount(epochs=2)}
    peak_bytes = finish(start(make_spec(**wanted), tmp_path / "free")).cycles[0].peak_bytes
    # Halves of the batch take 100 MiB less than the whole, and single complexes 200 MiB less.
    results = finish(start(make_spec(**wanted, budget_bytes=peak_bytes - 50 * MIB), tmp_path / "tight"))
    assert results.finished
    assert results.out_of_memory > 0
    assert results.cycles[0].peak_bytes < peak_bytes


def test_a_model_that_breaks_ends_the_run_in_a_line_and_leaves_no_broken_checkpoint(make_spec, tmp_path):
    spec = make_spec("training.learning_rate=1e30", "training.warmup_share=0", amount=Amount(epochs=20))
    process = start(spec, tmp_path)
    said = process.communicate(timeout=240)[1]
    assert re.search(
        r"error: .* (became (nan|inf), 20 times in a row|is no longer finite, and .* is not written), in epoch", said
    )
    assert f"compass train --out {tmp_path} --re" in said
    assert process.returncode == 3
    newest = Checkpoints(tmp_path / "checkpoints", 2).newest()
    assert newest is None or not not_finite(newest)


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_two_processes_train_one_model(make_spec, tmp_path, launcher):
    spec = make_spec(n_devices=2, amount=Amount(epochs=2), batch_size=2)
    prefix = ()
    if launcher == "torchrun":
        prefix = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29517"]
    results = finish(start(spec, tmp_path, prefix=prefix))
    assert results.finished
    assert results.at.n_graphs == pytest.approx(2 * 10, abs=4)
    assert results.at.n_batches == 2 * 3
    state = Checkpoints(tmp_path / "checkpoints", 2).newest()
    assert len(state["random"]) == 2
    assert json.loads((tmp_path / "results.json").read_text())["finished"]
    assert read_run_spec(tmp_path).n_devices == 2


def test_unequal_ranks_have_loads_by_their_speed_each_within_its_own_memory(make_spec, tmp_path):
    shares = (RankShare(budget_bytes=2 * GIB, speed=2.0), RankShare(budget_bytes=int(1.5 * GIB), speed=1.0))
    spec = make_spec("batch.training_share=0.3", n_devices=2, shares=shares, amount=Amount(epochs=3))
    law = Affine(base=0.01, per_unit=(("nodes", 1e-5), ("edges", 1e-6)))
    plan = spec.plan.model_copy(update={"step_law": law})
    results = finish(start(spec.model_copy(update={"plan": plan, "batching": "batch_budget"}), tmp_path))
    assert results.finished
    assert results.at.n_batches == 3 * 3  # of ten complexes, three at most on a rank
    assert results.out_of_memory == results.split == 0
    said = (tmp_path / "training.log").read_text()
    assert "3 batches per epoch on each of 2 ranks, 1.7 graphs each" in said
    assert "at most 2.00 GiB of memory per process" in said


def test_one_process_that_is_asked_to_stop_stops_the_others(make_spec, tmp_path):
    """They would wait for its share of the evaluation."""
    process = start(make_spec(n_devices=2, amount=Amount(epochs=5000), batch_size=2), tmp_path)
    wait_for_batches(tmp_path, 2)
    others = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGTERM)
    assert not finish(process, code=128 + signal.SIGTERM).finished
    assert psutil.wait_procs(others, timeout=30)[1] == []


def test_a_loader_process_that_is_killed_ends_the_run_in_a_line_and_it_goes_on(make_spec, tmp_path):
    """PyTorch raises wherever the training happens to be, and Lightning may raise another error on it."""
    spec = make_spec(loader_workers=2, amount=Amount(epochs=5000))
    process = start(spec, tmp_path)
    wait_for_batches(tmp_path, 4)
    one = next(child for child in psutil.Process(process.pid).children() if "tracker" not in " ".join(child.cmdline()))
    one.kill()
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 1
    assert "Traceback" not in said, said[-1500:]
    assert re.search(
        r"error: a process that loads batches has ended: DataLoader worker .*\. Checkpoints are kept\. "
        r"Go on with `compass train --out \S+ --resume`",
        said,
    )
    assert finish(start(spec.model_copy(update={"resume": True, "amount": Amount(epochs=4)}), tmp_path)).finished


@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_a_process_that_dies_ends_the_others_in_a_sentence(make_spec, tmp_path, launcher):
    spec = make_spec(n_devices=2, amount=Amount(epochs=5000), batch_size=2)
    prefix = ()
    if launcher == "torchrun":
        prefix = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=29518"]
    process = start(spec, tmp_path, prefix=prefix)
    wait_for_batches(tmp_path, 2)
    ranks = [
        one for one in psutil.Process(process.pid).children(recursive=True)
        if "train-run" in one.cmdline() and one.environ().get("LOCAL_RANK") == "1"
    ]  # fmt: skip
    ranks[0].kill()
    said = process.communicate(timeout=240)[1]
    assert process.returncode == 1
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert line.startswith("error: process 0 of 2: another process of this run has ended, and it cannot go on alone. ")
    assert f"`compass train --out {tmp_path} " in line
    assert "--resume" in line
    assert "[rank0]" not in said
    assert Checkpoints(tmp_path / "checkpoints", 2).newest() is not None


def test_a_disk_that_fills_up_does_not_end_a_run(make_spec, tmp_path):
    """Files may not grow beyond 100 KB: tables fit, checkpoints do not."""
    spec = make_spec("training.checkpoint_s=0.0001", amount=Amount(epochs=3), shape=(2, 64))
    limit = 100_000
    process = start(
        spec, tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    )  # fmt: skip
    out, said = process.communicate(timeout=240)
    assert process.returncode == 2, said
    results = Results.model_validate_json(out)
    assert results.finished
    assert dict(results.unwritten) == {"best.ckpt": "File too large", "the last checkpoint": "File too large"}
    assert said.count("the last checkpoint was not written (File too large); the run goes on") == 1
    assert said.splitlines()[-1].startswith(f"error: run folder {tmp_path}: got ")
    assert list((tmp_path / "checkpoints").iterdir()) == []
    assert not (tmp_path / "results.json").exists()  # else it would count as finished
    assert "Traceback" not in said, said[-1500:]
    again = finish(start(spec.model_copy(update={"resume": True}), tmp_path))
    assert again.finished
    assert again.unwritten == ()
