"""The passes of a calibration, on a simulated machine."""

from types import SimpleNamespace

import pytest

from benchmarks.foreign.runner import ForeignRunner
from benchmarks.foreign.scenarios import make_scenario
from compass.config_files import load_config
from compass.planning.calibration import _Progress, calibrate, launching, learn_warming, look_at_models, timing_spec
from compass.planning.request import Request
from compass.planning.session import make_experiment, make_prober, wanted_variants
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.records import Knobs, RuntimeSettings, Variant
from compass.stages import POLICIES


def test_launch_overhead_is_read_from_the_first_of_each_variant_and_the_deepest():
    plain, checkpointed = Variant(), Variant(checkpointing=True)
    anchors = [
        Knobs(layers=layers, channels=32, variant=variant)
        for variant, depths in ((plain, (2, 3, 8)), (checkpointed, (4, 5)))
        for layers in depths
    ]
    assert [(knobs.layers, knobs.variant) for knobs in launching(anchors)] == [
        (2, plain), (4, checkpointed), (8, plain),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def calibrated():
    request = Request(config=load_config(None, ["stages.prototyping.checkpointing=[false]"]), dataset_size=19_000)
    experiment = make_experiment(request, SimulatedRunner(machine_named("RTX 4090")), None, RuntimeSettings(threads=1))
    seen = []
    prober = make_prober(experiment, seen.append)
    calibrate(experiment, prober, wanted_variants(experiment.config))
    return experiment, prober, seen


def test_micro_probes_come_first_and_predict_nothing(calibrated):
    experiment, prober, _ = calibrated
    synthetic = [probed.spec.batches[0].synthetic is not None for probed in prober.probed]
    n_micro = sum(synthetic)
    assert synthetic == [True] * n_micro + [False] * (len(synthetic) - n_micro)
    assert all(probed.expected is None for probed in prober.probed[:n_micro])
    assert all(probed.expected.step_s is None for probed in prober.probed[n_micro:])
    assert {(probed.phase, probed.stage) for probed in prober.probed} == {("calibrate", None)}
    assert [(probed.spec, probed.outcome) for probed in prober.probed] == experiment.runner.probes


def test_progress_counts_to_its_end(calibrated):
    _, _, seen = calibrated
    memory = seen[0].n_expected
    for part in (seen[:memory], seen[memory:]):
        assert [now.n_done for now in part] == list(range(len(part)))
        assert {now.n_expected for now in part} == {len(part)}


def test_probes_that_were_made_before_are_no_progress(calibrated):
    specs, told = [spec for spec, _ in calibrated[0].runner.probes[:4]], []
    prober = SimpleNamespace(
        knows=lambda spec: spec in specs[1:3], report=lambda *step, **_: told.append((step[2], step[3]))
    )
    progress = _Progress(prober, "times", len(specs))
    for spec in specs:
        progress.report(spec)
    assert told == [(0, 4), (1, 3), (1, 2), (1, 2)]


def test_later_probes_have_a_predicted_time(calibrated):
    experiment, _, _ = calibrated
    spec = timing_spec(experiment, next(iter(experiment.capacities)))
    expected = experiment.expected(spec)
    assert expected.step_s > 0
    assert expected.spread > 0
    assert expected.footprint_bound_bytes <= experiment.budget_bytes


@pytest.mark.parametrize(("kind", "slow"), [("linear", set()), ("autotuned", {1, 2})])
def test_steps_that_are_slow_at_first_are_counted_once_and_added_to_every_timing(kind, slow):
    scenario = make_scenario(kind, 3, seed=0)
    experiment = make_experiment(
        Request(config=scenario.config), ForeignRunner(scenario), None, RuntimeSettings(threads=1)
    )
    prober = make_prober(experiment)
    learn_warming(experiment, prober, wanted_variants(experiment.config))
    assert experiment.n_warming in (slow or {0})
    assert len(prober.probed) == 1
    calibrate(experiment, prober, wanted_variants(experiment.config))
    spec = timing_spec(experiment, next(iter(experiment.capacities)))
    assert spec.min_steps == experiment.config.probe.anchor_steps[0] + experiment.n_warming


@pytest.mark.parametrize(("kind", "is_looked_at"), [("linear", False), ("stepped_workspace", True)])
def test_where_no_memory_law_holds_the_models_to_pick_are_looked_at(kind, is_looked_at):
    """One library's workspace fills 160 MiB from some width on: the margin for that would leave most of a small memory empty."""
    scenario = make_scenario(kind, 146, seed=1)
    experiment = make_experiment(
        Request(config=scenario.config, dataset_size=scenario.dataset_size),
        ForeignRunner(scenario),
        None,
        RuntimeSettings(threads=1),
    )
    prober = make_prober(experiment)
    calibrate(experiment, prober, wanted_variants(experiment.config))
    n_before, policy = len(prober.probed), POLICIES["production"]
    before = policy.rank(experiment.known())
    look_at_models(policy, experiment, prober)
    looked_at = prober.probed[n_before:]
    assert (len(looked_at) > 0) == is_looked_at
    assert all(one.spec.batches[0].synthetic is not None for one in looked_at)
    after = policy.rank(experiment.known())
    assert experiment.costs().memory.observed(after.pick.knobs)
    assert (after.pick.capacity > before.pick.capacity) == is_looked_at
