"""Plans that were made for a machine hold on it: simulated, and this one."""

import pytest

from compass.config_files import load_config
from compass.optimizer import Request, optimize
from compass.probe.local import LocalRunner
from compass.probe.requests import certificate_probe
from compass.probe.simulation import SimulatedRunner, load_of, machine_named
from compass.profile import Profile
from compass.records import Batch, Certificate, Configuration, Knobs, Measured, Predicted, RuntimeSettings, StagePlan
from compass.verifying import certificate_again, verify

SAMPLES = [(f"c{i:03}", load_of(300.0 + 7 * i, 20.0 * (300 + 7 * i))) for i in range(200)]


class Remembering(SimulatedRunner):
    """Keeps what it was asked."""

    def probe(self, spec):
        self.specs = [*getattr(self, "specs", ()), spec]
        return super().probe(spec)


def test_a_profile_holds_where_it_was_made_and_the_question_is_the_same(tmp_path):
    plain = [f"stages.{stage}.checkpointing=[false]" for stage in ("prototyping", "validation", "production")]
    machine = machine_named("RTX 4090")
    runner = Remembering(machine, samples=SAMPLES)
    asked = Request(config=load_config(None, plain), out=tmp_path / "p.json")
    profile = optimize(asked, runner=runner)
    keys = {spec.key for spec in runner.specs}
    assert {certificate_again(plan, profile.config).key for plan in profile.plans.values()} <= keys
    assert profile.plans["production"].certificate.timed is not None
    verdict = verify(profile, runner=SimulatedRunner(machine, samples=SAMPLES, seed=7))
    assert verdict.holds, verdict.checks
    assert len(verdict.checks) == 4
    elsewhere = verify(profile, ["validation"], runner=SimulatedRunner(machine_named("RTX 3090"), samples=SAMPLES))
    assert [line.partition(":")[0] for line in elsewhere.stale] == ["device"]
    assert not elsewhere.plans_hold  # a slower card


def test_a_real_plan_holds(tmp_path):
    """Steps of 20 ms on a busy machine keep no promise of time, so memory alone is promised."""
    config = load_config(None, ["verify.step_tolerance=1"])
    knobs = Knobs(layers=2, channels=16, variant={"options": (("heads", 8), ("lmax", 1), ("rbf", 32))})
    runtime = RuntimeSettings(threads=1)
    batch, ceiling_bytes = Batch(members=(("1ia1", 2),)), 2 * 1024**3
    runner = LocalRunner(config, runtime, device="cpu", limit_bytes=ceiling_bytes)
    spec = certificate_probe(
        config.probe, knobs, (batch,) * 3, step_s=0.5, ceiling_bytes=ceiling_bytes, runtime=runtime
    ).model_copy(update={"max_steps": 3})
    try:
        description, outcome = runner.describe(), runner.probe(spec)
    finally:
        runner.close()
    assert outcome.ok, outcome.detail
    plan = made_up_plan(knobs, spec, outcome)
    profile = Profile(
        compass_version="0", created="", fingerprint=description.fingerprint, hardware=description.hardware,
        workload="visnet", dataset_size=1, data_cap=10**6, plans={"smoke_test": plan}, config=config,
    )  # fmt: skip
    verdict = verify(profile, cache=tmp_path)
    assert verdict.holds, verdict
    assert verdict.checks[0].footprint_ratio == pytest.approx(1, abs=0.1)


def made_up_plan(knobs, spec, outcome):
    bound_bytes = round(outcome.footprint_bytes * 1.1)
    return StagePlan(
        stage="smoke_test", accumulate=1, runtime=spec.runtime, limited_by="space", why="", indicative=True,
        bytes_law={"segments": (("all", {"base": 0, "per_unit": ()}),)},
        choice=Configuration(knobs=knobs, capacity=outcome.parameters, batch_size=2, load=outcome.load),
        predicted=Predicted(
            live_bytes=outcome.live_bytes, footprint_bound_bytes=bound_bytes, step_s=0.5, cycle_s=225, throughput=4,
        ),
        measured=Measured(
            step=outcome.step, cycle_s=225, throughput=4, live_bytes=outcome.live_bytes, footprint_bytes=outcome.footprint_bytes,
        ),
        certificate=Certificate(
            ceiling_bytes=spec.ceiling_bytes, batches=spec.batches, worst=outcome.load, footprint_bound_bytes=bound_bytes,
            n_steps=3, enforced=outcome.enforced,
        ),
    )  # fmt: skip
