"""Step times of made-up laws: found again, and not moved by what strays."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.cost.observation import Probe
from compass.cost.time import (
    LENGTH,
    LOAD_SPREAD,
    NOISE_FLOOR,
    OWN_SPREAD,
    PACE,
    PACE_CPU,
    SMOOTH_SPREAD,
    UNLIKE,
    fit_time,
    residual_covariance,
)
from compass.cost.time_form import (
    MICRO_SPREAD,
    STRAY,
    _priors,
    _Timings,
    counted_parameters,
    fit_form,
    timed_sizes,
    timed_step_s,
)
from compass.records import Batch, Knobs, Load, Outcome, ProbeSpec, RuntimeSettings, Status, StepTime, Variant

FEATURES = ("nodes",)
RECOMPUTING = Variant(checkpointing=True)
ANCHORS = [(2, 32), (3, 48), (8, 96), (4, 192)]
ANCHOR = Knobs(layers=8, channels=96)
LOADS = (1_000.0, 6_000.0)


def law(knobs, nodes):
    """Half of a narrow model's work does not depend on its channels."""
    depth, width = knobs.layers - 1, knobs.channels
    inner = depth * nodes * (4e-7 + 6e-9 * width + 3e-11 * width**2)
    return 2e-3 + nodes * (1e-6 + 5e-9 * width) + (1.4 if knobs.variant.checkpointing else 1.0) * inner


def timed(knobs, nodes, *, slower=1.0, real=True):
    load = Load(graphs=1, sizes=(("nodes", nodes),))
    batch = Batch(members=(("one", 1),)) if real else Batch(synthetic=load)
    spec = ProbeSpec(
        knobs=knobs,
        batches=(batch,),
        min_steps=4,
        max_steps=int(nodes),
        timeout_s=1,
        runtime=RuntimeSettings(threads=1),
    )
    step_s = slower * law(knobs, nodes)
    step = StepTime(median_s=step_s, low_s=0.999 * step_s, high_s=1.001 * step_s, n_steps=4 if real else 1)
    return Probe(spec, Outcome(status=Status.OK, load=load, parameters=100 * knobs.channels, step=step))


def anchors():
    plain = [
        timed(Knobs(layers=depth, channels=width), nodes) for (depth, width), nodes in itertools.product(ANCHORS, LOADS)
    ]
    return [*plain, *(timed(Knobs(layers=5, channels=96, variant=RECOMPUTING), nodes) for nodes in LOADS)]


def errors(model):
    shapes = itertools.product((2, 3, 5, 7), (48, 64, 128, 192), (Variant(), RECOMPUTING))
    return [
        model.step_s(knobs, 100 * knobs.channels, np.array([[nodes]]))[0] / law(knobs, nodes) - 1
        for depth, width, kind in shapes
        for knobs in [Knobs(layers=depth, channels=width, variant=kind)]
        for nodes in (2_000.0, 5_000.0)
    ]


def median_error(*more):
    """Of models that were never timed, when `more` was timed beside the anchors."""
    return np.median(np.abs(errors(fit_time(FEATURES, [*anchors(), *more], overlapping=False))))


def test_work_that_no_channel_changes_is_told_from_work_that_grows_with_them():
    assert median_error() < 0.06


def test_a_cpu_has_no_tiles_to_waste():
    """What anchors of 32, 48 and 96 channels have in common is their width."""
    assert fit_time(FEATURES, anchors(), overlapping=False).forms[Variant().time_key].aligned == pytest.approx(
        0, abs=1e-6
    )


def test_what_strays_does_not_move_everything():
    assert median_error(timed(Knobs(layers=3, channels=16), 1_000.0, slower=3, real=False)) < 0.06
    assert median_error(timed(Knobs(layers=8, channels=96), 3_000.0, slower=1.5)) < 0.06


def test_the_order_of_probes_does_not_matter():
    one, other = (fit_time(FEATURES, probes, overlapping=True) for probes in (anchors(), anchors()[::-1]))
    assert errors(one) == errors(other)


MODEL = fit_time(FEATURES, anchors(), overlapping=True)


