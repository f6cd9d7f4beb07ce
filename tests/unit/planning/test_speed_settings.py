"""Settings that make a step faster: the fastest by a trial, none without one, and none that costs more than it saves."""

import pytest

from compass.config_files import load_config
from compass.optimizer_config import RuntimeRules
from compass.planning.prober import Prober
from compass.planning.speed_settings import choose_speed_settings, faster_step, faster_update
from compass.probe.settle import step_time
from compass.records import AXES, STAGES, Load, Outcome, Status

RULES = RuntimeRules()
FUSED, MATMUL, COMPILED = (next(axis for axis in AXES if axis.name == name) for name in ("fused", "matmul", "compiled"))


def prober_of(experiment):
    return Prober(experiment.runner, certify_again=0)


def updated(update_s, **outcome):
    return Outcome(status=Status.OK, update_s=update_s, step=step_time([0.1]), **outcome)


@pytest.mark.parametrize(
    ("plain_s", "fused_s", "chosen", "gain"),
    [(6e-3, 1.5e-3, "True", 4), (6e-3, 5.9e-3, "False", 59 / 60), (1, 2, "False", 2)],
)
def test_the_faster_weight_update_is_taken(plain_s, fused_s, chosen, gain):
    choice = faster_update(FUSED, {False: updated(plain_s), True: updated(fused_s)}, RULES)
    assert (choice.setting, choice.chosen, choice.gain) == ("fused", chosen, pytest.approx(gain))
    assert [(trial.value, trial.step_s) for trial in choice.tried] == [("False", plain_s), ("True", fused_s)]


def test_the_weight_update_is_told_beside_its_step():
    choice = faster_update(FUSED, {False: updated(6e-3), True: updated(1.5e-3)}, RULES)
    assert choice.why == "a small model's weight update takes 6 ms not fused and 2 ms fused, of a step of 100 ms"


@pytest.mark.parametrize("fused", [Outcome(status=Status.CRASHED, detail="no kernel"), updated(None)])
def test_without_a_fused_kernel_there_is_none(fused):
    choice = faster_update(FUSED, {False: updated(6e-3), True: fused}, RULES)
    assert (choice.chosen, choice.gain) == ("False", None)
    assert choice.why == ": ".join(filter(None, ["the trial did not run", fused.detail]))


def test_both_updates_are_tried_on_one_small_model(experiment_of):
    experiment = experiment_of(lambda _: 0.1)
    (choice,) = choose_speed_settings(experiment, prober_of(experiment), experiment.config)
    plain, fused = experiment.runner.asked
    assert [spec.knobs.variant.fused for spec in (plain, fused)] == [False, True]
    assert plain.model_copy(update={"knobs": fused.knobs}) == fused
    assert choice.why == "the trial did not run"  # this machine does not time updates
    asked = load_config(None, [f"stages.{stage}.fused=[true]" for stage in STAGES])
    assert choose_speed_settings(experiment, prober_of(experiment), asked) == ()


# ----------------------------------------------------------------------------------------------------- whole steps


def stepped(step_s, *, prepared_s=0.0, graphs=10):
    load = Load(graphs=graphs, sizes=(("nodes", 1.0),))
    wall_s = 5 * step_s + prepared_s
    return Outcome(status=Status.OK, step=step_time([step_s] * 4), n_steps=5, wall_s=wall_s, load=load)


@pytest.mark.parametrize(
    ("plain", "compiled", "n_trained", "chosen", "gain", "why"),
    [
        (
            0.5,
            stepped(0.25, prepared_s=100),
            10**6,
            "True",
            2,
            "500 ms not compiled and 250 ms compiled after 100.0 s of preparation",
        ),
        (
            0.5,
            stepped(0.25, prepared_s=100),
            1000,
            "False",
            0.5,
            "500 ms not compiled and 250 ms compiled after 100.0 s of preparation, of which a training would save 25.0 s",
        ),
        (0.5, stepped(0.49), 10**6, "False", 0.98, "500 ms not compiled and 490 ms compiled"),
        (
            0.5,
            stepped(4.0, prepared_s=200),
            10**6,
            "False",
            8,
            "500 ms not compiled and 4.0 s compiled after 3.3 min of preparation",
        ),
    ],
)
def test_compiling_must_repay_itself_within_a_training(plain, compiled, n_trained, chosen, gain, why):
    choice = faster_step(COMPILED, {False: stepped(plain), True: compiled}, n_trained, RULES)
    assert (choice.setting, choice.chosen, choice.gain) == ("compiled", chosen, pytest.approx(gain))
    assert choice.why == f"a small model's step takes {why}"


def test_without_a_compiler_there_is_no_comparison():
    failed = Outcome(status=Status.CRASHED, detail="InvalidCxxCompiler: no compiler")
    choice = faster_step(COMPILED, {False: stepped(0.5), True: failed}, 10**6, RULES)
    assert (choice.chosen, choice.gain) == ("False", None)
    assert choice.why == "the trial did not run: InvalidCxxCompiler: no compiler"


def test_what_a_stage_allows_is_tried_for_all(experiment_of):
    experiment = experiment_of(lambda _: 0.1)
    asked = load_config(None, ['stages.production.matmul=["full","reduced"]', "stages.prototyping.fused=[false]"])
    choices = choose_speed_settings(experiment, prober_of(experiment), asked)
    assert [choice.setting for choice in choices] == ["fused", "matmul"]
    assert choices[1].why == "a small model's step takes 100 ms with full matmul and 100 ms with reduced matmul"
    assert [spec.knobs.variant.matmul for spec in experiment.runner.asked[2:]] == ["full", "reduced"]
