"""A whole `optimize` on machines that are physics, and what must hold of it."""

import dataclasses
import json
import re
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.foreign.runner import ForeignRunner
from benchmarks.foreign.scenarios import make_scenario
from compass.cli.app import app
from compass.config_files import load_config
from compass.errors import InputError
from compass.optimizer import DECIDED, Request, optimize
from compass.planning import session
from compass.planning.calibration import calibrate
from compass.planning.certify import certify_stage
from compass.planning.session import make_experiment, make_prober, wanted_variants
from compass.probe.simulation import MACHINES, SimulatedRunner, load_of, machine_named
from compass.probe.site import Site, this_host
from compass.probe.store import Store
from compass.profile import read_profile
from compass.records import Knobs, Outcome, RuntimeSettings, Status
from compass.reporting.answers import epoch_words, memory_words, model_words
from compass.reporting.brief import brief_answers
from compass.reporting.evidence import of_profile
from compass.reporting.view import view_of
from compass.stages import POLICIES
from compass.units import format_duration

GIB = 1024**3
PLAIN = [f"stages.{stage}.checkpointing=[false]" for stage in ("prototyping", "validation", "production")]
"""Half of the calibration, for the tests that look at something else."""


class Altered:
    """A runner whose outcomes are changed on their way back."""

    def __init__(self, change, machine="RTX 4090", **given):
        self._runner, self._change = SimulatedRunner(machine_named(machine), **given), change
        self.specs = []

    def describe(self, knobs=()):
        return self._runner.describe(knobs)

    def probe(self, spec):
        self.specs.append(spec)
        return self._change(spec, self._runner.probe(spec))

    def close(self):
        self._runner.close()


def request(tmp_path, *changes, **given):
    given = {"dataset_size": 19_000, "out": tmp_path / "p.json", **given}
    return Request(config=load_config(None, changes), **given)


def graphs(spec):
    return sum(copies for _, copies in spec.batches[0].members)


def picks(profile):
    return {stage: (plan.choice.knobs, plan.choice.batch_size) for stage, plan in profile.plans.items()}


def test_a_step_that_waits_for_the_host_is_only_indicative(tmp_path):
    """Two graphs a batch, which this device is done with sooner than the host has launched them."""
    asked = request(tmp_path, *PLAIN, dataset_size=40, stages=("prototyping",))
    plan = optimize(asked, runner=SimulatedRunner(machine_named("RTX 4090"))).plans["prototyping"]
    assert plan.choice.batch_size <= 2
    assert plan.indicative


# ----------------------------------------------------------------------------------------------------- all ten machines