@given(st.integers(2, 10), st.integers(1, 16), st.booleans(), st.floats(1, 1e5), st.floats(1, 10))
def test_more_takes_no_less(layers, sixteens, recomputing, nodes, factor):
    knobs = Knobs(layers=layers, channels=16 * sixteens, variant=Variant(checkpointing=recomputing))
    mean = MODEL.forms[Variant().time_key].step_s(knobs, 1_000, np.array([[nodes], [factor * nodes]]))
    assert 0 < mean[0] <= mean[1]


def test_what_is_far_from_what_was_timed_is_less_sure():
    near, far = Knobs(layers=3, channels=48), Knobs(layers=10, channels=256)
    assert MODEL.is_timed(near)
    assert not MODEL.is_timed(far)
    small, large = np.array([[5_000.0]]), np.array([[500_000.0]])
    assert MODEL.spread(near, 4_800, small) < MODEL.spread(far, 25_600, small) < MODEL.spread(far, 25_600, large)
    assert MODEL.spread(near, 4_800, small) < MODEL.spread(near, 4_800, large)


def test_recomputing_is_guessed_until_it_was_timed():
    model = fit_time(FEATURES, [p for p in anchors() if not p.spec.knobs.variant.checkpointing], overlapping=False)
    plain, other = Knobs(layers=5, channels=96), Knobs(layers=5, channels=96, variant=RECOMPUTING)
    sizes = np.array([[5_000.0]])
    assert 1.2 < model.step_s(other, 9_600, sizes)[0] / model.step_s(plain, 9_600, sizes)[0] < 1.4


def test_a_precision_that_was_never_timed_is_unknown():
    with pytest.raises(KeyError):
        MODEL.step_s(Knobs(layers=2, channels=32, variant=Variant(precision="bf16")), 1_000, np.array([[10.0]]))


def test_a_feature_that_no_timed_batch_has_costs_nothing():
    """Rings, metals: the typical batch of a dataset has none of them."""
    probes = [
        Probe(
            one.spec,
            one.outcome.model_copy(update={"load": Load(graphs=1, sizes=(*one.outcome.load.sizes, ("rings", 0.0)))}),
        )
        for one in anchors()
    ]
    model = fit_time(("nodes", "rings"), probes)
    alone, beside = (model.step_s(ANCHOR, 100, np.array([[2_000.0, rings]]))[0] for rings in (0.0, 5.0))
    assert alone == pytest.approx(beside) == pytest.approx(law(ANCHOR, 2_000.0), rel=0.05)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_depth_that_is_held(layers):
    """Of one layer alone too, the work grows with the square of the channels."""

    def shallow(width, nodes):
        return 2e-3 + nodes * (1e-6 + 5e-9 * width + 3e-11 * width**2)

    probes = [
        timed(Knobs(layers=layers, channels=width), nodes, slower=shallow(width, nodes) / law(Knobs(layers=layers, channels=width), nodes))
        for width in (32, 64, 128, 256) for nodes in LOADS
    ]  # fmt: skip
    model = fit_time(FEATURES, probes)
    for width in (96, 192, 512):
        found = model.step_s(Knobs(layers=layers, channels=width), 100 * width, np.array([[6_000.0]]))[0]
        assert found == pytest.approx(shallow(width, 6_000.0), rel=0.15)


def test_a_timing_that_no_form_explains_is_told():
    odd = timed(Knobs(layers=8, channels=96), 3_000.0, slower=1.5)
    assert max(fit_time(FEATURES, anchors(), overlapping=False).misfits.values()) < 0.1
    assert fit_time(FEATURES, [*anchors(), odd], overlapping=False).misfits[Variant()] > 0.3


@pytest.mark.parametrize("wasted", [0.0, 0.6])
def test_tiles_count_as_wasted_where_the_timings_tell(wasted):
    """Two widths that are no multiples of 64 are slower by as much; on a CPU nothing is."""
    probes = [
        timed(knobs, nodes, slower=1 + wasted * (width % 64 != 0))
        for depth, width in ((2, 64), (3, 80), (4, 112), (4, 128), (5, 192), (3, 48))
        for knobs in [Knobs(layers=depth, channels=width)]
        for nodes in (30_000.0, 90_000.0)
    ]
    tiles = fit_time(FEATURES, probes).forms[Variant().time_key].aligned[1]
    assert tiles == pytest.approx(wasted, abs=0.1)


