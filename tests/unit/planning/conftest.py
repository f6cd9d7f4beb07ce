"""A machine that answers trials of settings, and an experiment on it."""

from collections import Counter
from types import SimpleNamespace

import pytest

from compass.planning.experiment import Experiment
from compass.probe.recorded import Recall
from compass.records import Load, Outcome, RuntimeSettings, Status, StepTime
from compass.search.sample_loads import make_sample_loads


class Bench:
    """A machine on which a step takes what its settings say, and the next time what `step_s` says then."""

    counts = Counter()

    def __init__(self, step_s, others_cores):
        self.step_s, self.others_cores, self.asked, self.prepared = step_s, others_cores, [], []

    def knows(self, spec):
        return False

    def prepare(self, specs):
        self.prepared += specs

    def again(self, phase, spec):
        return self.probe(phase, spec).outcome

    def probe(self, phase, spec):
        assert phase == "runtime"
        self.asked.append(spec)
        step_s = self.step_s(spec.runtime)
        step = StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=5)
        return Recall(Outcome(status=Status.OK, step=step, others_cores=self.others_cores), reused=False)


@pytest.fixture
def experiment_of(known):
    """Makes an experiment on such a machine."""

    def make(step_s, *changes, kind="cpu", threads=8, nodes=240.0, edges=5000.0, others_cores=1.0):
        told = known({(3, 48): {"capacity": 10}}, changes=changes)
        samples = (("one", Load(graphs=1, sizes=(("nodes", nodes), ("edges", edges)))),)
        hardware = SimpleNamespace(kind=kind, on_host=kind == "cpu", budget_bytes=2**32)
        return Experiment(
            config=told.config,
            runner=Bench(step_s, others_cores),
            description=SimpleNamespace(hardware=hardware, micro_batches=(), samples=samples),
            sample_loads=make_sample_loads(samples, 1000),
            settings=RuntimeSettings(threads=threads),
            capacities=told.capacities,
            dataset_size=1000,
            data_cap=10**9,
        )

    return make
