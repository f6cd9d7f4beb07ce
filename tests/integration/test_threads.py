"""On a CPU of many cores the number of threads is measured, once, before anything else."""

import pytest

from compass.config_files import load_config
from compass.planning.request import Request
from compass.planning.session import open_experiment
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.records import StepTime

N_CORES = 8


class Hyperthreaded:
    """A simulated machine that calls itself a CPU and is a third slower with a thread for every logical core."""

    def __init__(self, threads):
        self._runner, self.threads = SimulatedRunner(machine_named("RTX 4090")), threads
        self.closed = False

    def describe(self, knobs=()):
        found = self._runner.describe(knobs)
        runtime = (("threads", str(self.threads)),)
        return found.model_copy(
            update={
                "fingerprint": found.fingerprint.model_copy(update={"runtime": runtime}),
                "hardware": found.hardware.model_copy(update={"kind": "cpu"}),
            }
        )

    def probe(self, spec):
        step_s = 0.3 if spec.runtime.threads < N_CORES else 0.4
        step = StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=5)
        return self._runner.probe(spec).model_copy(update={"step": step})

    def close(self):
        self.closed = True


@pytest.fixture
def machines(monkeypatch):
    opened = []

    def local_runner(_request, settings):
        opened.append(Hyperthreaded(settings.threads))
        return opened[-1]

    monkeypatch.setattr("compass.planning.session.local_runner", local_runner)
    monkeypatch.setattr("compass.planning.session.available_cores", lambda: N_CORES)
    return opened


def test_half_of_the_cores_where_that_is_faster_and_nothing_is_measured_twice(machines, tmp_path):
    asked = Request(config=load_config(None, ["runtime.waiting=sleep"]), cache=tmp_path, dataset_size=1000)
    for n_made in (4, 0):  # two counts of threads, two weight updates
        with open_experiment(asked, None, lambda _: None) as (experiment, _):
            assert experiment.settings.threads == 4
            assert experiment.runtime("fast").threads == 4
            assert dict(experiment.description.fingerprint.runtime) == {"threads": "4"}
            choice, waiting, update = experiment.runtime_choices
            assert (update.setting, update.chosen) == ("fused", "False")
            assert (waiting.setting, waiting.chosen, waiting.why) == ("waiting", "sleep", "as configured")
            assert (choice.setting, choice.chosen) == ("threads", "4")
            assert choice.gain == pytest.approx(4 / 3)
            assert experiment.runner.counts["runtime_probes"] == n_made
    assert [machine.threads for machine in machines] == [8, 4, 8, 4]
    assert all(machine.closed for machine in machines)


def test_what_is_configured_is_taken(machines, tmp_path):
    asked = Request(
        config=load_config(None, ["runtime.threads=8", "runtime.waiting=sleep"]), cache=tmp_path, dataset_size=1000
    )
    with open_experiment(asked, None, lambda _: None) as (experiment, _):
        assert experiment.settings.threads == 8
    assert len(machines) == 1