def test_residuals_are_alike_by_model_alignment_and_load():
    knobs = [Knobs(layers=4, channels=64), Knobs(layers=4, channels=96), Knobs(layers=8, channels=128)]
    apart = np.log(2) ** 2 + np.log(2) ** 2
    found = residual_covariance(knobs, np.zeros(3), knobs, np.array([0.0, 0.0, 0.5]))
    own = SMOOTH_SPREAD**2 + OWN_SPREAD**2
    assert found[0, 0] == found[1, 1] == pytest.approx(own + LOAD_SPREAD**2)
    assert found[2, 2] == pytest.approx(own + LOAD_SPREAD**2 * np.exp(-0.125))  # at another load
    assert found[0, 1] == pytest.approx(UNLIKE * SMOOTH_SPREAD**2 * np.exp(-0.5 * np.log(1.5) ** 2 / LENGTH**2))
    assert found[0, 2] == pytest.approx(SMOOTH_SPREAD**2 * np.exp(-0.5 * apart / LENGTH**2))


def test_without_real_samples_a_spread_is_that_of_the_priors():
    probes = [timed(Knobs(layers=depth, channels=width), 1_000.0, real=False) for depth, width in ANCHORS]
    model = fit_time(FEATURES, probes)
    knobs, sizes = Knobs(layers=3, channels=48), np.array([[5_000.0]])
    form = model.form_of(knobs.variant)
    _, gradient = form.log_step(knobs, 4_800, sizes)
    expected = SMOOTH_SPREAD**2 + OWN_SPREAD**2 + LOAD_SPREAD**2 + (gradient[0] ** 2 * form.spreads**2).sum()
    assert model.spread(knobs, 4_800, sizes) == pytest.approx(np.sqrt(expected))
    assert model.spread_of_runs(knobs, 4_800, sizes) == pytest.approx(np.sqrt(expected))
    assert not model.is_timed(probes[0].spec.knobs)
    assert model.step_s(knobs, 4_800, sizes) == pytest.approx(form.step_s(knobs, 4_800, sizes))


@pytest.mark.parametrize(("overlapping", "pace"), [(True, PACE), (False, PACE_CPU)])
def test_a_run_is_as_unsure_as_the_machine_is_restless(overlapping, pace):
    model = fit_time(FEATURES, anchors(), overlapping=overlapping)
    assert model.unrest == pytest.approx(np.hypot(0.001, pace))
    knobs, sizes = Knobs(layers=3, channels=48), np.array([[5_000.0]])
    spread = model.spread(knobs, 4_800, sizes)
    assert spread >= NOISE_FLOOR
    assert model.spread_of_runs(knobs, 4_800, sizes) == pytest.approx(np.hypot(spread, model.unrest))


def test_what_was_timed_is_predicted_as_it_was_timed():
    stray = timed(ANCHOR, 3_000.0, slower=1.1)
    model = fit_time(FEATURES, [*anchors(), stray], overlapping=False)
    form = model.form_of(stray.spec.knobs.variant)
    alone = form.step_s(ANCHOR, 9_600, np.array([[3_000.0]]))[0]
    assert alone < model.step_of(stray, FEATURES) < stray.outcome.step.median_s
    assert model.misfits[Variant()] == pytest.approx(
        max(
            abs(timed_step_s(p) / form.step_s(p.spec.knobs, counted_parameters(p), timed_sizes(FEATURES, p))[0] - 1)
            for p in [*anchors(), stray]
            if p.spec.knobs.variant == Variant()
        )
    )