@pytest.fixture(scope="module")
def profiles(tmp_path_factory):
    out = tmp_path_factory.mktemp("machines") / "p.json"
    asked = Request(dataset_size=19_000, out=out)
    return {
        machine.name: optimize(asked, runner=SimulatedRunner(machine, seed=1))
        for machine in MACHINES
    }  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_machine_gets_four_plans_that_hold(profiles, machine):
    profile, truth = profiles[machine.name], SimulatedRunner(machine)
    assert list(profile.plans) == ["smoke_test", "prototyping", "validation", "production"]
    assert profile.failures == {}
    assert profile.probe_costs.out_of_memory == profile.probe_costs.runtime_probes == 0
    assert [(choice.setting, choice.stage, choice.chosen) for choice in profile.runtime] == [
        ("loader_workers", stage, "0") for stage in profile.plans
    ]
    reference, rules = profile.reference, profile.config.stages
    for stage, plan in profile.plans.items():
        load = plan.certificate.worst
        assert truth.true_footprint_bytes(plan.choice.knobs, load) <= plan.predicted.footprint_bound_bytes
        assert plan.predicted.footprint_bound_bytes <= profile.hardware.budget_bytes
        assert plan.certificate.footprint_bound_bytes <= profile.hardware.budget_bytes
        assert plan.bytes_law.upper_footprint(load) <= profile.hardware.budget_bytes  # or training would cut the batch
        assert truth.true_live_bytes(plan.choice.knobs, load) == pytest.approx(plan.predicted.live_bytes, rel=0.02)
        assert plan.measured.cycle_s == 450 * plan.measured.step.median_s
        if stage != "smoke_test":
            # A passively cooled card is still fast for the seconds that a certificate takes.
            off = 0.08 if machine.boost_share > 0.04 else 0.05
            assert 450 * truth.true_step_s(plan.choice.knobs, load) == pytest.approx(plan.measured.cycle_s, rel=off)
        assert plan.measured.throughput == plan.choice.batch_size / plan.measured.step.median_s
        assert plan.choice.capacity <= profile.data_cap
        assert plan.accumulate == max(1, -(-64 // plan.choice.batch_size))
        assert plan.indicative == (stage == "smoke_test")
        if rules[stage].target_s:
            assert plan.measured.cycle_s <= rules[stage].target_s + rules[stage].window_s
            assert plan.fastest is not None
            assert 0 < len(plan.runners_up) <= 4
            assert plan.choice.knobs in [member.knobs for member in plan.front]
    plans = profile.plans
    assert plans["smoke_test"].certificate.n_steps == profile.config.probe.smoke_steps + 1  # and one profiled
    assert len(plans["production"].certificate.batches) == 7
    assert 0.03 <= plans["prototyping"].choice.capacity / reference.capacity <= 0.30
    assert 0.30 <= plans["validation"].choice.capacity / reference.capacity <= 0.80
    assert reference == plans["production"].measured_choice


def number(pattern, text):
    """The number that a sentence gives where `pattern` has its group."""
    found = re.search(pattern, text)
    assert found, f"{pattern} in {text}"
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_statements_about_one_plan_agree(profiles, machine):
    """What the terminal, the page, Markdown and the JSON say of a plan are the same figures, and none looks better than the pick."""
    profile = profiles[machine.name]
    view = view_of(of_profile(profile, "p.json"))
    production, short = profile.plans["production"], brief_answers(profile)
    for stage, shown in zip(profile.plans, view.stages, strict=True):
        plan, config = profile.plans[stage], profile.config
        own, ceiling = plan.measured, plan.certificate.ceiling_bytes
        assert plan.epoch_s == pytest.approx(profile.dataset_size / plan.throughput)
        assert plan.training_s == pytest.approx(config.training.epochs * plan.epoch_s)
        assert own.footprint_bytes <= plan.certificate.footprint_bound_bytes <= ceiling <= profile.hardware.budget_bytes
        # the sentences
        facts = {gauge.label: gauge.says for gauge in shown.gauges}
        assert number(r"^([\d,]+)", facts["parameters"]) == plan.choice.capacity
        assert f"{plan.choice.capacity:,} parameters" in model_words(plan)
        assert format_duration(plan.epoch_s) in epoch_words(plan, profile.dataset_size)
        assert f"{plan.certificate.n_steps} steps" in memory_words(plan)
        assert short["stages"][stage]["batch_size"] == plan.choice.batch_size
        assert shown.limited_by == plan.limited_by
        if stage == "smoke_test":
            continue
        assert number(r"([\d,]+) parameters", plan.why) == plan.choice.capacity
        if stage == "production":
            continue
        assert number(r"([\d.,]+) graphs/s", plan.why) == pytest.approx(own.throughput, rel=0.01)
        share = number(r"\((\d+)% of the production", plan.why)
        assert share == round(100 * plan.choice.capacity / production.choice.capacity)
        assert number(r"score, ([\d.]+), of", plan.why) == pytest.approx(
            own.terms.samples + own.terms.parameters, abs=0.0011
        )
        # an alternative that looks better would have won
        picked = min(plan.predicted.score, own.terms.samples + own.terms.parameters)
        better = [one for one in plan.runners_up if one.score < picked * (1 - config.score.tie_share)]
        assert not better, (plan.why, better)
        said_nothing = "none of time, memory or data limits it" in plan.why
        assert said_nothing == (plan.limited_by == "score"), (plan.limited_by, plan.why)


def test_validation_names_the_prototype_it_follows(profiles):
    for profile in profiles.values():
        prototype, plan = profile.plans["prototyping"].choice, profile.plans["validation"]
        times = plan.choice.capacity / prototype.capacity
        assert plan.follows == (
            f"the prototyping plan ({prototype.knobs}, batch {prototype.batch_size}), with {times:.1f} times its parameters"
        )
        assert [p.follows for stage, p in profile.plans.items() if stage != "validation"] == ["", "", ""]


def test_one_seed_gives_one_profile(profiles, tmp_path):
    again = optimize(request(tmp_path), runner=SimulatedRunner(machine_named("RTX 3090"), seed=1))

    def lasting(profile):
        return {**profile.model_dump(), "created": "", "probe_costs": {**profile.probe_costs.model_dump(), "wall_s": 0}}

    assert lasting(again) == lasting(profiles["RTX 3090 24GB"])
    assert read_profile(tmp_path / "p.json") == again


@pytest.mark.parametrize("n_slow", [1, 5])
def test_a_certificate_far_slower_than_predicted_is_made_again(tmp_path, n_slow):
    calm = optimize(request(tmp_path, stages=("prototyping",)), runner=SimulatedRunner(machine_named("RTX 4090")))
    left = [n_slow]

    def disturbed(spec, outcome):
        if spec.ceiling_bytes is None or not left[0]:
            return outcome
        left[0] -= 1
        step = outcome.step
        slow = {name: 1.6 * getattr(step, name) for name in ("median_s", "low_s", "high_s", "mean_s")}
        return outcome.model_copy(update={"step": step.model_copy(update=slow)})

    runner = Altered(disturbed)
    profile = optimize(request(tmp_path, stages=("prototyping",)), runner=runner)
    certified = [spec for spec in runner.specs if spec.ceiling_bytes is not None]
    if n_slow == 1:  # something else was running
        assert len(certified) == 2
        assert picks(profile) == picks(calm)
        assert profile.plans["prototyping"].measured.cycle_s == pytest.approx(
            calm.plans["prototyping"].measured.cycle_s, rel=0.05
        )
    else:  # so it is: twice the same, and what else there is to choose from
        assert certified[0] == certified[1]
        assert profile.plans["prototyping"].certificate.n_steps > calm.plans["prototyping"].certificate.n_steps


@pytest.mark.parametrize("changes", [["options.heads=12"], ["options.heads=10", "channel_step=10"]])
def test_other_heads_get_four_plans_that_hold(tmp_path, changes):
    """On a small card, for where the heads share out no narrow widths every probe is of a wider model."""
    ended = []

    def seen(spec, outcome):
        ended.append(outcome.status)
        return outcome

    runner = Altered(seen, "RTX 3060 Laptop 6GB")
    profile = optimize(request(tmp_path, *(f"space.{change}" for change in changes)), runner=runner)
    assert set(ended) == {Status.OK}
    assert list(profile.plans) == ["smoke_test", "prototyping", "validation", "production"]
    truth = SimulatedRunner(machine_named("RTX 3060 Laptop 6GB"))
    for plan in profile.plans.values():
        load = plan.certificate.worst
        assert truth.true_footprint_bytes(plan.choice.knobs, load) <= plan.predicted.footprint_bound_bytes
        assert truth.true_live_bytes(plan.choice.knobs, load) == pytest.approx(plan.predicted.live_bytes, rel=0.02)


def test_listed_options_are_searched(tmp_path):
    """Radial functions change neither speed nor parameters on this machine; a higher lmax makes larger and slower models."""
    changes = [*PLAIN, "space.options.rbf=[32,28]", "space.options.lmax=[1,2]", "space.layers=[4,5]"]
    runner = SimulatedRunner(machine_named("RTX 3060 Laptop 6GB"))
    profile = optimize(request(tmp_path, *changes), runner=runner)
    assert list(profile.plans) == ["smoke_test", "prototyping", "validation", "production"]
    profile = read_profile(tmp_path / "p.json")
    for plan in list(profile.plans.values())[1:]:  # the smoke test takes what is smallest
        variant = plan.choice.knobs.variant
        assert (variant.searched, variant.option("rbf"), variant.option("heads")) == (("lmax", "rbf"), 32, 8)
        assert (
            runner.true_footprint_bytes(plan.choice.knobs, plan.certificate.worst)
            <= plan.predicted.footprint_bound_bytes
        )
        assert f"+lmax={variant.option('lmax')}+rbf=32" in str(plan.choice.knobs)
    production = profile.plans["production"]
    assert "; rbf changes neither speed nor size measurably, and stays at 32" in production.why
    assert {row.options for row in production.candidates} == {
        (("lmax", lmax), ("rbf", rbf)) for lmax in (1, 2) for rbf in (32, 28)
    }
    assert sum(row.is_of(production.choice.knobs) for row in production.candidates) == 1
    assert brief_answers(profile)["stages"]["production"]["rbf"] == 32
    assert "+rbf=32" in repr(view_of(of_profile(profile, "p.json")))


# ----------------------------------------------------------------------------------------------- laws of the decisions


@pytest.fixture(scope="module")
def experiment():
    """A calibrated experiment on a large dataset, where memory decides, with no checkpointing."""
    machine = SimulatedRunner(machine_named("RTX 3090"), samples=(("pocket", load_of(900, 25_000)),))
    asked = Request(config=load_config(None, PLAIN), dataset_size=200_000)
    experiment = make_experiment(asked, machine, None, RuntimeSettings(threads=1))
    calibrate(experiment, make_prober(experiment), wanted_variants(asked.config))
    experiment.reference = POLICIES["production"].rank(experiment.known()).pick
    return experiment


def with_budget(experiment, budget_bytes):
    return dataclasses.replace(experiment.known(), budget_bytes=budget_bytes)


budgets = st.integers(GIB, 24 * GIB)


@settings(max_examples=15, deadline=None)
@given(budgets, budgets)
def test_more_memory_never_lowers_productions_capacity(experiment, one, other):
    ranked = [POLICIES["production"].rank(with_budget(experiment, budget)) for budget in sorted((one, other))]
    if ranked[0] is not None:
        small, large = (max(choice.capacity for choice in ranking.choices) for ranking in ranked)
        assert small <= large
        # The fastest within 2 % is taken, which may be another one with more memory.
        assert ranked[0].pick.capacity * 0.98 <= ranked[1].pick.capacity


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["prototyping", "validation"]), budgets, budgets)
def test_more_memory_never_worsens_another_stages_score(experiment, stage, one, other):
    less, more = (POLICIES[stage].rank(with_budget(experiment, budget)) for budget in sorted((one, other)))
    if less is not None:
        # Within 1 % the stage's preference decides, not the score.
        assert more.pick.score <= less.pick.score * 1.01


