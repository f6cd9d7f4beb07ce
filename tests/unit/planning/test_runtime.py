"""Runtime settings follow what was measured, and nothing is measured where it cannot matter."""

import pytest

from compass.config_files import load_config
from compass.optimizer_config import RuntimeRules
from compass.planning.prober import Prober
from compass.planning.runtime import (
    calmer_waiting,
    choose_loaders,
    choose_settings,
    choose_threads,
    choose_waiting,
    fastest_threads,
)
from compass.probe.settle import step_time
from compass.records import RuntimeTrial, StepTime

RULES = RuntimeRules()


def trials(**step_s):
    return [RuntimeTrial(value=name.strip("_"), step_s=value) for name, value in step_s.items()]


# --------------------------------------------------------------------------------------------------------- threads


@pytest.mark.parametrize(
    ("every", "half", "chosen", "gain", "why"),
    [
        (0.5, 0.4, "4", 1.25, "half of the cores: a step takes 500 ms on all cores, 400 ms on half of them"),
        (0.5, 0.75, "8", 1.5, "every core: a step takes 500 ms on all cores, 750 ms on half of them"),
        (0.5, 0.49, "8", 0.98, "every core: a step takes 500 ms on all cores, 490 ms on half of them"),
        (None, 0.49, "8", None, "every core: the trial did not run"),
        (0.5, None, "8", None, "every core: the trial did not run"),
    ],
)
def test_half_of_the_cores_only_if_that_is_clearly_faster(every, half, chosen, gain, why):
    choice = fastest_threads(trials(_8=every, _4=half), RULES)
    assert (choice.setting, choice.chosen, choice.gain, choice.why) == ("threads", chosen, gain, why)
    assert [trial.step_s for trial in choice.tried] == [every, half]


def prober_of(experiment):
    return Prober(experiment.runner, certify_again=0)


def test_threads_are_compared_on_a_batch_that_can_be_shared_out(experiment_of):
    experiment = experiment_of(lambda runtime: 1.0 / min(runtime.threads, 4))
    assert choose_threads(experiment, prober_of(experiment)).chosen == "8"
    specs = experiment.runner.asked
    assert experiment.runner.prepared == specs
    assert [spec.runtime.threads for spec in specs] == [8, 4]
    assert {spec.batches[0].members for spec in specs} == {(("one", 17),)}
    assert {(spec.knobs.layers, spec.knobs.channels) for spec in specs} == {(3, 48)}


@pytest.mark.parametrize(
    ("nodes", "edges", "n"), [(6000.0, 120_000.0, 1), (20_000.0, 600_000.0, None), (10.0, 90.0, 400), (1.0, 0.0, 512)]
)
def test_nothing_large_is_run_before_its_memory_is_known(experiment_of, nodes, edges, n):
    """A whole protein of 20,000 atoms took 11 GiB under a limit of 2: then made-up graphs will do. Nor more copies than a batch may have."""
    experiment = experiment_of(lambda runtime: 1.0, "batch.max_batch=512", nodes=nodes, edges=edges)
    choose_threads(experiment, prober_of(experiment))
    (batch,) = {spec.batches[0] for spec in experiment.runner.asked}
    assert batch.members == ((("one", n),) if n else ())
    assert (batch.synthetic is None) == (n is not None)


@pytest.mark.parametrize(
    ("changes", "given", "why"),
    [
        (["runtime.threads=8"], {}, "as configured"),
        ([], {"kind": "cuda"}, "every core: the device computes, and the threads feed it"),
        ([], {"threads": 2}, "every core: there are too few to leave one idle"),
    ],
)
def test_where_nothing_is_measured(experiment_of, changes, given, why):
    experiment = experiment_of(lambda _: 1.0, *changes, **given)
    choice = choose_threads(experiment, prober_of(experiment))
    assert (choice.chosen, choice.why, choice.tried) == (str(experiment.settings.threads), why, ())
    assert experiment.runner.asked == []


# --------------------------------------------------------------------------------------------------------- waiting


def steps(*step_s):
    return step_time(step_s)


@pytest.mark.parametrize(
    ("spin", "sleep", "chosen", "gain", "why"),
    [
        (steps(0.1, 0.1, 0.1, 0.11, 0.14), steps(0.15, 0.15, 0.15), "spin", 0.15 / 0.11, "cores are idle: a step takes 110 ms spinning, 150 ms sleeping"),
        (steps(0.1, 0.1, 0.1, 0.1, 0.15), steps(0.14, 0.14, 0.14), "spin", 0.14 / 0.11, "cores are idle: a step takes 110 ms spinning, 140 ms sleeping"),
        (steps(0.1, 0.1, 0.1, 0.2, 0.5), steps(0.15, 0.15, 0.15), "sleep", 0.2 / 0.15, "cores are shared: a step takes 200 ms spinning, 150 ms sleeping"),
        (steps(0.145, 0.145, 0.145), steps(0.15, 0.15, 0.15), "sleep", 145 / 150, "cores are shared: a step takes 145 ms spinning, 150 ms sleeping"),
        (StepTime(median_s=0.1, low_s=0.1, high_s=0.5, n_steps=5), steps(0.15), "spin", 1.5, "cores are idle: a step takes 100 ms spinning, 150 ms sleeping"),
        (None, steps(0.15), "sleep", None, "the trial of spinning did not end: other programs use the cores, or it failed"),
        (steps(0.1), None, "sleep", None, "the trial did not run"),
    ],
)  # fmt: skip
def test_threads_spin_only_where_the_mean_step_gains_clearly(spin, sleep, chosen, gain, why):
    choice = calmer_waiting(spin, sleep, RULES)
    assert (choice.setting, choice.chosen, choice.why) == ("waiting", chosen, why)
    assert choice.gain == pytest.approx(gain)


