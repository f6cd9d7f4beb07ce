"""Plans for several devices, on simulated ones whose costs are known."""

import numpy as np
import pytest

from compass.errors import InputError
from compass.optimizer import Request, optimize
from compass.planning.ranks import rank_costs, unequal_shares
from compass.probe.simulation import SimulatedRunner, load_of, machine_named
from compass.probe.simulation.ranks import SimulatedRanks
from compass.profile import read_profile
from compass.records import Outcome, RankCosts, RankFigures, RankShare, Status, StepTime

MIB = 1024**2
TRUTH = RankCosts(n_ranks=2, host_bytes=300 * MIB, slowdown=1.05, sync_s=0.002, latency_s=0.0002, capacity=800_000)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    out = tmp_path_factory.mktemp("ranks") / "profile.json"
    runner = SimulatedRanks(SimulatedRunner(machine_named("RTX 4090")), 4, TRUTH)
    request = Request(stages=("smoke_test", "production"), n_devices=2, dataset_size=20_000, out=out)
    return optimize(request, runner=runner), runner


def test_what_ranks_cost_is_found(planned):
    costs = planned[0].plans["production"].ranks.costs
    assert costs.host_bytes == TRUTH.host_bytes
    assert costs.slowdown == pytest.approx(TRUTH.slowdown, rel=0.1)
    assert costs.sync_of(100_000, 2) == pytest.approx(TRUTH.sync_of(100_000, 2))
    assert costs.sync_of(100_000, 8) == pytest.approx(TRUTH.sync_of(100_000, 8))


def test_certificates_run_with_all_ranks(planned):
    profile, runner = planned
    assert runner.n_together >= 3  # the trial of ranks, and a certificate for each stage
    assert profile.plans["smoke_test"].n_ranks == 2


def test_the_law_of_a_rank_holds_what_ranks_add(planned):
    plan = planned[0].plans["production"]
    certificate, held = plan.certificate, plan.measured.footprint_bytes
    assert held <= certificate.footprint_bound_bytes <= certificate.ceiling_bytes
    alone = plan.bytes_law.baseline_bytes - TRUTH.host_bytes
    assert 0 < alone < plan.bytes_law.baseline_bytes


def test_global_batch_and_accumulation(planned):
    profile, _ = planned
    plan = profile.plans["production"]
    assert plan.ranks.global_batch == 2 * plan.choice.batch_size
    assert plan.ranks.global_batch <= profile.config.batch.cap(profile.dataset_size)
    effective = profile.config.batch.effective_batch
    assert plan.accumulate * plan.ranks.global_batch >= effective
    assert (plan.accumulate - 1) * plan.ranks.global_batch < effective


def test_what_other_numbers_of_devices_would_buy(planned):
    plan = planned[0].plans["production"]
    rows = {row.n_devices: row for row in plan.ranks.devices}
    assert set(rows) == {1, 2, 4, 8}
    assert [n for n, row in rows.items() if row.is_measured] == [2]
    assert rows[2].step_s == plan.measured.step.median_s
    assert rows[1].efficiency == pytest.approx(1.0)
    assert rows[1].epoch_s > rows[2].epoch_s > rows[4].epoch_s > rows[8].epoch_s
    assert 1 >= rows[2].efficiency > rows[4].efficiency > rows[8].efficiency > 0.5
    assert plan.epoch_s == pytest.approx(rows[2].epoch_s)


def test_a_plan_of_several_devices_is_read_back(planned):
    profile, _ = planned
    again = read_profile(profile.path)
    assert again.plans["production"].ranks == profile.plans["production"].ranks
    assert "--devices 2" in again.again("production")


def test_plans_of_another_number_of_devices_do_not_hold(planned):
    profile, _ = planned
    other = profile.model_copy(update={"asked": profile.asked.model_copy(update={"devices": 4})})
    assert other.changed_since(profile) == ("devices 2, now 4",)


def test_more_devices_than_there_are(tmp_path):
    runner = SimulatedRanks(SimulatedRunner(machine_named("RTX 4090")), 2, TRUTH)
    with pytest.raises(InputError) as error:
        optimize(Request(n_devices=3, out=tmp_path / "p.json"), runner=runner)
    assert str(error.value) == "--devices: got 3; expected at most the 2 cuda devices here. Ask for fewer."
    assert not (tmp_path / "p.json").exists()


def test_machines_with_one_device_each(tmp_path):
    runner = SimulatedRanks(SimulatedRunner(machine_named("RTX 4090")), 1, TRUTH)
    with pytest.raises(InputError) as error:
        optimize(Request(n_nodes=2, out=tmp_path / "p.json"), runner=runner)
    assert str(error.value) == (
        "--nodes: got 2 with one device each; expected at least 2 devices on this machine, to measure how ranks wait for "
        "each other. Add --devices 2 or more, or plan for one device and train with --nodes."
    )


def test_several_machines(tmp_path):
    runner = SimulatedRanks(SimulatedRunner(machine_named("RTX 4090")), 2, TRUTH)
    asked = Request(stages=("smoke_test",), n_devices=2, n_nodes=3, out=tmp_path / "p.json")
    plan = optimize(asked, runner=runner).plans["smoke_test"]
    assert plan.n_ranks == 6
    assert plan.ranks.global_batch == 6 * plan.choice.batch_size
    assert {row.n_devices: row.is_measured for row in plan.ranks.devices} == {
        1: False,
        2: True,
        4: False,
        6: False,
        8: False,
    }


