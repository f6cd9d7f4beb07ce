"""The foreign physics behave like machines: deterministic, monotone, each with its own mark."""

import numpy as np
import pytest

from benchmarks.foreign.kinds import FAIR, KINDS
from benchmarks.foreign.runner import ForeignRunner, sizes_of
from benchmarks.foreign.scenarios import make_scenario, make_scenarios
from compass.probe.requests import certificate_probe, timing_probe
from compass.records import Batch, Knobs, Load, ProbeSpec, RuntimeSettings, Status, Variant
from compass.units import GIB

RUNTIME = RuntimeSettings(threads=1)
SMALL = Knobs(layers=3, channels=48)


def asked(scenario, knobs=SMALL, n_graphs=2, **changes):
    name = scenario.samples[0][0]
    spec = timing_probe(scenario.config.probe, knobs, Batch(members=((name, n_graphs),)), RUNTIME, profile=True)
    return spec.model_copy(update=changes)


def scaled(scenario, factor):
    return sizes_of(scenario.samples[0][1]) * factor


def test_there_are_enough_kinds_and_their_names_are_their_own():
    assert len(FAIR) >= 20
    assert len(KINDS) > len(FAIR)
    assert all(name == kind.name and kind.about for name, kind in KINDS.items())


def test_the_same_seed_is_the_same_machine_and_another_seed_another():
    one, same, other = (make_scenario("cache_cliff", 1, seed) for seed in (3, 3, 4))
    assert one.physics.machine == same.physics.machine
    assert one.samples == same.samples
    assert one.physics.machine != other.physics.machine


@pytest.mark.parametrize("kind", KINDS)
def test_more_load_takes_no_less_time_and_no_less_memory(kind):
    scenario = make_scenario(kind, 2, 1)
    physics = scenario.physics
    loads = np.concatenate([scaled(scenario, n) for n in range(1, 60)])
    for knobs in (SMALL, Knobs(layers=5, channels=96, variant=Variant(checkpointing=True))):
        for allocator in ("fast", "tight"):
            assert (np.diff(physics.step_s(knobs, loads, allocator)) >= 0).all()
            footprint = physics.footprint_bytes(knobs, loads, allocator)
            assert (np.diff(footprint) >= 0).all()
            assert (footprint > physics.live_bytes(knobs, loads)).all()


@pytest.mark.parametrize("kind", KINDS)
def test_checkpointing_saves_memory_for_time(kind):
    scenario = make_scenario(kind, 3, 1)
    load = scaled(scenario, 40)
    plain, again = (Knobs(layers=6, channels=64, variant=Variant(checkpointing=on)) for on in (False, True))
    assert scenario.physics.live_bytes(again, load) < scenario.physics.live_bytes(plain, load)
    assert scenario.physics.forward_s(again, load) == scenario.physics.forward_s(plain, load)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_questions_have_equal_answers(kind):
    scenario = make_scenario(kind, 4, 1)
    first, second = (ForeignRunner(scenario).probe(asked(scenario)) for _ in range(2))
    assert first == second


def test_a_repeated_question_has_another_answer():
    scenario = make_scenario("cache_cliff", 4, 1)
    runner = ForeignRunner(scenario)
    assert runner.probe(asked(scenario)).step != runner.probe(asked(scenario)).step


@pytest.mark.parametrize("kind", ["linear", "fixed_segments", "host_constant"])
def test_a_probe_runs_out_of_memory_exactly_above_its_ceiling(kind):
    scenario = make_scenario(kind, 5, 1)
    needed = ForeignRunner(scenario).probe(asked(scenario)).footprint_bytes
    at, below = (
        ForeignRunner(scenario).probe(asked(scenario, ceiling_bytes=ceiling)) for ceiling in (needed, needed - 1)
    )
    assert (at.status, at.footprint_bytes, at.enforced) == (Status.OK, needed, True)
    assert below.status is Status.OUT_OF_MEMORY
    assert "out of memory" in below.detail


def test_segments_have_the_names_that_workers_use():
    scenario = make_scenario("linear", 0, 1)
    deep = Knobs(layers=5, channels=48, variant=Variant(checkpointing=True))
    found = ForeignRunner(scenario).probe(asked(scenario, deep))
    blocks = ("first", "early", "late", "last")
    assert {name for name, _ in found.segments} == {
        *(f"{phase}:{block}" for phase in ("forward", "recompute", "backward") for block in blocks),
        *(f"{phase}:{end}" for phase in ("forward", "backward") for end in ("stem", "head")),
        "optimizer",
    }
    assert found.live_bytes == max(n_bytes for _, n_bytes in found.segments)


def test_a_certificate_runs_every_batch_and_times_the_last():
    scenario = next(s for s in make_scenarios(["linear"], 20, 1) if len(s.samples) > 1)
    names = [name for name, _ in scenario.samples]
    batches = tuple(Batch(members=((name, 3),)) for name in names[:4])
    spec = certificate_probe(
        scenario.config.probe, SMALL, batches, step_s=0.5, ceiling_bytes=80 * GIB, runtime=RUNTIME, timed=batches[0]
    )
    found = ForeignRunner(scenario).probe(spec)
    assert found.load == batches[-1].load(dict(scenario.samples))
    assert found.timed_load == batches[0].load(dict(scenario.samples))
    assert found.n_steps >= spec.min_steps


def test_different_batches_hold_more_memory_up_to_three():
    physics = make_scenario("shuffled_fragmentation", 0, 1).physics
    shares = [physics.waste_share(SMALL, "fast", n) for n in (1, 2, 3, 400)]
    assert shares[0] < shares[1] < shares[2] == shares[3]


def test_a_device_crashes_once():
    scenario = make_scenario("single_crash", 6, 1)
    runner = ForeignRunner(scenario)
    statuses = [runner.probe(asked(scenario)).status for _ in range(60)]
    assert statuses.count(Status.CRASHED) == 1
    assert statuses[scenario.physics.at] is Status.CRASHED


def test_too_wide_a_model_is_invalid_at_any_batch():
    scenario = make_scenario("invalid_shape", 7, 1)
    wide = Knobs(layers=4, channels=scenario.physics.first_bad)
    found = ForeignRunner(scenario).probe(asked(scenario, wide, 1))
    assert found.status is Status.INVALID
    assert "invalid configuration" in found.detail


def test_first_steps_of_an_autotuned_device_are_slow_for_three_or_four_steps():
    physics = make_scenario("autotuned", 8, 1).physics
    rng = np.random.default_rng(0)
    slowness = [physics.slowness(n, 0.0, rng) for n in range(8)]
    assert min(slowness[: physics.n_slow]) > 1.5 > max(slowness[physics.n_slow :])


def test_what_takes_too_long_is_timed_out():
    scenario = make_scenario("linear", 0, 1)
    found = ForeignRunner(scenario).probe(asked(scenario, timeout_s=1e-6))
    assert found.status is Status.TIMED_OUT


def test_the_description_counts_parameters_and_names_the_budget():
    scenario = make_scenario("three_features", 9, 1)
    found = ForeignRunner(scenario).describe([SMALL])
    assert found.parameters == ((SMALL, scenario.physics.family.parameters(SMALL)),)
    assert found.hardware.budget_bytes == scenario.physics.machine.budget_bytes
    loads = [batch.synthetic for batch in found.micro_batches]
    assert all(isinstance(load, Load) for load in loads)
    assert np.linalg.matrix_rank([[1, *(size for _, size in load.sizes)] for load in loads]) == 4
    assert isinstance(asked(scenario), ProbeSpec)
