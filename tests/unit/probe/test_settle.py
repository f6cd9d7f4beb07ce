from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.probe.settle import CONFIDENCE, after_warming, is_settled, step_time
from compass.records import StepTime

seconds = st.lists(st.floats(1e-4, 1e4), min_size=1, max_size=40)


@pytest.mark.parametrize(("n", "low", "high"), [(1, 1, 1), (3, 1, 3), (5, 1, 5), (8, 2, 7), (20, 6, 15)])
def test_the_ranks_of_the_interval(n, low, high):
    """Read off a table of Binomial(n, ½): 8 gives P(< 2) = 9/256, 20 gives P(< 6) = 0.0207 and P(< 7) = 0.0577."""
    time = step_time([float(rank) for rank in range(n, 0, -1)])
    assert (time.low_s, time.high_s, time.n_steps) == (low, high, n)
    assert time.median_s == (n + 1) / 2


@pytest.mark.parametrize("n", range(5, 80))
def test_coverage(n):
    """The interval holds the median often enough, and the next narrower one would not."""

    def misses(k):  # the median of a continuous variable is under the k-th smallest of n, or over the k-th largest
        return 2 * sum(comb(n, i) for i in range(k)) / 2**n

    k = int(step_time([float(rank) for rank in range(1, n + 1)]).low_s)
    assert misses(k) <= 1 - CONFIDENCE < misses(k + 1)


@given(seconds, st.randoms())
def test_order_means_nothing_and_the_median_is_inside(step_s, random):
    shuffled = random.sample(step_s, len(step_s))
    time = step_time(step_s)
    assert step_time(shuffled) == time
    assert min(step_s) <= time.low_s <= time.median_s <= time.high_s <= max(step_s)


@pytest.mark.parametrize(
    ("n_steps", "high_s", "settled"),
    [(1, 1.0, False), (3, 1.02, True), (3, 1.04, False), (30, 1.02, True), (30, 1.04, False)],
)
def test_settled_means_half_the_interval_is_within_the_share(n_steps, high_s, settled):
    assert is_settled(StepTime(median_s=1.0, low_s=0.99, high_s=high_s, n_steps=n_steps), 0.02) is settled


def test_steps_that_go_on_getting_faster_are_waited_for():
    """A compiled model: ten slow steps, then the truth."""
    warming = [4.7, 4.1, 3.6, 3.2, 2.8, 2.5, 2.3, 2.1, 1.9, 1.8]
    assert not is_settled(step_time(after_warming(warming)), 0.03)
    settled = [1.6, 1.61, 1.59, 1.6, 1.62, 1.6, 1.61, 1.6, 1.6, 1.59, 1.61, 1.6]
    time = step_time(after_warming(warming + settled))
    assert is_settled(time, 0.03)
    assert time.median_s == pytest.approx(1.6, rel=0.01)


@pytest.mark.parametrize(
    "step_s", [[1.0], [2.0] * 9, [1.2, *[1.0, 1.1] * 10], [1.0, 5.0, *[1.0, 1.1] * 10], [1.0, 1.1] * 10 + [5.0]]
)
def test_chance_and_one_slow_step_are_no_trend(step_s):
    assert after_warming(step_s) == step_s


@pytest.mark.parametrize("n_slow", [1, 2, 4])
def test_first_steps_that_a_gap_parts_from_the_rest_are_warm_up(n_slow):
    """Kernels that are chosen by trying them: with few steps, halves would mix both."""
    rest = [1.0, 1.02, 0.99]
    assert after_warming([6.0] * n_slow + rest) == rest
    assert after_warming([6.0] * n_slow + rest[:2]) == [6.0] * n_slow + rest[:2]


@given(st.lists(st.floats(1.0, 1.2), min_size=1, max_size=60))
def test_what_is_left_is_the_end_and_never_under_half_a_dozen(step_s):
    left = after_warming(step_s)
    assert left == step_s[len(step_s) - len(left) :]
    assert len(left) >= min(len(step_s), 5)
