"""The prober repeats a certificate only while it is clearly slower than predicted, and keeps one entry for it."""

from types import SimpleNamespace

import pytest

from compass.planning.forecast import EXPECTED_S, Forecast
from compass.planning.prober import Prober
from compass.probe.recorded import Recorded
from compass.records import Batch, Expectation, Knobs, Outcome, ProbeSpec, RuntimeSettings, Status, StepTime

SPEC = ProbeSpec(
    knobs=Knobs(layers=2, channels=32),
    batches=(Batch(members=(("one", 1),)),),
    min_steps=1,
    max_steps=1,
    timeout_s=1,
    runtime=RuntimeSettings(threads=1),
)
EXPECTED = Expectation(
    live_bytes=1.0, footprint_bound_bytes=1.0, step_s=1.0, spread=0.1
)  # beyond doubt slower above 1.3 s


class Machine:
    """A machine whose steps take the given times, in order; None: it crashes."""

    def __init__(self, *step_s):
        self.step_s = list(step_s)

    def probe(self, spec):
        step_s = self.step_s.pop(0)
        if step_s is None:
            return Outcome(status=Status.CRASHED, detail="unspecified launch failure")
        step = StepTime(median_s=step_s, low_s=step_s, high_s=step_s, n_steps=5)
        return Outcome(status=Status.OK, step=step)


def prober_of(*step_s, certify_again=2):
    return Prober(Recorded(Machine(*step_s), None, "f"), certify_again=certify_again)


@pytest.mark.parametrize(
    ("step_s", "median_s"),
    [
        ((1.3,), 1.3),  # within doubt
        ((2.0, 1.0), 1.0),  # something else was running
        ((2.0, 2.0), 2.0),  # as slow again: it is believed
        ((3.0, 2.0, 1.0), 1.0),
        ((4.0, 3.0, 2.0), 2.0),  # no more than two repetitions
    ],
)
def test_a_clearly_slower_certificate_is_repeated(step_s, median_s):
    prober = prober_of(*step_s)
    probed = prober.certify(SPEC, stage="validation", expected=EXPECTED)
    assert probed.outcome.step.median_s == median_s
    assert prober.probed == [probed]
    assert (probed.phase, probed.stage, probed.expected, probed.reused) == ("certify", "validation", EXPECTED, False)
    assert prober._runner.counts["certify_probes"] == len(step_s)


@pytest.mark.parametrize("expected", [None, Expectation(live_bytes=1.0, footprint_bound_bytes=1.0)])
def test_without_a_predicted_time_nothing_is_repeated(expected):
    probed = prober_of(9.0).certify(SPEC, stage="validation", expected=expected)
    assert probed.outcome.step.median_s == 9.0


def test_a_probe_is_not_repeated():
    prober = prober_of(9.0)
    assert prober.probe("search", SPEC, stage="validation", expected=EXPECTED).is_slow
    assert [one.phase for one in prober.probed] == ["search"]


def test_progress_is_reported():
    seen = []
    Prober(Recorded(Machine(), None, "f"), certify_again=0, watch=seen.append).report("search", "a model", 1, 3)
    assert [(now.phase, now.what, now.n_done, now.n_expected) for now in seen] == [("search", "a model", 1, 3)]


def test_a_crash_is_tried_once_more():
    prober = prober_of(None, 1.0, 1.0)
    probed = prober.probe("calibrate", SPEC)
    assert probed.outcome.ok
    assert prober.probed == [probed]
    assert not prober.knows(SPEC)  # the crash is forgotten: nothing keeps the model from being probed again
    assert prober.probe("calibrate", SPEC).outcome.ok


def test_of_a_variant_that_crashed_twice_no_crash_is_tried_again():
    prober = prober_of(None, None, None, 1.0)
    other = SPEC.model_copy(update={"knobs": Knobs(layers=3, channels=48)})
    assert prober.probe("calibrate", SPEC).outcome.status is Status.CRASHED
    assert prober.probe("calibrate", other).outcome.status is Status.CRASHED
    assert prober._runner.counts["calibrate_probes"] == 3


def test_a_model_that_crashed_while_searched_is_not_tried_again():
    assert prober_of(None, 1.0).probe("search", SPEC).outcome.status is Status.CRASHED


def test_a_certificate_that_crashed_is_tried_once_more():
    assert prober_of(None, 1.0).certify(SPEC, stage="validation", expected=EXPECTED).outcome.ok


def test_the_starts_of_fresh_processes_are_noted(monkeypatch):
    """What a probe of a fresh process takes beyond its steps; one of a lasting worker says nothing."""
    now_s = iter([0.0, 20.0, 30.0])
    monkeypatch.setattr("compass.planning.prober.time", SimpleNamespace(monotonic=lambda: next(now_s)))
    prober = prober_of(1.0, 1.0)
    fresh = SPEC.model_copy(update={"fresh": True})
    for spec in (fresh, SPEC):
        prober.probe("certify", spec)
    assert prober.forecast.start_s == 20.0


def test_progress_has_the_rest_and_what_of_it_comes_later():
    told = []
    forecast = Forecast([["production"]], clock=lambda: 0.0)
    Prober(Recorded(Machine(), None, "f"), certify_again=0, watch=told.append, forecast=forecast).report(
        "calibrate", "a", 0, 9, part="memory"
    )
    assert told[0].in_all_s == forecast.left_s() == told[0].later_s + EXPECTED_S["memory"] * forecast.pace("memory")
