"""The simulated runner keeps the protocol's promises."""

from __future__ import annotations

import time

import numpy as np
import pytest

from compass.probe.runner import Runner
from compass.probe.simulation import MACHINES, SimulatedRunner, load_of, machine_named
from compass.records import Batch, Description, Knobs, Outcome, ProbeSpec, RuntimeSettings, Status, Variant

POCKET = load_of(400, 11_000)
GIB = 1024**3


def spec(layers=4, channels=64, copies=1, **changes) -> ProbeSpec:
    plain = {
        "knobs": Knobs(layers=layers, channels=channels),
        "batches": (Batch(members=(("pocket", copies),)),),
        "min_steps": 5,
        "max_steps": 30,
        "timeout_s": 600.0,
        "runtime": RuntimeSettings(threads=1),
    }
    return ProbeSpec(**plain | changes)


@pytest.fixture
def runner() -> SimulatedRunner:
    return SimulatedRunner(machine_named("RTX 3090"), seed=7, samples=(("pocket", POCKET),))


def test_it_is_a_runner(runner):
    as_protocol: Runner = runner
    described = as_protocol.describe([Knobs(layers=6, channels=128)])
    assert Description.model_validate_json(described.model_dump_json()) == described
    assert described.features == ("nodes", "edges")
    assert dict(described.samples) == {"pocket": POCKET}
    assert described.parameters[0][1] > 1e6
    assert described.hardware.budget_bytes < described.hardware.total_bytes
    as_protocol.close()
    as_protocol.close()


def test_an_ok_outcome_has_everything_and_a_json_form(runner):
    outcome = runner.probe(spec())
    assert outcome.status is Status.OK
    assert Outcome.model_validate_json(outcome.model_dump_json()) == outcome
    assert outcome.load == POCKET
    assert outcome.step.low_s <= outcome.step.median_s <= outcome.step.high_s
    assert outcome.step.n_steps == outcome.n_steps - 3  # two warm-up steps, one under the profiler
    names = [name for name, _ in outcome.segments]
    assert names == [
        *(f"forward:{place}" for place in ("stem", "first", "early", "late", "last", "head")),
        *(f"backward:{place}" for place in ("head", "last", "late", "early", "first", "stem")),
        "optimizer",
    ]
    assert max(peak for _, peak in outcome.segments) == outcome.live_bytes
    assert outcome.baseline_bytes < outcome.live_bytes + outcome.baseline_bytes <= outcome.footprint_bytes


def test_with_two_layers_there_is_no_segment_between_them(runner):
    names = [name for name, _ in runner.probe(spec(layers=2)).segments]
    assert not {"backward:early", "backward:late"} & set(names)
    assert {"backward:first", "backward:last"} <= set(names)


def test_a_checkpointed_layer_has_a_segment_of_its_second_forward_pass(runner):
    names = [
        name
        for name, _ in runner.probe(
            spec(knobs=Knobs(layers=4, channels=64, variant=Variant(checkpointing=True)))
        ).segments
    ]
    assert [name for name in names if name.startswith("recompute")] == [
        "recompute:last",
        "recompute:late",
        "recompute:early",
        "recompute:first",
    ]


def test_the_truth_is_what_probes_find(runner):
    outcome = runner.probe(spec(copies=6))
    knobs, load = spec().knobs, POCKET * 6
    assert outcome.live_bytes == runner.true_live_bytes(knobs, load)
    assert outcome.footprint_bytes == runner.true_footprint_bytes(knobs, load)
    assert outcome.step.median_s == pytest.approx(runner.true_step_s(knobs, load), rel=0.04)


def test_the_same_question_has_the_same_answer_and_a_repeated_one_another():
    first, second = (SimulatedRunner(machine_named("RTX 3090"), seed=7) for _ in range(2))
    second.probe(spec(layers=3))  # another question in between changes nothing
    a, b = first.probe(spec()), second.probe(spec())
    assert a.step == b.step
    assert first.probe(spec()).step != a.step
    assert first.probe(spec(timeout_s=500.0)).step != a.step  # patience is not part of the question
    assert SimulatedRunner(machine_named("RTX 3090"), seed=8).probe(spec()).step != a.step


def test_batches_run_in_order_and_only_the_last_is_timed(runner):
    batches = tuple(Batch(members=(("pocket", copies),)) for copies in (4, 2, 1))
    outcome = runner.probe(spec(batches=batches, min_steps=3, profile=False))
    assert outcome.load == POCKET
    assert outcome.live_bytes == pytest.approx(runner.true_live_bytes(spec().knobs, POCKET * 4), rel=0.01)
    assert outcome.step.median_s == pytest.approx(runner.true_step_s(spec().knobs, POCKET), rel=0.04)
    assert outcome.segments == ()


