"""How an allocator changes a step: by a factor that follows its measurements, and their mean elsewhere."""

import numpy as np
import pytest

from compass.cost.allocator_time import LOCAL_SPREAD, NOISE, SHARED_SPREAD, USUAL, fit_allocator_times
from compass.cost.observation import Probe
from compass.records import Batch, Knobs, Outcome, ProbeSpec, RuntimeSettings, Status, StepTime

MODEL = Knobs(layers=5, channels=96)


def timed(allocator, step_s, base_s, knobs=MODEL):
    spec = ProbeSpec(
        knobs=knobs, batches=(Batch(members=(("one", 1),)),), min_steps=5, max_steps=5, timeout_s=1,
        runtime=RuntimeSettings(threads=2, allocator=allocator),
    )  # fmt: skip
    step = StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=5)
    return Probe(spec, Outcome(status=Status.OK, step=step)), base_s


def factor(model, allocator, step_s, knobs=MODEL):
    return float(np.exp(model.log_factor(allocator, knobs, np.array([step_s]))[0]))


def test_the_calibrations_own_allocator_changes_nothing():
    model = fit_allocator_times("fast", [timed("tight", 3.0, 1.0)])
    assert (factor(model, "fast", 1.0), model.spread("fast", MODEL, 1.0)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("allocator", "expected"), [("tight", 2.5), ("tight_huge", 2.5), ("tcmalloc", 1.0), ("system", 1.0)]
)
def test_before_any_measurement_it_is_as_usual_and_doubtful(allocator, expected):
    model = fit_allocator_times("fast", [])
    assert factor(model, allocator, 1.0) == pytest.approx(expected)
    assert model.spread(allocator, MODEL, 1.0) == pytest.approx(np.hypot(SHARED_SPREAD, LOCAL_SPREAD))


def test_a_measurement_is_believed_where_it_was_made():
    model = fit_allocator_times("fast", [timed("tight", 3.4, 1.0)])
    assert factor(model, "tight", 1.0) == pytest.approx(3.4, rel=0.01)
    assert model.spread("tight", MODEL, 1.0) < 1.1 * NOISE
    assert factor(model, "tight_huge", 1.0) == pytest.approx(np.exp(USUAL[True]))  # another allocator tells nothing


def test_far_away_most_of_it_holds():
    model = fit_allocator_times("fast", [timed("tight", 3.4, 1.0)])
    far = Knobs(layers=50, channels=2000)
    assert 2.5 < factor(model, "tight", 100.0, far) < 3.4
    assert LOCAL_SPREAD < model.spread("tight", far, 100.0) < SHARED_SPREAD


def test_two_measurements_tell_how_it_grows_with_the_step():
    model = fit_allocator_times("fast", [timed("tight", 2.7 * 1.15, 1.15), timed("tight", 3.4 * 1.86, 1.86)])
    assert factor(model, "tight", 1.15) == pytest.approx(2.7, rel=0.03)
    assert factor(model, "tight", 1.86) == pytest.approx(3.4, rel=0.03)
    assert 2.7 < factor(model, "tight", 1.5) < 3.4
