"""The judge of the search benchmark is itself right."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks import search
from benchmarks.baselines import BASELINES
from benchmarks.counting import CountingRunner
from benchmarks.oracle import SEARCHED, Oracle, Pick
from benchmarks.scenarios import make_scenarios
from compass.probe.simulation.step import n_parameters
from compass.records import Batch, Knobs, Load, ProbeSpec, RuntimeSettings, Variant


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    small = next(s for s in make_scenarios(40, seed=3) if s.dataset_size == 800)
    return Oracle(small)


@pytest.mark.slow
def test_scenarios_are_reproducible_and_varied():
    scenarios = make_scenarios(60, seed=1)
    assert scenarios == make_scenarios(60, seed=1)
    assert len({s.machine.name for s in scenarios}) >= 8
    assert len({s.dataset_size for s in scenarios}) >= 5
    assert 0.2 < np.mean([s.memory_limit_bytes is not None for s in scenarios]) < 0.6
    atoms = [s.sample["nodes"] for s in scenarios]
    assert 150 <= min(atoms) < max(atoms) <= 1500


def test_the_data_cap_passes_through_its_points_and_is_clamped(oracle):
    caps = []
    for size in (100, 1_000, 10_000, 25_000, 100_000, 10**6):
        scenario = make_scenarios(1, seed=1)[0]
        caps.append(Oracle(type(scenario)(**vars(scenario) | {"dataset_size": size})).data_cap)
    assert caps == pytest.approx([250e3, 250e3, 750e3, 1e6, 2e6, 2e6])


def test_the_largest_batch_fits_and_the_next_does_not(oracle):
    for layers, channels in oracle.architectures():
        knobs = Knobs(layers=layers, channels=channels)
        largest = oracle.largest_batch(knobs)
        assert largest == 0 or oracle.fits(knobs, largest)
        assert largest == oracle.batch_cap or not oracle.fits(knobs, largest + 1)


@pytest.mark.slow
def test_nothing_in_the_space_beats_the_verdict_by_more_than_a_tie(oracle):
    for stage in SEARCHED:
        verdict = oracle.verdict(stage)
        for layers, channels in oracle.stage_architectures(stage, n_parameters(oracle.reference.knobs)):
            for checkpointing in (False, True):
                knobs = Knobs(layers=layers, channels=channels, variant=Variant(checkpointing=checkpointing))
                for batch in range(2, oracle.largest_batch(knobs) + 1):
                    assert oracle.score(Pick(knobs, batch), stage) >= verdict.score / (1.0201 * 1.003)


def test_the_reference_scores_one_and_is_the_largest(oracle):
    reference = oracle.reference
    assert oracle.score(reference, "production") == pytest.approx(1.0)
    assert n_parameters(reference.knobs) <= oracle.data_cap
    larger = [
        a
        for a in oracle.architectures()
        if n_parameters(Knobs(layers=a[0], channels=a[1])) > 1.021 * n_parameters(reference.knobs)
    ]
    assert all(
        oracle.largest_batch(Knobs(layers=layers, channels=channels, variant=Variant(checkpointing=c))) < 2
        for layers, channels in larger for c in (False, True)
    )  # fmt: skip


def test_late_samples_count_for_less_and_too_late_ones_for_nothing(oracle):
    rules = oracle.config.stages.prototyping.model_copy(update={"target_s": 100.0, "window_s": 50.0})
    assert oracle.worth(np.array([50.0, 100.0, 125.0, 150.0, 150.1]), rules) == pytest.approx([1, 1, 0.75, 0.5, 0])
    assert oracle.worth(152.0, rules, grace=0.05) == pytest.approx(0.48)


def test_a_plan_that_does_not_fit_scores_infinitely_badly(oracle):
    assert oracle.score(Pick(Knobs(layers=2, channels=64), 10**6), "validation") == float("inf")


def test_probes_are_counted_by_purpose():
    runner = CountingRunner(make_scenarios(1, seed=0)[0].runner())
    member, made_up = (
        Batch(members=(("pocket", 1),)),
        Batch(synthetic=Load(graphs=1, sizes=(("nodes", 100), ("edges", 900)))),
    )
    for batch, fresh in ((member, False), (member, True), (made_up, False)):
        runner.probe(ProbeSpec(
            knobs=Knobs(layers=2, channels=16), batches=(batch,), min_steps=4, max_steps=4, profile=False, fresh=fresh,
            timeout_s=100.0, runtime=RuntimeSettings(threads=1),
        ))  # fmt: skip
    assert [purpose for purpose, _, _ in runner.made] == ["search", "certify", "calibrate"]
    assert runner.n_steps("search") == runner.n_steps("calibrate") == 4
    assert runner.n_steps("search", "certify") == 8
    assert runner.n_architectures("search") == 1
    assert runner.n_out_of_memory() == 0
    assert runner.wall_s() > 0


def test_a_search_that_knows_the_answer_has_no_regret(oracle):
    scenario = next(s for s in make_scenarios(40, seed=3) if s.dataset_size == 800)
    truth = search.tell_truth(scenario)

    def cheat(_scenario, _runner):
        picks = {stage: verdict.pick for stage, verdict in truth.verdicts.items()}
        return picks | {"production": truth.oracle.reference}

    judged = search.judge(truth, cheat)
    assert set(judged.regret.values()) == {0.0}
    assert (judged.capacity_short, judged.throughput_short, judged.n_broken, judged.n_missing) == (0.0, 0.0, 0, 0)
    nothing = search.judge(truth, lambda _scenario, _runner: {})
    assert set(nothing.regret.values()) == {1.0}
    assert nothing.n_missing == 3


@pytest.mark.slow
def test_a_baseline_runs_and_the_last_line_is_json(capsys):
    assert set(BASELINES) == {"grid", "tradition", "optuna-gp", "optuna-tpe", "random"}
    assert search.main(["--quick", "--scenarios", "1", "--only", "random"]) == 0
    figures = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert figures["methods"]["random"]["n"] == 1
