"""The median step time with its interval, and the test whether it is known well enough."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import comb
from statistics import fmean, median, quantiles

from compass.records import StepTime

N_WARM_STEPS = 2
"""Steps whose time does not count: the first allocates the optimizer's state, the second is the first that has it."""
CONFIDENCE = 0.9
"""Confidence of the median's interval. It takes at least five steps; 95 % would take six, 99 % eight."""

LEAST_HALF = 5
"""Steps in a half: fewer have no quarters."""
CLEARLY_SLOWER, LEAST_REST = 1.25, 3
"""The first steps are warm-up too if each takes so many times as long as the slowest of the rest, of which there are at least so many.
Chance puts two certain steps of five first in one of ten runs, but leaves no such gap."""


def step_time(step_s: Sequence[float]) -> StepTime:
    """Median and mean of `step_s`, in seconds (at least one), with a distribution-free interval for the median.

    The interval reaches from the k-th smallest to the k-th largest of n values. It misses the median with probability
    2·P(Binomial(n, ½) < k) (David & Nagaraja, Order Statistics, 7.1). Below five values it is the whole range.
    """
    ordered = sorted(step_s)
    n = len(ordered)
    k = max(1, _rank(n))
    return StepTime(
        median_s=median(ordered), low_s=ordered[k - 1], high_s=ordered[n - k], n_steps=n, mean_s=fmean(ordered)
    )


def after_warming(step_s: Sequence[float]) -> Sequence[float]:
    """`step_s` without the first half, as often as that half is slower than the rest beyond chance.

    Compiled and autotuned models go on getting faster for many steps, and another program may end: the median of all steps
    would then be of none. A half is slower if its fastest quarter is above the slowest quarter of the rest. Before that, the first
    steps go if a clear gap parts them from all others, as where kernels are chosen by trying them.
    """
    step_s = step_s[n_slow_first(step_s) :]
    while len(step_s) >= 2 * LEAST_HALF:
        middle = len(step_s) // 2
        before, after = step_s[:middle], step_s[middle:]
        if quantiles(before, n=4)[0] <= quantiles(after, n=4)[2]:
            break
        step_s = after
    return step_s


def n_slow_first(step_s: Sequence[float]) -> int:
    """The most first steps of `step_s` that a clear gap parts from the rest; 0 if none does."""
    found, slowest = 0, 0.0
    fastest = list(accumulate(step_s, min))
    for n_first in range(len(step_s) - 1, 0, -1):
        slowest = max(slowest, step_s[n_first])
        if len(step_s) - n_first >= LEAST_REST and fastest[n_first - 1] > CLEARLY_SLOWER * slowest:
            found = max(found, n_first)
    return found


def _rank(n: int) -> int:
    """The largest k with P(Binomial(n, ½) < k) ≤ (1 − CONFIDENCE) / 2."""
    tail, k = 0.0, 0
    while (tail := tail + comb(n, k) * 0.5**n) <= (1 - CONFIDENCE) / 2:
        k += 1
    return k


def is_settled(time: StepTime, share: float) -> bool:
    """Whether half the width of the interval is at most `share` of the median."""
    return time.n_steps >= 2 and time.high_s - time.low_s <= 2 * share * time.median_s
