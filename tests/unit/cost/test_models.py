"""All predictions of a cost together: what the models add to each other, and which probes they are fitted to."""

import numpy as np
import pytest

from compass.cost.allocator_time import fit_allocator_times
from compass.cost.memory import shape_of
from compass.cost.models import CostModels, _differs_in_allocator, _timings, fit_costs
from compass.cost.observation import Probe
from compass.cost.ranks import RankedCosts
from compass.optimizer_config import MemoryRules
from compass.records import (
    Affine,
    Batch,
    BytesLaw,
    Description,
    Fingerprint,
    Hardware,
    Knobs,
    Load,
    Outcome,
    ProbeSpec,
    RankCosts,
    RuntimeSettings,
    Status,
    StepTime,
)

MODEL = Knobs(layers=5, channels=96)
SIZES = np.array([[10.0], [20.0]])
LAW = BytesLaw(
    segments=(("step", Affine(base=0.0, per_unit=(("nodes", 8.0),))),), baseline_bytes=100, footprint_ratio=1.25
)


class Memory:
    margins = (0.02, 10.5)

    def law(self, knobs):
        return LAW

    def margin(self, knobs):
        return self.margins


class Footprint:
    def complete(self, law, knobs, allocator):
        return law


class Time:
    def step_s(self, knobs, capacity, sizes):
        return sizes[:, 0] / 10

    def spread(self, knobs, capacity, sizes):
        return 0.03

    def spread_of_runs(self, knobs, capacity, sizes):
        return 0.04

    def is_timed(self, knobs):
        return knobs == MODEL


def probe(allocator="fast", step_s=1.0, *, graphs=4, source="probe", knobs=MODEL, status=Status.OK):
    load = Load(graphs=graphs, sizes=(("nodes", 10.0),))
    spec = ProbeSpec(
        knobs=knobs, batches=(Batch(members=(("one", 1),)),), min_steps=5, max_steps=5, timeout_s=1,
        runtime=RuntimeSettings(threads=2, allocator=allocator),
    )  # fmt: skip
    step = StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=5)
    return Probe(spec, Outcome(status=status, step=step, load=load, timed_load=load, source=source))


def costs(*timed):
    return CostModels(Memory(), Footprint(), Time(), fit_allocator_times("fast", timed))


def test_bytes_of_the_margin_are_held_beside_the_model_whatever_the_load():
    assert costs().bytes_law(MODEL, "fast").baseline_bytes == 100 + 14  # 1.25 · 10.5, rounded up


def test_an_allocator_multiplies_the_step_and_its_doubt():
    found = costs((probe("tight", 3.0), 1.0))
    factor = found.allocators.log_factor("tight", MODEL, np.array([1.0, 2.0]))
    for base in (None, "fast"):
        assert found.step_s(MODEL, 7, SIZES, base).tolist() == [1.0, 2.0]
    assert found.step_s(MODEL, 7, SIZES, "tight") == pytest.approx(np.array([1.0, 2.0]) * np.exp(factor))
    own = found.allocators.spread("tight", MODEL, 1.0)
    assert own > 0
    for base in (None, "fast"):
        assert (found.spread(MODEL, 7, SIZES[:1], base), found.spread_of_runs(MODEL, 7, SIZES[:1], base)) == (
            0.03,
            0.04,
        )
    assert found.spread(MODEL, 7, SIZES[:1], "tight") == pytest.approx(np.hypot(0.03, own))
    assert found.spread_of_runs(MODEL, 7, SIZES[:1], "tight") == pytest.approx(np.hypot(0.04, own))


def test_the_settings_may_differ_in_the_allocator_alone():
    one = RuntimeSettings(threads=2, allocator="fast")
    assert not _differs_in_allocator(one, one)
    assert _differs_in_allocator(one.model_copy(update={"allocator": "tight"}), one)
    assert not _differs_in_allocator(one.model_copy(update={"allocator": "tight", "threads": 4}), one)
    assert not _differs_in_allocator(one.model_copy(update={"threads": 4}), one)