def test_the_order_of_the_probes_does_not_matter(experiment):
    shuffled = dataclasses.replace(
        experiment, runner=type("Told", (), {"probes": experiment.runner.probes[::-1], "trained": []}), _fitted=None
    )
    for stage in ("prototyping", "validation", "production"):
        straight, back = (POLICIES[stage].rank(source.known()) for source in (experiment, shuffled))
        assert back.pick.knobs == straight.pick.knobs
        assert back.pick.batch_size == pytest.approx(straight.pick.batch_size, rel=0.01)
        assert back.pick.score == pytest.approx(straight.pick.score, rel=0.003)


# ------------------------------------------------------------------------------------------------------- what goes wrong


def test_a_stage_without_room_for_its_models_says_so(tmp_path):
    asked = request(tmp_path, *PLAIN, "stages.prototyping.target_s=0.001", "stages.prototyping.window_s=0")
    profile = optimize(asked, runner=SimulatedRunner(machine_named("RTX 4090")))
    assert set(profile.plans) == {"smoke_test", "validation", "production"}
    failure = profile.failures["prototyping"]
    assert failure.limited_by == "time"
    assert failure.reason.startswith("at batch 1, a cycle of the fastest model takes ")
    assert failure.nearest.batch_size == 1
    assert profile.plans["validation"].follows == ""


