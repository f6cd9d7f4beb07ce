"""Training records its times and memory in the ledger, and the next optimization plans with them."""

import pytest

from compass.config_files import load_config
from compass.planning.calibration import calibrate
from compass.planning.certify import certify_stage
from compass.planning.request import Request
from compass.planning.session import make_experiment, make_prober, wanted_variants
from compass.planning.strategies import search_stage
from compass.probe.simulation import SimulatedRunner, load_of, machine_named
from compass.probe.store import Store
from compass.probe.trained import record_cycle, record_out_of_memory
from compass.records import RuntimeSettings, StepTime, TrainedCycle
from compass.stages import POLICIES

PLAIN = [f"stages.{stage}.checkpointing=[false]" for stage in ("prototyping", "validation", "production")]


class Machine:
    """Opens experiments on one simulated machine, each like a new optimization with the same ledger."""

    def __init__(self, ledger):
        self.ledger, self.labs = ledger, []

    def experiment(self):
        runner = SimulatedRunner(machine_named("RTX 3090"), samples=(("pocket", load_of(900, 25_000)),))
        asked = Request(config=load_config(None, PLAIN), dataset_size=200_000)
        experiment = make_experiment(asked, runner, Store(self.ledger), RuntimeSettings(threads=1))
        prober = make_prober(experiment)
        calibrate(experiment, prober, wanted_variants(asked.config))
        experiment.reference = POLICIES["production"].rank(experiment.known()).pick
        return experiment, prober

    def plan(self, stage):
        experiment, prober = self.experiment()
        return experiment, certify_stage(search_stage(POLICIES[stage], experiment, prober), experiment, prober)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "probes.jsonl")


def cycle_of(plan, *, footprint=1.0, slower=1.0, graphs=None):
    """A cycle as the plan predicts it, except for these factors."""
    certified, step = plan.certificate, plan.measured.step
    load = certified.worst
    times = {name: value * slower for name, value in step.model_dump().items() if name != "n_steps"}
    return TrainedCycle(
        fullest=certified.batches[0],
        fullest_load=load,
        mean_load=load.model_copy(update={"graphs": graphs or load.graphs}),
        step=StepTime(**times, n_steps=450),
        footprint_bytes=round(plan.measured.footprint_bytes * footprint),
    )


def test_a_plan_that_held_more_than_its_bound_gets_a_smaller_batch(machine):
    experiment, plan = machine.plan("production")
    known_before = experiment.description.fingerprint
    record_cycle(machine.ledger, known_before, plan, cycle_of(plan, footprint=1.25))
    wiser, again = machine.plan("production")
    assert again.choice.knobs == plan.choice.knobs
    assert again.choice.batch_size < plan.choice.batch_size
    bound = again.bytes_law.upper_footprint(plan.certificate.worst)
    assert bound > 1.25 * plan.measured.footprint_bytes
    assert again.predicted.footprint_bound_bytes <= wiser.budget_bytes


def test_a_plan_that_ran_out_of_memory_gets_a_smaller_batch(machine):
    experiment, plan = machine.plan("production")
    certified = plan.certificate
    record_out_of_memory(
        machine.ledger,
        experiment.description.fingerprint,
        plan,
        certified.batches[0],
        certified.worst,
        detail="CUDA out of memory",
    )
    _, again = machine.plan("production")
    assert again.choice.batch_size < plan.choice.batch_size


@pytest.mark.parametrize("slower", [1.3, 0.8])
def test_times_of_training_correct_the_predictions(machine, slower):
    experiment, plan = machine.plan("prototyping")
    choice = plan.choice
    assert experiment.trained(choice.knobs, choice.batch_size, plan.runtime) is None
    cycle = cycle_of(plan, slower=slower)
    record_cycle(machine.ledger, experiment.description.fingerprint, plan, cycle)
    wiser, _ = machine.experiment()
    assert wiser.known().step_s(choice.knobs, choice.load) == pytest.approx(cycle.step.median_s, rel=0.03)
    assert wiser.trained(choice.knobs, choice.batch_size, plan.runtime).step == cycle.step


def test_the_last_cycle_counts(machine):
    experiment, plan = machine.plan("prototyping")
    for slower in (1.6, 1.2):
        record_cycle(machine.ledger, experiment.description.fingerprint, plan, cycle_of(plan, slower=slower))
    predicted = machine.experiment()[0].known().step_s(plan.choice.knobs, plan.choice.load)
    assert predicted == pytest.approx(1.2 * plan.measured.step.median_s, rel=0.03)


def test_a_trained_plan_reports_the_times_of_training(machine):
    experiment, plan = machine.plan("smoke_test")
    cycle = cycle_of(plan, slower=1.5)
    record_cycle(machine.ledger, experiment.description.fingerprint, plan, cycle)
    _, again = machine.plan("smoke_test")
    assert again.measured.step == cycle.step
    assert again.measured.cycle_s == 450 * cycle.step.median_s


def test_a_newer_certificate_replaces_the_times_of_training(machine):
    """As after `compass verify`; the memory of training still counts."""
    experiment, plan = machine.plan("smoke_test")
    record_cycle(machine.ledger, experiment.description.fingerprint, plan, cycle_of(plan, slower=1.5))
    [(spec, outcome)] = [known for known in experiment.runner.probes if known[0].fresh]
    newer = outcome.model_copy(update={"step": cycle_of(plan, slower=1.2).step})
    store = Store(machine.ledger)
    store.add(experiment.description.fingerprint.key, spec, newer)
    store.close()
    wiser, again = machine.plan("smoke_test")
    assert again.measured.step == newer.step
    assert [(taught.step, taught.footprint_bytes) for _, taught in wiser.runner.trained] == [
        (None, plan.measured.footprint_bytes)
    ]


def test_another_fingerprints_training_is_not_used(machine):
    experiment, plan = machine.plan("production")
    other = experiment.description.fingerprint.model_copy(update={"torch": "another"})
    record_cycle(machine.ledger, other, plan, cycle_of(plan, footprint=1.25, slower=2.0))
    wiser, again = machine.plan("production")
    assert wiser.runner.trained == []
    assert again == plan


def test_times_under_another_allocator_are_not_used(machine):
    """Its memory is used, for that allocator."""
    _, plan = machine.plan("prototyping")
    experiment, _ = machine.experiment()
    other = plan.model_copy(update={"runtime": RuntimeSettings(threads=1, allocator="system")})
    record_cycle(machine.ledger, experiment.description.fingerprint, other, cycle_of(plan, footprint=1.25, slower=2.0))
    wiser, _ = machine.experiment()
    load = plan.choice.load
    assert wiser.known().step_s(plan.choice.knobs, load) == experiment.known().step_s(plan.choice.knobs, load)
    assert wiser.costs().bytes_law(plan.choice.knobs, "fast") == experiment.costs().bytes_law(plan.choice.knobs, "fast")
    held = wiser.costs().bytes_law(plan.choice.knobs, "system").upper_footprint(load)
    assert held > 1.25 * plan.measured.footprint_bytes


def test_a_variant_outside_the_search_is_ignored(machine):
    experiment, plan = machine.plan("production")
    variant = plan.choice.knobs.variant.model_copy(update={"checkpointing": True})
    choice = plan.choice.model_copy(update={"knobs": plan.choice.knobs.model_copy(update={"variant": variant})})
    checkpointed = plan.model_copy(update={"choice": choice})
    record_cycle(machine.ledger, experiment.description.fingerprint, checkpointed, cycle_of(plan, footprint=2.0))
    _, again = machine.plan("production")
    assert again == plan