def test_what_is_profiled_is_the_last_batch_and_not_the_one_that_is_timed(runner):
    large, small = (Batch(members=(("pocket", n),)) for n in (4, 1))
    plain = runner.probe(spec(batches=(large,), profile=True))
    timed = runner.probe(spec(batches=(large,), timed=small, profile=True, min_steps=9, max_steps=9))
    assert (timed.load, timed.timed_load) == (plain.load, runner.probe(spec(batches=(small,))).load)
    assert timed.segments == plain.segments
    assert max(n_bytes for _, n_bytes in timed.segments) == pytest.approx(timed.live_bytes, rel=0.005)


def test_steps_are_within_what_was_asked(runner):
    assert runner.probe(spec(min_steps=4, max_steps=4, profile=False)).n_steps == 4
    assert runner.probe(spec(settle_share=0.0, max_steps=20)).n_steps == 21
    assert runner.probe(spec(settle_share=0.5)).n_steps == 6


def test_synthetic_batches(runner):
    load = load_of(100, 900)
    outcome = runner.probe(spec(batches=(Batch(synthetic=load),)))
    assert outcome.ok
    assert outcome.load == load


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"knobs": Knobs(layers=2, channels=20)}, "channels: got 20, expected a multiple of the 8 heads"),
        ({"knobs": Knobs(layers=2, channels=16, variant=Variant(options=(("lmax", 3),)))}, "lmax: got 3, expected 1 or 2"),
        ({"batches": (Batch(members=(("2xyz", 1),)),)}, "there is no sample '2xyz'"),
        ({"batches": (Batch(),)}, "a batch is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_invalid(runner, change, detail):
    outcome = runner.probe(spec(**change))
    assert (outcome.status, outcome.detail) == (Status.INVALID, detail)


def test_out_of_memory_exactly_at_the_ceiling(runner):
    footprint = runner.true_footprint_bytes(spec().knobs, POCKET * 5)
    assert runner.probe(spec(copies=5, ceiling_bytes=footprint)).ok
    outcome = runner.probe(spec(copies=5, ceiling_bytes=footprint - 1))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.step is None
    assert outcome.n_steps < 3


def test_out_of_memory_at_the_devices_end(runner):
    outcome = runner.probe(spec(copies=500))
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.detail.startswith("CUDA out of memory: ")


def test_a_spill_is_slow_and_counts_as_out_of_memory():
    runner = SimulatedRunner(machine_named("RTX 3060 Laptop"), samples=(("pocket", POCKET),))
    large = spec(copies=60)
    outcome = runner.probe(large)
    assert outcome.status is Status.OUT_OF_MEMORY
    assert outcome.detail.startswith("spilled: ")
    assert outcome.n_steps == 1
    assert outcome.wall_s > 10 * runner.true_step_s(large.knobs, POCKET * 60)
    under_ceiling = runner.probe(spec(copies=60, ceiling_bytes=4 * GIB))
    assert under_ceiling.detail.startswith("CUDA out of memory: ")


def test_timeouts_are_honoured(runner):
    outcome = runner.probe(spec(copies=10, timeout_s=6.0))
    assert outcome.status is Status.TIMED_OUT
    assert outcome.wall_s == 6.0
    assert runner.probe(spec(fresh=True, timeout_s=1.0)).status is Status.TIMED_OUT


def test_a_fresh_process_takes_its_time_to_start(runner):
    runner.probe(spec())
    lasting, fresh = runner.probe(spec()), runner.probe(spec(fresh=True))
    assert fresh.wall_s > lasting.wall_s + 0.8 * runner.machine.startup_s


@pytest.mark.slow
def test_noise_has_its_declared_size():
    machine = machine_named("RTX 4090")
    medians = []
    for seed in range(200):
        runner = SimulatedRunner(machine, seed=seed, samples=(("pocket", POCKET),))
        medians.append(runner.probe(spec(copies=8, min_steps=20, max_steps=20)).step.median_s)
    medians = np.array(medians) / runner.true_step_s(spec().knobs, POCKET * 8)
    assert abs(np.mean(medians) - (1 - machine.boost_share)) < 0.005
    assert 0.0005 < np.std(medians) < 0.01


@pytest.mark.slow
def test_most_probes_settle_soon():
    for machine in MACHINES:
        runners = [SimulatedRunner(machine, seed=seed, samples=(("pocket", POCKET),)) for seed in range(5)]
        steps = [
            runner.probe(spec(layers, 16 * c, settle_share=0.03)).n_steps
            for runner in runners
            for layers in (2, 3, 4)
            for c in (2, 4, 6)
        ]
        assert np.median(steps) <= 12, machine.name


def test_probing_takes_no_time_to_speak_of(runner):
    runner.probe(spec())
    started = time.process_time()
    for copies in range(1, 11):
        runner.probe(spec(copies=copies))
    assert (time.process_time() - started) / 10 < 0.05
