"""What a worker says, and that nothing a model does can change it."""

import logging
import os
import shutil
import signal

import pytest

from compass.errors import InputError, WorkerError
from compass.optimizer_config import OptimizerConfig
from compass.probe import local, process
from compass.probe.local import LocalRunner
from compass.probe.process import WorkerProcess, WorkerTimedOut
from compass.records import Batch, Knobs, Load, RuntimeSettings, Status, Variant

RUNTIME = RuntimeSettings(threads=1)
# Held: three layers of 20 floats, their gradients, two AdamW states of each and six counters, and a batch of 8 rows of one float.
HELD_BYTES = 4 * (3 * 20 * 4 + 6 + 8)


def worker_of(runner):
    return runner._lasting[RUNTIME]


def test_describe(toys):
    asked = [Knobs(layers=1, channels=4), Knobs(layers=3, channels=16)]
    description = toys.describe(asked)
    assert description.features == ("rows",)
    assert dict(description.samples)["fine"] == Load(graphs=1, sizes=(("rows", 8.0),))
    assert description.parameters == ((asked[0], 4 * 4 + 4), (asked[1], 3 * (16 * 16 + 16)))
    assert description.hardware.kind == "cpu"
    assert 50 * 2**20 < description.baseline_bytes < description.hardware.total_bytes
    assert description.fingerprint.workload == "toys"
    assert toys.describe().fingerprint.key == description.fingerprint.key


def test_a_probe(toys, ask):
    outcome = toys.probe(ask("fine", layers=3, min_steps=5, max_steps=5, profile=True))
    assert (outcome.status, outcome.detail, outcome.enforced) == (Status.OK, "", False)
    assert outcome.load == Load(graphs=1, sizes=(("rows", 8.0),))
    assert outcome.parameters == 60
    assert outcome.n_steps == 6  # the profiled one too
    assert outcome.step.n_steps == 3  # two are warm
    assert 0 < outcome.step.low_s <= outcome.step.median_s <= outcome.step.high_s < outcome.wall_s
    segments = dict(outcome.segments)
    assert segments["forward:stem"] == HELD_BYTES
    assert outcome.live_bytes == max(segments.values())
    assert outcome.footprint_bytes >= outcome.baseline_bytes > 50 * 2**20
    assert 0 < outcome.collate_s < outcome.wall_s


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a compiler")
def test_a_compiled_model_computes_the_same_and_shows_its_layers(toys, ask):
    """Its layers' segments are the plain one's: hooks stay outside of what is compiled. Nor does one model's code serve another."""
    for layers in (3, 2):
        knobs = Knobs(layers=layers, channels=4, variant=Variant(compiled=True))
        plain = toys.probe(ask("fine", layers=layers, profile=True))
        compiled = toys.probe(ask("fine", knobs=knobs, profile=True, timeout_s=600.0))
        assert (compiled.status, compiled.detail) == (Status.OK, "")
        assert compiled.losses == pytest.approx(plain.losses, rel=1e-5)
        assert [name for name, _ in compiled.segments] == [name for name, _ in plain.segments]


def test_batches_run_in_order_and_the_last_until_it_has_settled(toys, ask):
    batches = tuple(Batch(members=((name, 1),)) for name in ("fine", "prints", "fine"))
    outcome = toys.probe(ask(batches=batches, min_steps=1, max_steps=40, settle_share=1e9))
    assert outcome.ok
    assert outcome.n_steps == 3  # their loads are the same, so all three were timed
    unsettled = toys.probe(ask(batches=batches, min_steps=1, max_steps=12, settle_share=0.0))
    assert unsettled.n_steps == 12
    too_few = toys.probe(ask(batches=batches, min_steps=1, max_steps=1))
    assert too_few.n_steps == 3  # every batch all the same


def test_a_lasting_worker_repeats_itself_to_the_byte(toys, ask):
    spec = ask("fine", layers=3, profile=True)
    first = toys.probe(spec)
    outcomes = [toys.probe(spec) for _ in range(20)]
    assert {outcome.segments for outcome in outcomes} == {first.segments}
    grown = [outcome.baseline_bytes for outcome in outcomes]
    assert grown[-1] - grown[4] < 2**20


