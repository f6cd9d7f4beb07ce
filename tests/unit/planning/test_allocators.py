"""Allocators are measured on one batch each, and no longer than one may win."""

from collections import Counter
from types import SimpleNamespace

import pytest

from compass.planning import allocators
from compass.planning.allocators import measure_allocators
from compass.planning.experiment import Experiment
from compass.planning.prober import Prober
from compass.probe.recorded import Recall
from compass.records import ALLOCATORS, Family, Load, Outcome, RuntimeSettings, Status, StepTime
from compass.search.sample_loads import make_sample_loads

GIB = 2**30


class Machine:
    """A machine with (seconds, bytes beyond the baseline) by allocator; None: it does not run. A gibibyte is live."""

    counts = Counter()
    trained = ()

    def __init__(self, costs):
        self.costs, self.specs, self.probes, self.prepared = costs, [], [], []

    def prepare(self, specs):
        self.prepared.append([spec.runtime.allocator for spec in specs])

    def again(self, phase, spec):
        assert self.specs.pop() == spec  # which crashed
        return self.probe(phase, spec).outcome

    def probe(self, phase, spec):
        assert phase == "runtime"
        self.specs.append(spec)
        costs = self.costs[spec.runtime.allocator]
        if costs is None:
            return Recall(Outcome(status=Status.CRASHED, detail="segmentation fault"), reused=False)
        step_s, held_bytes = costs
        step = StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=5)
        outcome = Outcome(
            status=Status.OK, step=step, live_bytes=GIB, baseline_bytes=GIB, footprint_bytes=GIB + int(held_bytes)
        )
        return Recall(outcome, reused=False)


@pytest.fixture
def measured(known, monkeypatch):
    """Measures on such a machine, which offers all that it has costs of; returns the experiment and the runtime choice."""

    def measure(costs, *changes, kind="cpu", stages=("production",), graph_bytes=6.0, noun=""):
        family = Family(noun=noun)
        monkeypatch.setattr(allocators, "is_offered", lambda name: name in costs)
        told = known(
            {(3, 48): {"capacity": 10}, (5, 96): {"capacity": 20, "graph_bytes": graph_bytes}, (9, 160): {"capacity": 2000}},
            changes=changes, budget_bytes=10, data_cap=100,
        )  # fmt: skip
        monkeypatch.setattr(Experiment, "known", lambda self: told)
        monkeypatch.setattr(allocators.sys, "platform", "linux" if "tcmalloc" in costs else "win32")
        monkeypatch.setattr(Experiment, "expected", lambda self, spec: None)
        samples = (("one", Load(graphs=1, sizes=(("nodes", 1.0),))),)
        experiment = Experiment(
            config=told.config, runner=Machine(costs), sample_loads=make_sample_loads(samples, 1000),
            description=SimpleNamespace(hardware=SimpleNamespace(kind=kind, on_host=kind == "cpu"), family=family),
            settings=RuntimeSettings(threads=2), capacities=told.capacities, dataset_size=1000, data_cap=100,
        )  # fmt: skip
        return experiment, measure_allocators(experiment, Prober(experiment.runner, certify_again=0), stages)

    return measure


def test_each_is_measured_on_the_same_batch_in_a_process_of_its_own(measured):
    costs = {"fast": (1.0, 1.6 * GIB), "tight": (3.0, 1.01 * GIB), "tight_huge": (2.0, 1.01 * GIB)}
    experiment, choice = measured(costs)
    specs = experiment.runner.specs
    assert [spec.runtime.allocator for spec in specs] == ["fast", "tight", "tight_huge"]
    assert len({(spec.knobs, spec.batches) for spec in specs}) == 1
    assert (specs[0].knobs.layers, specs[0].knobs.channels) == (5, 96)  # the largest that the data can feed
    assert specs[0].batches[0].members == (("one", 1),)  # six tenths of the memory
    assert all(spec.fresh and spec.profile for spec in specs)
    assert experiment.runner.prepared == [["fast", "tight"], ["tight_huge"]]  # idle workers take memory
    assert experiment.allocators == ("tight", "tight_huge")
    assert (choice.setting, choice.chosen, choice.gain) == ("allocator", "fast", 3.0)
    assert choice.why == (
        "one step of 5 layers × 96 channels, fp32 on 1 graph takes 1.0 s and 2.60 GiB under fast, 3.0 s and 2.01 GiB under "
        "tight, 2.0 s and 2.01 GiB under tight_huge; a stage that lacks memory may choose another"
    )
    assert [(trial.value, trial.step_s) for trial in choice.tried] == [("fast", 1), ("tight", 3), ("tight_huge", 2)]
    _, choice = measured(costs, noun="images")
    assert choice.why.startswith(
        "one step of 5 layers × 96 channels, fp32 on 1 image takes 1.0 s and 2.60 GiB under fast"
    )