def test_what_a_training_measured_replaces_the_probes_of_its_model():
    other = Knobs(layers=2, channels=32)
    early, late = (probe(step_s=seconds, source="training") for seconds in (2.0, 3.0))
    larger, elsewhere = probe(graphs=8, source="training"), probe(knobs=other)
    crashed = probe(knobs=other, source="training", status=Status.CRASHED)
    found = _timings([probe(), elsewhere, early, larger, late, crashed])
    assert [id(one) for one in found] == [id(one) for one in (elsewhere, crashed, late, larger)]
    assert _timings([elsewhere, probe()]) == [elsewhere, probe()]


def test_a_rank_steps_slower_waits_and_holds_buckets():
    ranks = RankCosts(n_ranks=2, host_bytes=50, slowdown=1.5, sync_s=0.2, capacity=1_000)
    alone = costs()
    found = RankedCosts.of(alone, ranks, {MODEL: 2_000})
    assert found.step_s(MODEL, 2_000, SIZES) == pytest.approx([1.5 + 0.4, 3.0 + 0.4])
    law, of_one = found.bytes_law(MODEL, "fast"), alone.bytes_law(MODEL, "fast")
    assert law.baseline_bytes == of_one.baseline_bytes + 50
    assert dict(law.segments)["step"].base == 4 * 2_000
    unknown = found.bytes_law(Knobs(layers=1, channels=8), "fast")
    assert dict(unknown.segments)["step"].base == 0
    assert (found.spread(MODEL, 2_000, SIZES[:1]), found.is_timed(MODEL)) == (0.03, True)


def description(**changes):
    hardware = Hardware(kind="cpu", name="", driver="", total_bytes=0, free_bytes=0, others_bytes=0, budget_bytes=0)
    fingerprint = Fingerprint(device="cpu", driver="x", torch="2", versions=(), workload="w")
    given = {
        "fingerprint": fingerprint,
        "hardware": hardware,
        "features": ("nodes",),
        "baseline_bytes": 70,
        "samples": (),
    }
    return Description(**{**given, **changes})


def idle(baseline_bytes, *, fresh=True, ceiling_bytes=None):
    one = probe()
    spec = one.spec.model_copy(update={"fresh": fresh, "ceiling_bytes": ceiling_bytes})
    return Probe(spec, one.outcome.model_copy(update={"baseline_bytes": baseline_bytes}))


@pytest.mark.parametrize(
    ("probes", "expected"),
    [
        ([], 70),
        ([idle(90)], 90),
        ([idle(90, fresh=False)], 70),  # the worker that describes the machine has loaded less
        ([idle(90, ceiling_bytes=1_000)], 70),
        ([idle(None), idle(80), idle(95)], 80),
    ],
)
def test_the_baseline_is_that_of_the_first_fresh_process(probes, expected):
    found = fit_costs(description(), probes, MemoryRules(), RuntimeSettings(threads=2))
    assert found.footprint.baseline_bytes == expected


def test_each_model_is_fitted_to_the_probes_that_tell_it():
    runtime = RuntimeSettings(threads=2, allocator="fast")
    probes = [
        Probe(one.spec, one.outcome.model_copy(update={"parameters": 100, "step_load": one.outcome.load}))
        for one in (probe(), probe(graphs=8, step_s=1.1), probe("tight", 3.0))
    ]
    threads = probes[0].spec.runtime.model_copy(update={"threads": 4})
    slow = Probe(probes[0].spec.model_copy(update={"runtime": threads}), probes[0].outcome)
    found = fit_costs(description(), [*probes, slow], MemoryRules(), runtime, {MODEL: 123})
    assert found.is_timed(MODEL)
    assert len(found.time.process.knobs) == 2
    assert list(found.allocators.seen) == ["tight"]
    assert found.memory.parameters == {shape_of(MODEL): 123}
