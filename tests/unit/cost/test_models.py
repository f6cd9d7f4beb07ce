"""All predictions of a cost together: what the models add to each other, and which probes they are fitted to."""

import numpy as np
import pytest

from compass.cost.allocator_time import fit_allocator_times
from compass.cost.models import CostModels, _differs_in_allocator, _timings
from compass.cost.observation import Probe
from compass.cost.ranks import RankedCosts
from compass.records import (
    Affine,
    Batch,
    BytesLaw,
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
