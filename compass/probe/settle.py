"""When a step time is known well enough, and how well it is known."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import fmean, median

from compass.records import StepTime

CONFIDENCE = 0.9
"""Of the median's interval. It exists from five steps on; 95 % would need six, 99 % eight."""


def step_time(step_s: Sequence[float]) -> StepTime:
    """The median and the mean of `step_s` (at least one), with the distribution-free interval between two order statistics.

    With n values, the interval between the k-th smallest and k-th largest misses the median with probability
    2·P(Binomial(n, ½) < k) (David & Nagaraja, RunSpec Statistics, 7.1). Below five values it is the whole range.
    """
    ordered = sorted(step_s)
    n = len(ordered)
    k = max(1, _rank(n))
    return StepTime(
        median_s=median(ordered), low_s=ordered[k - 1], high_s=ordered[n - k], n_steps=n, mean_s=fmean(ordered)
    )


def _rank(n: int) -> int:
    """The largest k with P(Binomial(n, ½) < k) ≤ (1 − CONFIDENCE) / 2."""
    tail, k = 0.0, 0
    while (tail := tail + comb(n, k) * 0.5**n) <= (1 - CONFIDENCE) / 2:
        k += 1
    return k


def is_settled(time: StepTime, share: float) -> bool:
    """Whether half the interval is within `share` of the median."""
    return time.n_steps >= 2 and time.high_s - time.low_s <= 2 * share * time.median_s