def test_no_devices_at_all():
    with pytest.raises(InputError) as error:
        Request(n_devices=0)
    assert str(error.value) == "--devices: got 0; expected a whole number above zero. Correct it."


def test_a_failure_of_the_first_ranks_is_an_error_in_a_line(tmp_path):
    class Broken(SimulatedRanks):
        def probe(self, spec):
            if spec.ranks == 1:
                return super().probe(spec)
            return Outcome(status=Status.INVALID, detail="rank 1 of 2: the ranks disagree")

    runner = Broken(SimulatedRunner(machine_named("RTX 4090")), 2, TRUTH)
    with pytest.raises(InputError) as error:
        optimize(Request(n_devices=2, out=tmp_path / "p.json"), runner=runner)
    assert str(error.value) == (
        "--devices: got 2, whose first probe failed: 2 ranks, invalid: rank 1 of 2: the ranks disagree; expected ranks "
        "that train together here. Mend that, or plan for one device."
    )
    assert not (tmp_path / "p.json").exists()


def test_costs_are_the_difference_of_two_probes():
    def outcome(step_s, **more):
        step = StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=5)
        return Outcome(status=Status.OK, step=step, parameters=1000, **more)

    found = rank_costs(outcome(1.0), outcome(1.3, sync_s=0.1, joined_bytes=5), 2)
    assert (found.host_bytes, found.sync_s, found.capacity) == (5, 0.1, 1000)
    assert found.slowdown == pytest.approx(1.2)
    assert found.alone_s(found.step_s(2.0, 1000), 1000) == pytest.approx(2.0)
    assert rank_costs(outcome(1.0), outcome(0.9), 2).slowdown == 1.0


def figures(alone_s, gib):
    return RankFigures(device="cuda", budget_bytes=gib * 1024**3, alone_s=alone_s)


def test_ranks_that_are_alike():
    assert unequal_shares([figures(1.0, 22), figures(1.1, 22)]) == ()
    assert unequal_shares([figures(None, 22), figures(1.0, 8)]) == ()
    assert unequal_shares([]) == ()


def test_ranks_that_differ():
    faster = unequal_shares([figures(1.0, 22), figures(0.5, 22)])
    assert [one.speed for one in faster] == [1.0, 2.0]
    larger = unequal_shares([figures(1.0, 8), figures(1.0, 22)])
    assert [one.budget_bytes for one in larger] == [8 * 1024**3, 22 * 1024**3]


UNEQUAL = (RankShare(budget_bytes=20 * 1024**3, speed=1.0), RankShare(budget_bytes=8 * 1024**3, speed=0.5))


@pytest.fixture(scope="module")
def unequal(tmp_path_factory):
    """A plan for two cards of which one is half as fast, on 2,000 complexes of many sizes."""
    rng = np.random.default_rng(0)
    nodes = np.exp(rng.normal(np.log(420), 0.5, 2_000)).clip(80, 2_500).round()
    samples = [(f"c{place:04}", load_of(float(n), float(round(18 * n)))) for place, n in enumerate(nodes)]
    runner = SimulatedRanks(SimulatedRunner(machine_named("RTX 4090"), samples=samples), 2, TRUTH, UNEQUAL)
    out = tmp_path_factory.mktemp("unequal") / "p.json"
    return optimize(Request(stages=("smoke_test", "production"), n_devices=2, out=out), runner=runner)


def test_a_plan_for_unequal_cards_fits_the_smaller_one(unequal):
    plan = unequal.plans["production"]
    assert plan.certificate.ceiling_bytes == 8 * 1024**3
    assert plan.certificate.footprint_bound_bytes <= 8 * 1024**3


def test_loads_by_speed_are_certified_and_faster(unequal):
    plan = unequal.plans["production"]
    assert [one.speed for one in plan.ranks.shares] == pytest.approx([2.0, 1.0], rel=0.05)
    assert plan.ranks.gain > 1.3  # 1.5 if steps had no fixed part and the time model no error
    assert plan.throughput == pytest.approx(plan.ranks.gain * 2 * plan.measured.throughput / (1 + plan.ranks.imbalance))
    assert plan.epoch_s == pytest.approx(unequal.dataset_size / plan.throughput)


def test_a_smoke_test_has_equal_loads(unequal):
    assert unequal.plans["smoke_test"].ranks.shares == ()


def test_loads_by_speed_that_do_not_run_are_not_planned(tmp_path, caplog):
    class Broken(SimulatedRanks):
        def probe(self, spec):
            if spec.each:
                return Outcome(status=Status.OUT_OF_MEMORY, detail="rank 1 of 2: no", enforced=True)
            return super().probe(spec)

    samples = [(f"c{place:03}", load_of(200.0 + place, 4_000.0 + 20 * place)) for place in range(400)]
    runner = Broken(SimulatedRunner(machine_named("RTX 4090"), samples=samples), 2, TRUTH, UNEQUAL)
    plan = optimize(Request(stages=("production",), n_devices=2, out=tmp_path / "p.json"), runner=runner)
    assert plan.plans["production"].ranks.shares == ()
    assert "certificate of loads by speed failed: out_of_memory: rank 1 of 2: no" in caplog.text