def test_prediction_and_spread_are_those_of_a_gaussian_process():
    """By the textbook, with all timings, whose noises and priors are told."""
    probes = sorted(anchors(), key=lambda probe: probe.spec.key)
    model = fit_time(FEATURES, probes, overlapping=False)
    form = model.form_of(Variant())
    asked, sizes = Knobs(layers=6, channels=128), np.array([[4_000.0]])
    log_s, gradients = zip(
        *(form.log_step(p.spec.knobs, counted_parameters(p), timed_sizes(FEATURES, p)) for p in probes), strict=True
    )
    log_s, gradients = np.concatenate(log_s), np.concatenate(gradients)
    at, gradient = form.log_step(asked, 12_800, sizes)
    knobs, priors = [p.spec.knobs for p in probes], np.diag(form.spreads**2)
    noise = max(NOISE_FLOOR, 0.0005) ** 2 + PACE_CPU**2
    covariance = residual_covariance(knobs, log_s, knobs, log_s) + gradients @ priors @ gradients.T
    covariance += noise * np.eye(len(probes))
    cross = residual_covariance([asked], at, knobs, log_s)[0] + (gradient @ priors @ gradients.T)[0]
    prior = residual_covariance([asked], at, [asked], at)[0, 0] + (gradient @ priors @ gradient.T)[0, 0]
    expected = prior - cross @ np.linalg.solve(covariance, cross)
    assert model.spread(asked, 12_800, sizes) == pytest.approx(np.sqrt(expected), rel=1e-6)
    alike = residual_covariance(knobs, log_s, knobs, log_s) + noise * np.eye(len(probes))
    missed = np.log([timed_step_s(p) for p in probes]) - log_s
    residual = residual_covariance([asked], at, knobs, log_s) @ np.linalg.solve(alike, missed)
    assert np.log(model.step_s(asked, 12_800, sizes)) == pytest.approx(at + residual, rel=1e-9)


@pytest.mark.parametrize("overlapping", [True, False])
def test_the_fit_is_the_most_probable_one(overlapping):
    """No unknown, moved alone, makes timings and priors together likelier; the search may end a little before."""
    probes = [*anchors(), timed(ANCHOR, 3_000.0, slower=1.2), timed(Knobs(layers=3, channels=16), 1_000.0, real=False)]
    form = fit_form(FEATURES, ("all",), probes, overlapping=overlapping)
    timings = _Timings.of(FEATURES, form.variants, probes, overlapping=overlapping)
    usual, spreads = _priors(FEATURES, form.variants, timings, form.at_ends, overlapping=overlapping)

    def improbable(vector):
        """Twice the negative logarithm of the posterior density; misfits beyond `STRAY` spreads count linearly."""
        log_s, _ = form._log_step(vector, timings.terms, timings.wasted, timings.variant_of)
        misfits = np.where(
            timings.real, (timings.log_s - log_s) / timings.spreads, (timings.log_s - log_s) / MICRO_SPREAD
        )
        strayed = 2 * STRAY**2 * (np.sqrt(1 + (misfits / STRAY) ** 2) - 1)
        return strayed.sum() + (((vector - usual) / spreads) ** 2).sum()

    at, least = form._unknowns, improbable(form.vector)
    assert least < improbable(usual)
    for place in range(len(usual)):
        for step in (0.2, -0.2):
            moved = form.vector.copy()
            moved[place] += step * spreads[place]
            if (moved[at.repeated] < 0).any() or (moved[at.aligned] < 0).any() or (moved[at.launches] < 1).any():
                continue  # bounds
            if place == at.power and not overlapping:
                continue
            assert improbable(moved) > least - 1e-2


def asked(depth, width, nodes):
    load = Load(graphs=1, sizes=(("nodes", nodes),))
    knobs = Knobs(layers=depth, channels=width)
    return SimpleNamespace(knobs=knobs, capacity=100 * width, load=load)


def test_predictions_vary_together_by_what_the_timings_leave_open():
    near, far, small = asked(3, 48, 6_000.0), asked(7, 192, 30_000.0), asked(7, 192, 15_000.0)
    covariance = MODEL.covariance([near, far, small])
    spreads = [MODEL.spread(one.knobs, one.capacity, np.array([[one.load["nodes"]]])) for one in (near, far, small)]
    assert np.sqrt(np.diag(covariance)) == pytest.approx(spreads, rel=1e-6)
    of_model = covariance[1, 2] / np.sqrt(covariance[1, 1] * covariance[2, 2])
    of_both = covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1])
    assert of_model > 0.5 > of_both


def test_micro_probes_alone_leave_the_covariance_of_the_priors():
    only = fit_time(FEATURES, [timed(ANCHOR, nodes, real=False) for nodes in LOADS])
    one, other = asked(3, 48, 6_000.0), asked(3, 48, 7_000.0)
    covariance = only.covariance([one, other])
    assert np.sqrt(covariance[0, 0]) == pytest.approx(only.spread(one.knobs, 4_800, np.array([[6_000.0]])))
    assert covariance[0, 1] > 0