def test_one_that_is_as_fast_and_wastes_nothing_ends_the_search(measured):
    costs = {"fast": (1.0, 1.6 * GIB), "tcmalloc": (1.05, 1.05 * GIB), "tight": (3.0, GIB)}
    experiment, _ = measured(costs)
    assert experiment.allocators == ("tcmalloc",)
    assert [spec.runtime.allocator for spec in experiment.runner.specs] == ["fast", "tcmalloc"]


@pytest.mark.parametrize("tcmalloc", [(1.2, GIB), (1.0, 1.3 * GIB), None])
def test_one_that_is_slower_or_wastes_memory_or_fails_does_not(measured, tcmalloc):
    costs = {"fast": (1.0, 1.6 * GIB), "tcmalloc": tcmalloc, "tight": (3.0, GIB)}
    experiment, choice = measured(costs)
    assert experiment.allocators == (("tight",) if tcmalloc is None else ("tcmalloc", "tight"))
    assert [trial.value for trial in choice.tried] == ["fast", "tcmalloc", "tight"]


def test_only_what_the_stages_allow_is_measured(measured):
    costs = dict.fromkeys(ALLOCATORS, (1.0, 2 * GIB))
    experiment, _ = measured(costs, 'stages.production.allocator=["tight", "jemalloc"]')
    assert experiment.allocators == ("jemalloc", "tight")
    experiment, choice = measured(costs, "stages.production.allocator=fast")
    assert (experiment.allocators, choice.tried, experiment.runner.specs) == ((), (), [])


def test_those_that_return_memory_are_measured_only_where_it_limits_the_model(measured):
    """Two graphs of the largest model that the data can feed fit the memory."""
    costs = {"fast": (1.0, 1.6 * GIB), "tight": (3.0, GIB), "mimalloc": (1.0, 2 * GIB)}
    experiment, _ = measured(costs, graph_bytes=5.0)
    assert experiment.allocators == ("mimalloc",)
    del costs["mimalloc"]
    experiment, choice = measured(costs, graph_bytes=5.0)
    assert (experiment.allocators, experiment.runner.specs, choice.chosen, choice.gain) == ((), [], "fast", None)
    assert (
        choice.why == "no library is installed that could be faster or hold less, and memory does not limit the model"
    )
    experiment, _ = measured(costs, "stages.production.allocator=tight", graph_bytes=5.0)
    assert experiment.allocators == ("tight",)  # all that the user allows


def test_one_that_would_gain_is_named_where_it_is_missing(measured, monkeypatch):
    experiment, _ = measured({"fast": (1.0, 1.6 * GIB), "tight": (3.0, GIB)})
    monkeypatch.setattr(allocators.sys, "platform", "linux")
    model = allocators.trial_model(experiment)
    assert allocators.missing_allocator(experiment, model, {"tcmalloc"}) == (
        "tcmalloc is not installed (Debian: apt install libtcmalloc-minimal4): by estimate it would hold batches of 1 graph "
        "in place of 1, about as fast"
    )
    assert allocators.missing_allocator(experiment, model, {"fast"}) is None


def test_an_accelerator_has_an_allocator_of_its_own(measured):
    experiment, choice = measured({"fast": None}, kind="cuda")
    assert (experiment.allocators, choice, experiment.runner.specs) == ((), None, [])


def test_where_nothing_runs_it_says_so(measured):
    experiment, choice = measured({"fast": None, "tight": None})
    assert (experiment.allocators, choice.chosen, choice.gain) == ((), "fast", None)
    assert choice.why == "one step of 5 layers × 96 channels, fp32 on 1 graph did not run"