def test_ways_to_wait_are_compared_on_short_steps_and_the_chosen_threads(experiment_of):
    experiment = experiment_of(
        lambda runtime: {"spin": 0.1, "sleep": 0.2}[runtime.waiting] * (1 if runtime.threads == 4 else 2)
    )
    settings, choices = choose_settings(experiment, prober_of(experiment))
    assert (settings.threads, settings.waiting) == (4, "spin")
    assert [choice.setting for choice in choices] == ["threads", "waiting"]
    specs = experiment.runner.asked[2:]
    assert [(spec.runtime.threads, spec.runtime.waiting) for spec in specs] == [(4, "spin"), (4, "sleep")]
    assert {spec.batches[0].members for spec in specs} == {(("one", 2),)}
    spinning, first_of_calibration = experiment.runner.prepared[2:]  # their workers start side by side
    assert spinning == specs[0]
    assert (first_of_calibration.fresh, first_of_calibration.runtime) == (True, experiment.runtime("fast"))


def test_where_nothing_takes_cores_spinning_is_not_compared(experiment_of):
    experiment = experiment_of(lambda _: 0.1, others_cores=0.04)
    choice = choose_waiting(experiment, prober_of(experiment), experiment.settings)
    assert (choice.chosen, choice.gain) == ("spin", None)
    assert choice.why == "cores are idle: all other programs used 0.04 cores while threads spun"
    assert [(trial.value, trial.step_s) for trial in choice.tried] == [("spin", 0.1)]
    assert [spec.runtime.waiting for spec in experiment.runner.asked] == ["spin"]


@pytest.mark.parametrize("others_cores", [0.1, None])
def test_where_something_may_take_cores_it_is(experiment_of, others_cores):
    experiment = experiment_of(lambda _: 0.1, others_cores=others_cores)
    assert choose_waiting(experiment, prober_of(experiment), experiment.settings).chosen == "sleep"


@pytest.mark.parametrize(
    ("spin_s", "chosen", "n_tries"),
    [((0.19, 0.12), "spin", 2), ((0.28, 0.12), "spin", 2), ((0.31, 0.12), "sleep", 1), ((0.22, 0.21), "sleep", 2), ((0.18,), "spin", 1)],
)  # fmt: skip
def test_a_narrow_loss_is_tried_once_more(experiment_of, spin_s, chosen, n_tries):
    took_s = iter(spin_s)
    experiment = experiment_of(lambda runtime: 0.2 if runtime.waiting == "sleep" else next(took_s))
    assert choose_waiting(experiment, prober_of(experiment), experiment.settings).chosen == chosen
    assert [spec.runtime.waiting for spec in experiment.runner.asked] == ["spin", "sleep"] + ["spin"] * (n_tries - 1)


@pytest.mark.parametrize(
    ("changes", "given", "chosen", "why"),
    [
        (["runtime.waiting=spin"], {}, "spin", "as configured"),
        ([], {"kind": "cuda"}, "sleep", "the library's default: the device computes"),
        ([], {"threads": 1}, "sleep", "the library's default: a single thread does not wait"),
    ],
)
def test_where_ways_to_wait_are_not_compared(experiment_of, changes, given, chosen, why):
    experiment = experiment_of(lambda _: 1.0, *changes, **given)
    choice = choose_waiting(experiment, prober_of(experiment), experiment.settings)
    assert (choice.chosen, choice.why, choice.tried) == (chosen, why, ())
    assert experiment.runner.asked == []


# --------------------------------------------------------------------------------------------------------- loaders


@pytest.fixture
def loaders(profile):
    """Chooses for a plan whose step takes 2 s."""

    def choose(collate_s, *, n_cores=8, on_cpu=False, noun=""):
        plan = profile.plans["prototyping"]
        measured = plan.measured.model_copy(update={"collate_s": collate_s})
        return choose_loaders(plan.model_copy(update={"measured": measured}), n_cores, RULES, on_cpu=on_cpu, noun=noun)

    return choose


@pytest.mark.parametrize(
    ("collate_s", "n_cores", "chosen"),
    [(0.0, 8, 0), (0.04, 8, 0), (0.05, 8, 1), (1.3, 8, 1), (1.4, 8, 2), (8.0, 8, 6), (8.0, 4, 3), (8.0, 1, 1)],
)
def test_enough_loaders_to_hide_what_is_worth_hiding(loaders, collate_s, n_cores, chosen):
    assert loaders(collate_s, n_cores=n_cores).chosen == str(chosen)


def test_what_loading_takes_is_said(loaders):
    choice = loaders(0.5)
    assert (choice.setting, choice.stage) == ("loader_workers", "prototyping")
    assert choice.why == "preparing a batch takes 500 ms, 25.0% of a step"
    assert choice.tried == (RuntimeTrial(value="0", step_s=2.5),)
    assert choice.gain == 1.25
    assert loaders(0.5, n_cores=2, on_cpu=True).gain == 2.5 / 2.25  # the cores have it to do all the same


def test_a_stand_in_says_nothing_about_loading(loaders):
    choice = loaders(None)
    assert (choice.chosen, choice.why) == ("0", "copies of one complex do not show how long loading takes")
    assert loaders(None, noun="images").why == "copies of some images do not show how long loading takes"


@pytest.mark.parametrize("field", ["idle_cores", "trial_gain", "loader_share", "loader_headroom"])
def test_it_is_all_configuration(field):
    assert load_config(None, [f"runtime.{field}=0.5"]).runtime.model_dump()[field] == 0.5