def test_a_plan_that_is_measured_too_late_is_none(tmp_path):
    def slow(spec, outcome):
        if not (spec.fresh and outcome.ok and graphs(spec) > 1):
            return outcome
        step = outcome.step
        late = {name: value * 3000 for name, value in step.model_dump().items() if name != "n_steps"}
        return outcome.model_copy(update={"step": step.model_copy(update=late)})

    profile = optimize(request(tmp_path, *PLAIN), runner=Altered(slow))
    assert set(profile.plans) == {"smoke_test", "production"}
    for stage, failure in profile.failures.items():
        assert failure.limited_by == "time"
        rules = profile.config.stages[stage]
        assert failure.nearest_cycle_s > rules.target_s + rules.window_s


@pytest.mark.parametrize("status", [Status.CRASHED, Status.INVALID, Status.TIMED_OUT])
def test_a_smoke_test_that_fails_does_not_cost_the_others(tmp_path, status):
    def broken(spec, outcome):
        return Outcome(status=status, detail="why") if spec.fresh and graphs(spec) == 1 else outcome

    profile = optimize(request(tmp_path, *PLAIN), runner=Altered(broken))
    assert set(profile.plans) == {"prototyping", "validation", "production"}
    failure = profile.failures["smoke_test"]
    assert (failure.limited_by, failure.reason, failure.nearest.batch_size) == ("model", f"{status}: why", 1)


