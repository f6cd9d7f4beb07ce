import math

import numpy as np
import pytest

from compass.config_files import load_config
from compass.errors import InputError
from compass.estimating import Question, estimate, predict_model
from compass.planning import session
from compass.planning.calibration import calibrate
from compass.planning.request import Request
from compass.planning.session import open_experiment, wanted_variants
from compass.probe.simulation import SimulatedRunner, machine_named
from compass.records import Estimates, Interval, Outcome, Status

PLAIN = [f"stages.{stage}.checkpointing=[false]" for stage in ("prototyping", "validation", "production")]
"""Half of the calibration, for the tests that look at something else."""
MACHINES = ("RTX 4070", "RTX 4090", "L40S")


class Watched:
    """A simulated machine that keeps what it was asked, and may change an outcome."""

    def __init__(self, change=lambda spec, outcome: outcome, **given):
        self._runner, self._change = SimulatedRunner(machine_named("RTX 4090"), **given), change
        self.specs = []

    def describe(self, knobs=()):
        return self._runner.describe(knobs)

    def probe(self, spec):
        self.specs.append(spec)
        return self._change(spec, self._runner.probe(spec))

    def close(self):
        self._runner.close()


def plain(*changes):
    return Request(config=load_config(None, [*PLAIN, *changes]), dataset_size=19_000)


# -------------------------------------------------------------------------------------------------- against the truth


@pytest.fixture(scope="module")
def judged():
    """(true runner, estimate) of every fifth model with 16 graphs, recomputing or not, on three machines."""
    return [
        (SimulatedRunner(machine), row)
        for machine in map(machine_named, MACHINES)
        for row in estimate(Request(), Question(batch=16), runner=SimulatedRunner(machine, seed=2)).rows[::5]
    ]


@pytest.mark.slow
def test_the_footprint_stays_under_its_bound_and_over_its_least(judged):
    for runner, row in judged:
        truth = runner.true_footprint_bytes(row.knobs, row.load)
        assert 0.97 * row.footprint_bytes.low <= truth <= row.footprint_bytes.high


@pytest.mark.slow
def test_live_bytes_are_what_was_predicted(judged):
    for runner, row in judged:
        truth = runner.true_live_bytes(row.knobs, row.load)
        assert 0.95 * row.live_bytes.expected <= truth <= row.live_bytes.high


def share_inside(judged, of=lambda row: True):
    inside = [
        row.step_s.low <= runner.true_step_s(row.knobs, row.load) <= row.step_s.high
        for runner, row in judged
        if of(row)
    ]
    assert len(inside) > 20
    return np.mean(inside)


@pytest.mark.slow
def test_most_steps_lie_in_their_interval_near_what_was_timed(judged):
    assert share_inside(judged, lambda row: row.knobs.channels <= 128) >= 0.75


@pytest.mark.slow
def test_nine_in_ten_steps_lie_in_their_interval_anywhere(judged):
    assert share_inside(judged) >= 0.85


# ---------------------------------------------------------------------------------------------------------- arithmetic


def test_an_estimate_by_hand(known):
    made = known({(4, 64): {"capacity": 5000, "graph_bytes": 10.0}}, dataset_size=95)
    (knobs,) = made.capacities
    row = predict_model(made, knobs, Question(batch=9, epochs=3), idle_bytes=5)
    factor = math.exp(1.645 * 0.05)
    assert row.capacity == 5000
    assert row.live_bytes == Interval(expected=90, low=90, high=90)
    assert row.footprint_bytes == Interval(expected=95, low=95, high=90)  # the made-up law has no baseline
    assert row.step_s == Interval(expected=0.9, low=0.9 / factor, high=0.9 * factor)
    assert row.cycle_s == row.step_s * 450
    assert row.epoch_s.expected == pytest.approx(0.9 * 11)  # 95 complexes, nine at a time
    assert row.training_s.high == pytest.approx(0.9 * factor * 11 * 3)
    assert row.throughput == pytest.approx(10)


@pytest.mark.parametrize(("batch", "idle_bytes", "fits"), [(10, 0, "yes"), (11, -20, "perhaps"), (11, 0, "no")])
def test_whether_it_fits(known, batch, idle_bytes, fits):
    made = known({(4, 64): {"capacity": 5000, "graph_bytes": 10.0}})  # of 100 bytes
    (knobs,) = made.capacities
    assert predict_model(made, knobs, Question(batch=batch), idle_bytes=idle_bytes).fits == fits


def test_without_a_batch_it_is_the_largest_that_is_sure_to_fit(known):
    made = known({(4, 64): {"capacity": 5000, "graph_bytes": 9.0}})
    (knobs,) = made.capacities
    assert predict_model(made, knobs, Question(), idle_bytes=0).batch_size == 11


def test_not_even_one_graph_fits(known):
    made = known({(4, 64): {"capacity": 5000, "graph_bytes": 101.0}})
    (knobs,) = made.capacities
    row = predict_model(made, knobs, Question(), idle_bytes=0)
    assert (row.batch_size, row.fits) == (1, "no")


# --------------------------------------------------------------------------------------------------- what is asked for


def test_one_model_need_not_lie_in_the_space():
    machine = Watched()
    found = estimate(plain(), Question(3, 200, batch=4), runner=machine)
    (row,) = found.rows
    assert (row.knobs.layers, row.knobs.channels, row.batch_size) == (3, 200, 4)
    assert not row.knobs.variant.checkpointing
    assert row.capacity == dict(machine.describe([row.knobs]).parameters)[row.knobs]
    assert found.n_probes == len(machine.specs) > 14
    assert Estimates.model_validate_json(found.model_dump_json()) == found


