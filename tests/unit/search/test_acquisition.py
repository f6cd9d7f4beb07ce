"""Which timing is worth its steps: one that may change what is best, and not one that moves all alike."""

from types import SimpleNamespace

import numpy as np
import pytest

from compass.search.acquisition import expected_gains, most_promising

SPREAD = 0.2
UNLIKE = SPREAD**2 * np.eye(4)
ALIKE = np.full((4, 4), SPREAD**2)


def choices(*step_s):
    """Choices of one graph each, whose loss is their step."""
    return [SimpleNamespace(step_s=one) for one in step_s]


def gains(covariance, *step_s):
    """Of timing each of two choices themselves."""
    both = choices(*step_s)
    known = SimpleNamespace(costs=SimpleNamespace(covariance=lambda _: np.tile(covariance[:2, :2], (2, 2))))
    return expected_gains(known, lambda one: one, both, both)


def test_a_timing_that_moves_all_alike_gains_nothing():
    assert gains(ALIKE, 1.0, 1.01) == pytest.approx([0, 0], abs=1e-9)


def test_level_rivals_of_unlike_errors_are_worth_telling_apart():
    assert (gains(UNLIKE, 1.0, 1.01) > 0.03).all()


def test_a_rival_far_behind_gains_nothing():
    assert gains(UNLIKE, 1.0, 4.0)[1] == pytest.approx(0, abs=1e-4)


def test_the_surer_a_step_is_the_less_its_timing_gains():
    assert (gains(UNLIKE, 1.0, 1.01) > gains(UNLIKE / 16, 1.0, 1.01)).all()


def picked(*, gain_share, step_s=(1.0, 1.01), probes=None):
    both = choices(*step_s)
    known = SimpleNamespace(costs=SimpleNamespace(covariance=lambda _: np.tile(UNLIKE[:2, :2], (2, 2))))
    asked = both if probes is None else probes
    return both, most_promising(known, lambda one: one, both, asked, gain_share=gain_share)


def test_no_probe_is_made_for_too_small_a_gain():
    assert picked(gain_share=0.5)[1] is None


def test_without_probes_there_is_none_to_make():
    assert picked(gain_share=0.0, probes=[])[1] is None


def test_of_like_gains_the_shorter_probe_is_made():
    probes = choices(1.0, 0.1)  # of smaller batches than the choices they tell of
    assert picked(gain_share=0.01, probes=probes)[1] is probes[1]