@pytest.mark.parametrize(
    ("does", "remarks"),
    [
        ("prints", ['printed 246 bytes on standard output: \'{"ok": "print"}\'']),
        ("reads", []),
        ("moves", ["changed the working directory to /"]),
        ("mutters of memory", []),
        (
            "keeps what it computed",
            ["held 2.00 MiB more after a step than before it: something is kept from one step to the next"],
        ),
    ],
)
def test_what_does_no_harm(toys, ask, does, remarks):
    """Printing on standard output or reading standard input is not speaking with the parent; it is said, and undone."""
    toys.describe()
    before = worker_of(toys)._process.pid
    outcome = toys.probe(ask(does, profile=does == "keeps what it computed"))
    assert outcome.ok
    assert list(outcome.remarks) == remarks
    again = toys.probe(ask("fine"))
    assert again.ok
    assert again.remarks == ()
    assert worker_of(toys)._process.pid == before


def test_equal_questions_have_equal_losses(toys, ask):
    one, other = (toys.probe(ask("fine")).losses for _ in range(2))
    assert one == other
    assert len(one) == 3


def test_what_was_printed_explains_a_death(toys, ask):
    """It is held back until the step is over, and passed on whichever way that comes about."""
    outcome = toys.probe(ask("prints", "exits politely"))
    assert outcome.status is Status.CRASHED
    assert '{"ok": "descriptor"}' in outcome.detail


def test_a_mistake_of_the_users_is_shown_where_it_is(toys, ask):
    outcome = toys.probe(ask("raises"))
    assert outcome.status is Status.INVALID
    assert "toys.py" in outcome.detail
    assert outcome.detail.endswith('KeyError: "the user\'s mistake"')
    assert outcome.load == Load(graphs=1, sizes=(("rows", 8.0),))
    assert outcome.footprint_bytes >= outcome.baseline_bytes
    assert toys.probe(ask("fine")).ok


def test_a_model_that_cannot_be_built(toys, ask):
    outcome = toys.probe(ask("fine", channels=13))
    assert outcome.status is Status.INVALID
    assert outcome.detail.endswith("ValueError: thirteen channels bring bad luck")
    assert outcome.load == Load(graphs=1, sizes=(("rows", 8.0),))  # what was asked about, though it did not get so far


def test_words_that_have_no_json(toys, ask):
    assert toys.probe(ask("raises half a character")).detail.endswith(r"'/nowhere/\udc80'")


def test_a_loss_that_is_not_a_number(toys, ask):
    batches = tuple(Batch(members=((name, 1),)) for name in ("fine", "is not a number"))
    outcome = toys.probe(ask(batches=batches))
    assert (outcome.status, outcome.detail) == (Status.INVALID, "the loss became nan, at step 1")
    assert outcome.n_steps == 1


def test_an_earlier_probes_words_explain_nothing(toys, ask):
    """A lasting worker's standard error is one; only what was said since the last question counts."""
    assert toys.probe(ask("mutters of memory")).ok
    outcome = toys.probe(ask("exits"))
    assert (outcome.status, outcome.detail) == (Status.CRASHED, "ended with exit code 3 without any output")
    both = toys.probe(ask("mutters of memory", "exits"))
    assert both.status is Status.OUT_OF_MEMORY
    assert both.detail == "GNU OpenMP: libgomp: Out of memory allocating 64 bytes"


@pytest.mark.parametrize(
    ("workload", "text"),
    [
        (
            "visnt",
            "workload: got visnt; expected one of dimenet++, gps, schnet, visnet, package.module:factory or path/to/file.py:factory. "
            "Did you mean visnet?",
        ),
        (
            "{toys}:refuse",
            "workload {toys}:refuse: got RuntimeError: no toys today; expected a factory that takes an OptimizerConfig. "
            "Correct the factory.",
        ),
    ],
)
def test_bad_input_reaches_the_parent_as_such(toys_file, workload, text):
    runner = LocalRunner(OptimizerConfig(), RUNTIME, workload=workload.format(toys=toys_file), device="cpu")
    with pytest.raises(InputError) as caught:
        runner.describe()
    assert str(caught.value) == text.format(toys=toys_file)
    assert not any(worker.is_alive for worker in runner._lasting.values())


def test_workers_that_are_prepared_are_the_ones_asked(toys_file, ask):
    """All are open when one is asked; the fresh one is used once."""
    both = [RUNTIME, RUNTIME.model_copy(update={"allocator": "system"})]
    runner = LocalRunner(OptimizerConfig(), RUNTIME, workload=f"{toys_file}:Toy", device="cpu")
    runner.prepare([*(ask("fine", runtime=one) for one in both), ask("fine", fresh=True), ask("fine", fresh=True)])
    before, (fresh,) = dict(runner._lasting), runner._fresh.values()
    assert list(before) == both
    assert all(worker._n_sent == 0 and worker.is_alive for worker in (*before.values(), fresh))
    assert all(runner.probe(ask("fine", runtime=one)).ok for one in both)
    assert runner.probe(ask("fine", fresh=True)).ok
    assert (runner._lasting, runner._fresh, fresh.is_alive) == (before, {}, False)
    runner.prepare([ask("fine", fresh=True)])
    (unused,) = runner._fresh.values()
    runner.close()
    assert not unused.is_alive


