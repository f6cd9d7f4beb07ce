"""The formula of a step's time, worked by hand, and its gradients."""

import numpy as np
import pytest

from compass.cost.observation import Probe
from compass.cost.time_form import (
    UNSEEN_FACTORS,
    UNSEEN_LAUNCHES,
    TimeForm,
    alignment,
    counted_parameters,
    half_interval,
    has_timing,
    is_real,
    time_terms,
    timed_sizes,
    timed_step_s,
)
from compass.records import Batch, Knobs, Load, Outcome, ProbeSpec, RuntimeSettings, Status, StepTime, Variant

FEATURES = ("nodes", "edges")
PLAIN, RECOMPUTING = Variant(), Variant(checkpointing=True)
COEFFICIENTS = np.array([3e-3, 5e-4, 1e-10, 1e-6, 2e-8, 3e-7, 1e-8, 2e-7, 3e-9, 2e-11, 4e-8, 1e-9, 5e-12])
TILES, KAPPA, LAMBDA, GROWTH, POWER = (0.05, 0.2), 1.5, 0.3, 1.04, 2.0
SIZES = np.array([[300.0, 5_000.0], [40.0, 600.0]])


def form(*, overlapping=True, variants=(PLAIN, RECOMPUTING)):
    others = len(variants) - 1
    power = np.log(POWER) if overlapping else 0.0
    vector = np.array([*np.log(COEFFICIENTS), *TILES, *[KAPPA] * others, *[LAMBDA] * others, GROWTH, power])
    return TimeForm(("all",), FEATURES, variants, overlapping, 1, vector, np.ones(len(vector)))


def by_hand(knobs, capacity, nodes, edges, *, kappa=1.0, lam=0.0, overlapping=True):
    """The module's docstring, letter by letter."""
    f0, f1, g, a_n, b_n, a_e, b_e, c_n, d_n, e_n, c_e, d_e, e_e = COEFFICIENTS
    depth, width = knobs.layers, knobs.channels
    floor = (f0 + f1 * depth) * kappa
    outer = nodes * (a_n + b_n * width) + edges * (a_e + b_e * width) + g * capacity
    layer = nodes * (c_n + d_n * width + e_n * width**2) + edges * (c_e + d_e * width + e_e * width**2)
    wasted = 0.0 if width % 64 == 0 or not overlapping else TILES[0] if width % 32 == 0 else TILES[1]
    work = ((outer + (depth - 1 + lam * (depth - 0.5)) * layer) * (1 + wasted)) ** GROWTH
    p = POWER if overlapping else 1.0
    return (floor**p + work**p) ** (1 / p)


@pytest.mark.parametrize("overlapping", [True, False])
@pytest.mark.parametrize("width", [64, 96, 48, 40])
@pytest.mark.parametrize(("variant", "factors"), [(PLAIN, {}), (RECOMPUTING, {"kappa": KAPPA, "lam": LAMBDA})])
def test_a_step_is_as_the_formula_says(overlapping, width, variant, factors):
    knobs = Knobs(layers=5, channels=width, variant=variant)
    expected = [by_hand(knobs, 1_000_000, *row, overlapping=overlapping, **factors) for row in SIZES]
    assert form(overlapping=overlapping).step_s(knobs, 1_000_000, SIZES) == pytest.approx(expected)


@pytest.mark.parametrize(("overlapping", "kappa"), [(True, UNSEEN_LAUNCHES), (False, UNSEEN_FACTORS[0])])
def test_recomputing_that_was_never_timed_is_as_usual(overlapping, kappa):
    knobs = Knobs(layers=5, channels=96, variant=RECOMPUTING)
    factors = {"kappa": kappa, "lam": UNSEEN_FACTORS[1], "overlapping": overlapping}
    one = form(overlapping=overlapping, variants=(PLAIN,))
    assert one.step_s(knobs, 1_000, SIZES) == pytest.approx([by_hand(knobs, 1_000, *row, **factors) for row in SIZES])
    assert one.launch_s(knobs) == pytest.approx(kappa * (3e-3 + 5 * 5e-4))
    assert one.log_step(knobs, 1_000, SIZES)[1].shape == (2, len(one.vector))