def test_a_variant_that_does_not_run_leaves_the_others(tmp_path):
    def broken(spec, outcome):
        variant = spec.knobs.variant
        is_broken = variant.checkpointing or variant.precision == "bf16"
        return Outcome(status=Status.CRASHED, detail="no such kernel") if is_broken else outcome

    asked = request(tmp_path, 'stages.validation.precision=["bf16"]')
    profile = optimize(asked, runner=Altered(broken))
    assert {str(plan.choice.knobs.variant) for plan in profile.plans.values()} == {"fp32"}
    failure = profile.failures.pop("validation")
    assert profile.failures == {}
    assert failure.limited_by == "model"
    assert failure.reason.endswith("runs: crashed: no such kernel")


def test_running_out_of_memory_makes_the_next_batch_smaller(tmp_path):
    tried = []

    def tight(spec, outcome):
        if not spec.fresh or graphs(spec) == 1:
            return outcome
        tried.append(graphs(spec))
        return Outcome(status=Status.OUT_OF_MEMORY, detail="ran out") if len(tried) == 1 else outcome

    profile = optimize(request(tmp_path, *PLAIN, stages=("production",)), runner=Altered(tight))
    plan = profile.plans["production"]
    assert tried[1] < tried[0]
    assert plan.choice.batch_size in tried[1:]
    assert profile.probe_costs.out_of_memory == 1


def test_when_every_certificate_runs_out_memory_binds(tmp_path):
    def tight(spec, outcome):
        return Outcome(status=Status.OUT_OF_MEMORY, detail="ran out", enforced=True) if spec.fresh else outcome

    runner = Altered(tight)
    profile = optimize(request(tmp_path, *PLAIN), runner=runner)
    assert profile.plans == {}
    assert {failure.limited_by for failure in profile.failures.values()} == {"memory"}
    reasons = {stage: failure.reason for stage, failure in profile.failures.items()}
    assert reasons["validation"] == "out_of_memory: ran out"
    assert reasons["production"] == "out_of_memory: ran out"
    assert len([spec for spec in runner.specs if spec.fresh]) <= 12


def test_a_contender_that_cannot_be_timed_is_tried_once(tmp_path):
    refused, proven = [], set()

    def broken(spec, outcome):
        architecture = (spec.knobs.layers, spec.knobs.channels)
        if spec.fresh or not spec.batches[0].members or architecture in CONFIGURED:
            proven.update({spec.knobs} if spec.fresh else ())
            return outcome
        if spec.knobs not in proven:  # another batch of a certified model says nothing against its certificate
            refused.append(spec.knobs)
        return Outcome(status=Status.CRASHED, detail="why")

    CONFIGURED = set(load_config(None, ()).probe.anchor_architectures)  # noqa: N806
    profile = optimize(request(tmp_path, *PLAIN), runner=Altered(broken))
    assert len(refused) == len(set(refused)) > 0
    assert not {plan.choice.knobs for plan in profile.plans.values()} & set(refused)


def test_no_room_for_any_model(tmp_path):
    machine = machine_named("RTX 4090")
    limit = machine.context_bytes + 70 * 1024**2
    asked = request(tmp_path, *PLAIN)
    profile = optimize(asked, runner=SimulatedRunner(machine, memory_limit_bytes=limit))
    assert profile.plans == {}
    assert {failure.limited_by for failure in profile.failures.values()} == {"memory"}
    assert all(failure.nearest.footprint_bound_bytes > limit for failure in profile.failures.values())