def test_knobs_that_the_family_refuses(ask):
    """In ViSNet's own words; what it takes is then probed for real."""
    variant = Variant(options=(("heads", 8), ("lmax", 1), ("rbf", 8)))
    odd = Knobs(layers=2, channels=12, variant=variant)
    runner = LocalRunner(OptimizerConfig(), RUNTIME, device="cpu")
    text = (
        r"^channels: got 12; expected a multiple of the 8 attention heads\. Change space\.channel_step or the number of"
    )
    with pytest.raises(InputError, match=text):
        runner.describe([odd])
    outcome = runner.probe(ask("1ia1", knobs=odd.model_copy(update={"channels": 16}), profile=True))
    assert outcome.ok
    assert dict(outcome.load.sizes).keys() == {"nodes", "edges"}
    runner.close()


def test_a_worker_that_does_not_start(monkeypatch, toys_file):
    monkeypatch.setattr(process, "START_TIMEOUT_S", 0.05)
    runner = LocalRunner(OptimizerConfig(), RUNTIME, workload=f"{toys_file}:Toy", device="cpu")
    with pytest.raises(WorkerError, match=r"^the worker did not start: no answer in 50 ms$"):
        runner.describe()
    monkeypatch.setattr(process.sys, "executable", "/nowhere/python")
    with pytest.raises(
        WorkerError, match=r"^the worker did not start: .*No such file or directory: '/nowhere/python'$"
    ):
        runner.describe()
    runner.close()


def test_a_worker_that_does_not_describe_itself(monkeypatch, toys, ask):
    toys.describe()
    monkeypatch.setattr(local, "DESCRIBE_TIMEOUT_S", 0.0)
    with pytest.raises(WorkerError, match=r"^the worker could not describe itself: no answer in 0 ms$"):
        toys.describe([Knobs(layers=2, channels=8)] * 5000)
    monkeypatch.undo()
    assert toys.describe().features == ("rows",)


def test_closing_twice_and_opening_again(toys, ask):
    toys.describe()
    pid = worker_of(toys)._process.pid
    toys.close()
    toys.close()
    assert toys.probe(ask("fine")).ok
    assert worker_of(toys)._process.pid != pid


def test_each_runtime_has_its_own_lasting_worker(toys, ask, caplog):
    """What is in force in it is logged when it starts."""
    two = RuntimeSettings(threads=2)
    toys.describe()
    caplog.set_level(logging.DEBUG, logger="compass.probe.process")
    for runtime in (RUNTIME, two, RUNTIME, two):
        assert toys.probe(ask("fine", runtime=runtime)).ok
    assert toys._lasting.keys() == {RUNTIME, two}
    (said,) = [record.message for record in caplog.records]
    assert said.startswith(f"worker {toys._lasting[two]._process.pid} runs under {{'threads': '2', ")
    assert "'OMP_WAIT_POLICY': 'passive'" in said
    toys._lasting.pop(two).kill()


def test_one_death_on_the_way_is_an_accident(monkeypatch, caplog):
    started = []

    class Mortal(WorkerProcess):
        def __init__(self, *given):
            super().__init__(*given)
            started.append(self)
            if len(started) == 1:
                self._process.kill()

    monkeypatch.setattr("compass.probe.local.WorkerProcess", Mortal)
    runner = LocalRunner(OptimizerConfig(), RUNTIME, device="cpu")
    try:
        assert runner.describe().hardware.device == "cpu"
    finally:
        runner.close()
    assert len(started) == 2
    assert "the worker did not start: the worker ended, killed by the kernel (SIGKILL)" in caplog.text
    assert "starting another" in caplog.text


def test_a_stopped_worker_is_noticed(monkeypatch):
    monkeypatch.setattr("compass.probe.process.STOPPED_S", 0.5)
    worker = WorkerProcess(RUNTIME, {"workload": "visnet", "config": OptimizerConfig().model_dump(mode="json"),
                                     "device": "cpu", "limit_bytes": None, "ready": "describing"})  # fmt: skip
    worker.wait()
    os.kill(worker._process.pid, signal.SIGSTOP)
    with pytest.raises(WorkerTimedOut, match=r"^a signal has stopped it \(SIGSTOP\)$"):
        worker.ask({"op": "describe", "knobs": []}, timeout_s=60)
    assert not worker.is_alive