def test_launching_takes_as_long_for_every_load():
    plain, other = (Knobs(layers=5, channels=96, variant=variant) for variant in (PLAIN, RECOMPUTING))
    assert form().launch_s(plain) == pytest.approx(3e-3 + 5 * 5e-4)
    assert form().launch_s(other) == pytest.approx(KAPPA * (3e-3 + 5 * 5e-4))


@pytest.mark.parametrize("overlapping", [True, False])
@pytest.mark.parametrize("width", [64, 96, 48])
@pytest.mark.parametrize("variant", [PLAIN, RECOMPUTING])
def test_gradients_are_those_of_the_formula(overlapping, width, variant):
    one = form(overlapping=overlapping)
    knobs = Knobs(layers=5, channels=width, variant=variant)
    _, gradient = one.log_step(knobs, 1_000_000, SIZES)
    for place in range(len(one.vector) - (0 if overlapping else 1)):  # p is 1 on a CPU
        moved = []
        for change in (1e-5, -1e-5):
            vector = one.vector.copy()
            vector[place] += change
            moved.append(TimeForm(one.key, FEATURES, one.variants, overlapping, 1, vector, one.spreads))
        high, low = (each.log_step(knobs, 1_000_000, SIZES)[0] for each in moved)
        assert gradient[:, place] == pytest.approx((high - low) / 2e-5, rel=1e-4, abs=1e-8)


def test_the_terms_of_a_load():
    terms = time_terms(Knobs(layers=5, channels=10), 7, np.array([[2.0, 3.0]]))
    assert terms.tolist() == [[1, 5, 7, 2, 20, 3, 30, 2, 20, 200, 3, 30, 300]]


@pytest.mark.parametrize(("width", "expected"), [(64, 64), (128, 64), (96, 32), (48, 16), (40, 1)])
def test_alignment(width, expected):
    assert alignment(Knobs(layers=1, channels=width)) == expected


def probe(*, status=Status.OK, parameters=9, min_steps=2, n_steps=2, step=True, members=True):
    load = Load(graphs=1, sizes=(("nodes", 4.0), ("edges", 6.0)))
    batch = Batch(members=(("one", 1),)) if members else Batch(synthetic=load)
    spec = ProbeSpec(
        knobs=Knobs(layers=1, channels=8), batches=(batch,), min_steps=min_steps, max_steps=9, timeout_s=1,
        runtime=RuntimeSettings(threads=1),
    )  # fmt: skip
    time = StepTime(median_s=2.0, low_s=1.8, high_s=2.4, n_steps=n_steps) if step else None
    return Probe(spec, Outcome(status=status, load=load, parameters=parameters, step=time))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, True),
        ({"status": Status.CRASHED}, False),
        ({"parameters": 0}, False),
        ({"min_steps": 1}, False),
        ({"step": False}, False),
    ],
)
def test_what_counts_as_a_timing(given, expected):
    assert has_timing(probe(**given)) is expected


@pytest.mark.parametrize(
    ("given", "expected"), [({}, True), ({"n_steps": 1}, False), ({"members": False}, False), ({"step": False}, False)]
)
def test_what_counts_as_real(given, expected):
    assert is_real(probe(**given)) is expected


def test_what_a_probe_tells_of_its_step():
    assert (timed_step_s(probe()), half_interval(probe()), counted_parameters(probe())) == (2.0, pytest.approx(0.15), 9)
    assert timed_sizes(FEATURES, probe()).tolist() == [[4.0, 6.0]]
    assert (half_interval(probe(step=False)), counted_parameters(probe(parameters=None))) == (0.0, 0)
    with pytest.raises(ValueError, match="it was not timed"):
        timed_step_s(probe(step=False))