def test_a_limit_below_an_idle_worker_is_refused(tmp_path):
    machine = machine_named("RTX 4090")
    with pytest.raises(InputError) as caught:
        optimize(request(tmp_path), runner=SimulatedRunner(machine, memory_limit_bytes=machine.context_bytes))
    assert str(caught.value) == (
        "memory limit: got 460.00 MiB; expected at least 524.00 MiB, of which an idle worker holds 460.00 MiB. "
        "Raise --memory-limit or free memory."
    )
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------ interrupted, and done again


def interrupted_at(stage):
    """A runner on which the user loses patience when the certificates of `stage` begin."""
    order, seen = [stage for group in DECIDED for stage in group], []

    def change(spec, outcome):
        if spec.fresh:
            key = (spec.knobs, spec.runtime.allocator)
            seen.extend([key] if key not in seen else [])
            if len(seen) > order.index(stage):
                raise KeyboardInterrupt
        return outcome

    return Altered(change)


def test_an_interrupt_keeps_what_is_finished(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        optimize(request(tmp_path, *PLAIN), runner=interrupted_at("prototyping"))
    assert set(read_profile(tmp_path / "p.json").plans) == {"smoke_test", "production"}
    assert [path.name for path in tmp_path.iterdir()] == ["p.json"]


def test_one_stage_again_keeps_the_others(tmp_path):
    def run(*stages, changes=()):
        asked = request(tmp_path, *PLAIN, *changes, stages=stages)
        return optimize(asked, runner=SimulatedRunner(machine_named("RTX 4090")))

    first = run("smoke_test", "prototyping", "production")
    assert set(first.plans) == {"smoke_test", "prototyping", "production"}
    second = run("validation")
    assert set(second.plans) == {*first.plans, "validation"}
    assert {stage: second.plans[stage] for stage in first.plans} == first.plans
    assert str(first.plans["prototyping"].choice.knobs) in second.plans["validation"].follows
    third = run("prototyping", changes=["stages.prototyping.target_s=0.001", "stages.prototyping.window_s=0"])
    assert set(third.plans) == {"smoke_test", "validation", "production"}
    assert set(third.failures) == {"prototyping"}
    assert third.plans["validation"].follows == ""
    assert read_profile(tmp_path / "p.json") == third


def test_stages_that_answered_another_question_are_named_as_they_go(tmp_path, caplog):
    def run(*stages, dataset_size):
        asked = request(tmp_path, *PLAIN, stages=stages, dataset_size=dataset_size)
        return optimize(asked, runner=SimulatedRunner(machine_named("RTX 4090")))

    run("smoke_test", dataset_size=5_000)
    assert run("prototyping", dataset_size=6_000).plans.keys() == {"prototyping"}
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"{tmp_path / 'p.json'}: dropping earlier plans (smoke_test): dataset size 5000, now 6000"
    ]


@pytest.mark.parametrize("before", ["", "{}", "not JSON", '{"schema_version": 1}'])
def test_what_is_no_profile_is_replaced(tmp_path, before):
    (tmp_path / "p.json").write_text(before)
    asked = request(tmp_path, *PLAIN, stages=("smoke_test",))
    assert optimize(asked, runner=SimulatedRunner(machine_named("RTX 4090"))) == read_profile(tmp_path / "p.json")


# ------------------------------------------------------------------------------------------------- on the command line


@pytest.fixture
def compass(tmp_path, monkeypatch):
    """The command line on a simulated machine."""
    monkeypatch.chdir(tmp_path)

    def run(runner, *args):
        monkeypatch.setattr(session, "local_runner", lambda request, settings: runner)
        changes = [word for change in PLAIN for word in ("--set", change)]
        args = ["optimize", "--dataset-size", "19000", "--cache", str(tmp_path / "cache"), *changes, *args]
        return CliRunner().invoke(app, args, catch_exceptions=False)

    return run


def test_exit_code_0(compass):
    result = compass(SimulatedRunner(machine_named("RTX 4090")), "--json")
    assert result.exit_code == 0
    assert set(json.loads(result.stdout)["plans"]) == {"smoke_test", "prototyping", "validation", "production"}


