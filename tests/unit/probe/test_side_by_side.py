"""Several devices of one kind probe memory at once; what says a time runs alone."""

import threading

import pytest

from compass.errors import WorkerError
from compass.optimizer_config import OptimizerConfig
from compass.probe import local
from compass.probe.local import LocalRunner
from compass.probe.side_by_side import SideBySide, is_of_memory
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.records import Batch, Knobs, Outcome, ProbeSpec, RuntimeSettings, Status

MEMORY = ProbeSpec(
    knobs=Knobs(layers=2, channels=16), batches=(Batch(members=(("a", 1),)),), min_steps=1, max_steps=1, timeout_s=1.0,
    runtime=RuntimeSettings(threads=1),
)  # fmt: skip


def spec_of(layers, **changes):
    return MEMORY.model_copy(update={"knobs": Knobs(layers=layers, channels=16), **changes})


class Worker:
    """Lives until it is killed, and remembers where it was started."""

    def __init__(self, place):
        self.place, self.is_alive = place, True

    def kill(self):
        self.is_alive = False


@pytest.mark.parametrize(
    ("changes", "of_memory"),
    [
        ({}, True),
        ({"max_steps": 3}, False),
        ({"fresh": True}, False),
        ({"ceiling_bytes": 1}, False),
        ({"ranks": 2}, False),
    ],
)
def test_what_says_a_time_or_is_proven_runs_alone(changes, of_memory):
    assert is_of_memory(spec_of(2, **changes)) == of_memory


def test_two_devices_work_at_the_same_time_and_answer_in_order():
    both, workers = threading.Barrier(2, timeout=10), []

    def start(_, place):
        workers.append(Worker(place))
        return workers[-1]

    def ask(worker, spec):
        both.wait()  # for ever, if one device did all
        return Outcome(status=Status.OK, detail=f"{spec.knobs.layers} layers")

    devices, specs = SideBySide(2, start, ask), [spec_of(layers) for layers in (2, 3, 4, 5)]
    devices.begin(specs)
    assert [devices.take(spec).detail for spec in specs] == ["2 layers", "3 layers", "4 layers", "5 layers"]
    assert sorted(worker.place for worker in workers) == [0, 1]
    assert not any(worker.is_alive for worker in workers)
    assert devices.take(specs[0]) is None
    devices.end()


def test_a_device_without_a_worker_leaves_the_probe_to_the_first():
    def start(_, place):
        raise WorkerError("no such device")

    devices = SideBySide(2, start, lambda worker, spec: Outcome(status=Status.OK))
    devices.begin([MEMORY])
    assert devices.take(MEMORY) is None
    devices.end()


def test_the_end_does_not_wait_for_probes():
    ended = threading.Event()

    class Busy(Worker):
        def kill(self):
            super().kill()
            ended.set()

    def ask(_, spec):
        ended.wait(10)
        return Outcome(status=Status.CRASHED, detail="killed")

    devices = SideBySide(1, lambda _, place: Busy(place), ask)
    devices.begin([spec_of(2), spec_of(3)])
    devices.end()
    assert ended.is_set()


class FakeProcess(Worker):
    """Stands for a worker process; describes an accelerator, or answers with the device that it was opened on."""

    opened = []

    def __init__(self, runtime, opening, variables=()):
        super().__init__(opening["device"])
        self.opened.append(opening["device"])

    def wait(self):
        pass

    def send(self, request):
        pass

    def ask(self, request, *, timeout_s):
        if request["op"] == "describe":
            return SimulatedRunner(machine_named("RTX 4090")).describe().model_dump(mode="json")
        return Outcome(status=Status.OK, detail=f"on {self.place}").model_dump(mode="json")


def test_the_runner_uses_all_accelerators_for_memory_and_the_first_for_times(monkeypatch):
    monkeypatch.setattr(local, "WorkerProcess", FakeProcess)
    runner = LocalRunner(OptimizerConfig(), MEMORY.runtime, n_ranks=2, device="cuda:0")
    runner.describe()
    memory, timing = [spec_of(2), spec_of(3), spec_of(4)], spec_of(2, max_steps=5)
    runner.prepare([*memory, timing])
    used = {runner.probe(spec).detail for spec in memory}
    assert used <= {"on cuda:0", "on cuda:1"}
    assert "cuda:1" in FakeProcess.opened
    assert runner.probe(timing).detail == "on cuda:0"
    runner.close()
    assert runner.probe(memory[0]).detail == "on cuda:0"  # as with one device