@pytest.mark.slow
def test_the_whole_space_is_what_the_stages_search():
    found = estimate(Request(), Question(), runner=Watched())
    kinds = {(row.knobs.variant.precision, row.knobs.variant.checkpointing) for row in found.rows}
    assert kinds == {("fp32", False), ("fp32", True)}
    assert len({row.knobs for row in found.rows}) == len(found.rows) > 100
    assert {row.fits for row in found.rows} == {"yes"}
    only = estimate(Request(), Question(axes={"checkpointing": True}), runner=Watched())
    assert only.rows == tuple(row for row in found.rows if row.knobs.variant.checkpointing)


@pytest.mark.slow
@pytest.mark.parametrize(
    "question", [Question(6, 128, axes={"precision": "bf16"}), Question(axes={"precision": "bf16"})]
)
def test_a_precision_that_no_stage_searches_is_calibrated_in_place_of_theirs(question):
    machine = Watched()
    found = estimate(plain(), question, runner=machine)
    assert {spec.knobs.variant.precision for spec in machine.specs} == {"bf16"}
    assert {row.knobs.variant.precision for row in found.rows} == {"bf16"}


def test_recomputing_that_no_stage_searches_is_timed_against_plain_training():
    machine = Watched()
    (row,) = estimate(plain(), Question(6, 128, axes={"checkpointing": True}), runner=machine).rows
    assert row.knobs.variant.checkpointing
    assert {spec.knobs.variant.checkpointing for spec in machine.specs} == {False, True}


@pytest.mark.parametrize(("question", "allocator"), [(Question(6, 128), "fast"), (Question(6, 128, allocator="tight"), "tight")])  # fmt: skip
def test_times_are_measured_under_the_allocator_that_is_assumed(question, allocator):
    machine = Watched()
    assert estimate(plain(), question, runner=machine).runtime.allocator == allocator
    assert {spec.runtime.allocator for spec in machine.specs} == {allocator}


# ------------------------------------------------------------------------------------------------------------ the cache


@pytest.mark.slow
def test_a_second_estimate_probes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "local_runner", lambda request, settings: machine)
    asked = Request(cache=tmp_path)
    machine = Watched()
    first = estimate(asked, Question(6, 128, batch=8))
    assert first.n_probes == len(machine.specs) > 0
    machine = Watched()
    again = estimate(asked, Question(6, 128, batch=8))
    assert (again.n_probes, machine.specs, again.rows) == (0, [], first.rows)
    assert estimate(asked, Question()).n_probes == 0


def test_the_calibration_of_optimize_is_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(session, "local_runner", lambda request, settings: machine)
    asked, machine = Request(cache=tmp_path), Watched()
    with open_experiment(asked, None) as (experiment, prober):
        calibrate(experiment, prober, wanted_variants(asked.config))
    assert estimate(asked, Question(7, 160, axes={"checkpointing": True})).n_probes == 0


# --------------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": 0, "channels": 8}, "layers: got 0; expected a whole number above zero. Give the depth of the model."),
        ({"layers": 2, "channels": -8},
         "channels: got -8; expected a whole number above zero. Give the width of the model."),
        ({"batch": 0}, "batch: got 0; expected a whole number above zero. Give the size of a batch."),
        ({"epochs": 0}, "epochs: got 0; expected a whole number above zero. Give the passes over the dataset."),
        ({"layers": 2}, "channels: got nothing beside layers; expected both or neither. Give the width of the model."),
        ({"channels": 8}, "layers: got nothing beside channels; expected both or neither. Give the depth of the model."),
    ],
)  # fmt: skip
def test_a_question_that_cannot_be_meant(given, message):
    with pytest.raises(InputError) as caught:
        Question(**given)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("channels", "changes", "message"),
    [
        (100, [], "channels: got 100; expected a multiple of the 8 attention heads. "
                  "Give 96 or 104, or change space.options.heads."),
        (5, [], "channels: got 5; expected a multiple of the 8 attention heads. "
                "Give 8, or change space.options.heads."),
        (32, ["space.options.heads=12"], "channels: got 32; expected a multiple of the 12 attention heads. "
                                         "Give 24 or 36, or change space.options.heads."),
    ],
)  # fmt: skip
def test_channels_that_the_heads_cannot_share(channels, changes, message):
    machine = Watched()
    with pytest.raises(InputError) as caught:
        estimate(plain(*changes), Question(6, channels), runner=machine)
    assert str(caught.value) == message
    assert machine.specs == []


def broken(spec, outcome):
    if spec.knobs.variant.precision == "bf16":
        return Outcome(status=Status.CRASHED, detail="no such kernel")
    return outcome


def test_a_precision_that_does_not_run_here():
    with pytest.raises(InputError) as caught:
        estimate(plain(), Question(6, 128, axes={"precision": "bf16"}), runner=Watched(broken))
    assert str(caught.value) == (
        "model 6 layers × 128 channels, bf16: got crashed: no such kernel; expected one that calibration can run. "
        "Choose another precision, or see `compass env`."
    )


def test_what_does_not_run_is_left_out_of_the_space():
    both = plain("stages.prototyping.precision=['fp32', 'bf16']")
    found = estimate(both, Question(), runner=Watched(broken))
    assert {row.knobs.variant.precision for row in found.rows} == {"fp32"}


def hanging(spec, outcome):
    return outcome if spec.min_steps == 1 else Outcome(status=Status.TIMED_OUT, detail="no answer within 120 s")


def test_a_model_that_was_never_timed():
    with pytest.raises(InputError) as caught:
        estimate(plain(), Question(2, 32), runner=Watched(hanging))
    assert str(caught.value) == (
        "model 2 layers × 32 channels, fp32: got timed_out: no answer within 120 s; "
        "expected one that calibration can run. Choose another precision, or see `compass env`."
    )
