"""What does not run is named, stage by stage, whatever of it does not."""

import pytest

from compass.config_files import load_config
from compass.optimizer import Request, optimize
from compass.planning import session
from compass.planning.calibration import calibrate
from compass.planning.session import first_settings, make_experiment, make_prober, wanted_variants
from compass.probe.requests import timing_probe
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.records import Knobs, Outcome, RuntimeChoice, RuntimeSettings, Status


class Failing:
    """A machine on which some probes fail."""

    def __init__(self, fails):
        self._runner, self._fails = SimulatedRunner(machine_named("RTX 4090")), fails

    def describe(self, knobs=()):
        return self._runner.describe(knobs)

    def probe(self, spec):
        outcome = self._runner.probe(spec)
        return (
            Outcome(status=Status.INVALID, detail="no such sample", load=outcome.load) if self._fails(spec) else outcome
        )

    def close(self):
        self._runner.close()


def on_samples(spec):
    return bool(spec.batches[0].members)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_precision_of_which_no_step_could_be_timed_is_named(tmp_path, precision):
    """On an accelerator micro-probes tell nothing of time."""
    changes = [f'stages.{stage}.precision=["{precision}"]' for stage in ("prototyping", "validation")]
    runner = Failing(lambda spec: on_samples(spec) and spec.knobs.variant.precision == precision)
    profile = optimize(
        Request(config=load_config(None, changes), out=tmp_path / "p.json", dataset_size=19_000), runner=runner
    )
    assert {"prototyping", "validation"} <= profile.failures.keys()
    assert ("smoke_test" in profile.plans) == (precision == "bf16")
    assert "no such sample" in profile.failures["prototyping"].reason


def test_a_trial_of_settings_is_no_micro_probe():
    """It runs before calibration, and shows nothing of memory."""
    config = load_config(None, ["stages.prototyping.checkpointing=[false]"])
    experiment = make_experiment(
        Request(config=config),
        Failing(lambda spec: not on_samples(spec)),
        None,
        RuntimeSettings(threads=1),
    )
    (kind, *_) = kinds = wanted_variants(config)
    one = Knobs(layers=3, channels=48, variant=kind)
    prober = make_prober(experiment)
    trial = timing_probe(config.probe, one, experiment.sample_loads.typical(1), experiment.settings)
    assert prober.probe("runtime", trial).outcome.ok
    calibrate(experiment, prober, kinds)
    assert experiment.pruned.broken(one) == "invalid: no such sample"


# ------------------------------------------------------------------------------------- settings of another machine


@pytest.fixture
def earlier(tmp_path):
    """A profile whose steps ran on two threads that slept."""
    asked = Request(stages=("prototyping",), out=tmp_path / "p.json", dataset_size=1000)
    profile = optimize(asked, runner=Failing(lambda _: False))
    settings = RuntimeSettings(threads=2, waiting="sleep")
    plans = {stage: plan.model_copy(update={"runtime": settings}) for stage, plan in profile.plans.items()}
    choice = RuntimeChoice(setting="threads", chosen="2", why="")
    return profile.model_copy(update={"plans": plans, "runtime": (choice,)})


def test_what_was_settled_is_where_to_begin(earlier, monkeypatch):
    monkeypatch.setattr(session, "available_cores", lambda: 16)
    assert first_settings(earlier.config) == RuntimeSettings(threads=16, waiting="spin")
    assert first_settings(earlier.config, earlier) == RuntimeSettings(threads=2, waiting="sleep")
    config = load_config(None, ["runtime.spin_gain=0.1"], earlier.config)
    assert first_settings(config, earlier) == RuntimeSettings(threads=16, waiting="spin")


def test_settings_of_another_machine_are_not_compared_from(earlier, monkeypatch, tmp_path):
    """Half of its threads or all of them: of sixteen cores neither is every core."""
    opened = []

    class Local(Failing):
        def __init__(self, _, settings):
            super().__init__(lambda spec: False)
            opened.append(settings)

    monkeypatch.setattr(session, "available_cores", lambda: 16)
    monkeypatch.setattr(session, "local_runner", Local)
    request = Request(config=earlier.config, cache=tmp_path / "cache", dataset_size=1000)
    other = earlier.fingerprint.model_copy(update={"torch": "1.0"})
    moved = earlier.model_copy(update={"fingerprint": other})
    with session.open_experiment(request, None, lambda _: None, earlier=moved) as (experiment, _):
        assert experiment.settings.threads == 16
    assert [settings.threads for settings in opened] == [2, 16]


def test_models_that_are_invalid_as_a_kind_do_not_use_up_the_rounds(tmp_path):
    """Every wide model fails, in whatever probe: a stage learns that and takes the largest that runs."""
    asked = []

    def is_wide(spec):
        asked.append(spec)
        return spec.knobs.channels >= 80

    profile = optimize(
        Request(config=load_config(None, []), out=tmp_path / "p.json", dataset_size=19_000), runner=Failing(is_wide)
    )
    assert not profile.failures
    assert all(plan.choice.knobs.channels < 80 for plan in profile.plans.values())
    assert profile.plans["production"].choice.knobs.channels == 64
    assert sum(spec.fresh and spec.knobs.channels >= 80 for spec in asked) <= 3


def test_models_that_fail_only_as_certificates_end_a_stage_in_time(tmp_path):
    asked = []

    def is_certificate(spec):
        asked.append(spec.fresh)
        return spec.fresh

    request = Request(
        config=load_config(None, []), out=tmp_path / "p.json", dataset_size=19_000, stages=("production",)
    )
    profile = optimize(request, runner=Failing(is_certificate))
    assert "no such sample" in profile.failures["production"].reason
    assert sum(asked) == 6  # twice the rounds