def test_exit_code_3_names_the_limit_and_the_nearest_miss(compass, tmp_path):
    machine = machine_named("RTX 4090")
    runner = SimulatedRunner(machine, memory_limit_bytes=machine.context_bytes + 70 * 1024**2)
    result = compass(runner, "--stages", "production")
    assert result.exit_code == 3
    assert result.stderr.splitlines()[-1].startswith(
        "production: no plan, limited by memory: one graph of the smallest model may need "
    )
    assert "Nearest miss: 2 × 32 fp32, batch 1, " in result.stderr
    assert set(read_profile(tmp_path / "hardware_profile.json").failures) == {"production"}


def test_exit_code_130_keeps_what_is_finished(compass, tmp_path):
    result = compass(interrupted_at("validation"))
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1] == "interrupted: finished stages are kept in hardware_profile.json"
    assert set(read_profile(tmp_path / "hardware_profile.json").plans) == {"smoke_test", "prototyping", "production"}


def test_a_proof_is_of_the_work_it_speaks_of(experiment):
    plan = certify_stage(POLICIES["production"], experiment, make_prober(experiment))
    assert plan.certificate.worst == experiment.description.samples[0][1] * plan.choice.batch_size
    assert isinstance(plan.choice.knobs, Knobs)


# ------------------------------------------------------------------------------------------------------ the first answer


class Watched(ForeignRunner):
    """Keeps what it was asked for."""

    def __init__(self, scenario):
        super().__init__(scenario)
        self.specs = []

    def probe(self, spec):
        self.specs.append(spec)
        return super().probe(spec)


@pytest.mark.parametrize(("kind", "waits"), [("numa", False), ("linear", True)])
def test_the_smoke_test_waits_for_timings_only_where_steps_cannot_be_predicted_without(tmp_path, kind, waits):
    """They can on a CPU, whose micro-probes show time."""
    scenario = make_scenario(kind, 0, seed=0)
    assert (scenario.physics.machine.kind == "cpu") != waits
    runner = Watched(scenario)
    asked = Request(config=scenario.config, dataset_size=scenario.dataset_size, out=tmp_path / "p.json")
    profile = optimize(asked, runner=runner)
    under_ceiling = [spec.ceiling_bytes is not None for spec in runner.specs]
    first = under_ceiling.index(True)
    assert runner.specs[first].knobs == profile.plans["smoke_test"].choice.knobs
    assert any(spec.batches[0].members for spec in runner.specs[:first]) == waits  # a timing is on real samples


def test_a_smoke_test_alone_needs_no_timings(tmp_path):
    scenario = make_scenario("numa", 0, seed=0)
    asked = Request(config=scenario.config, dataset_size=scenario.dataset_size, out=tmp_path / "p.json")
    alone, whole = Watched(scenario), Watched(scenario)
    few = optimize(dataclasses.replace(asked, stages=("smoke_test",)), runner=alone).plans["smoke_test"]
    assert few == optimize(asked, runner=whole).plans["smoke_test"]
    assert not any(spec.batches[0].members for spec in alone.specs if spec.ceiling_bytes is None)


@pytest.mark.parametrize("kind", ["numa", "linear"])
def test_where_no_model_runs_every_stage_says_why(tmp_path, kind):
    class Broken(ForeignRunner):
        def probe(self, spec):
            return Outcome(status=Status.INVALID, detail="ImportError: no such kernel")

    scenario = make_scenario(kind, 0, seed=0)
    asked = Request(config=scenario.config, dataset_size=scenario.dataset_size, out=tmp_path / "p.json")
    profile = optimize(asked, runner=Broken(scenario))
    assert profile.plans == {}
    assert {failure.limited_by for failure in profile.failures.values()} == {"model"}
    assert all(failure.reason.endswith("no such kernel") for failure in profile.failures.values())


@pytest.mark.parametrize("kind", ["numa", "linear"])
def test_a_repeated_run_makes_no_probe(tmp_path, kind):
    scenario = make_scenario(kind, 0, seed=0)
    asked = Request(config=scenario.config, dataset_size=scenario.dataset_size, out=tmp_path / "p.json")
    with closing(Store(tmp_path / "ledger.sqlite")) as store:
        site = Site(lambda _: ForeignRunner(scenario), store, this_host())
        first = optimize(asked, runner=site)
        again = optimize(asked, runner=site)
    assert picks(first) == picks(again)
    assert again.probe_costs.reused > 0
    made = again.probe_costs.model_dump(exclude={"reused", "wall_s"})
    assert set(made.values()) <= {0, None}
