"""Chooses the next timing: the one that is expected to improve the stage's pick most, per second of the probe.

Only time is unknown. The steps of all choices are jointly log-normal, so a timing of one moves the predictions of all others: by how
much says their covariance. What the pick gains is the best loss now less the best loss expected after the timing, integrated over its
result by Gauss-Hermite quadrature (the knowledge gradient; Frazier, Powell and Dayanik, INFORMS Journal on Computing 21, 2009). A
timing that moves all choices alike, or that cannot change which is best, gains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from compass.records import Choice
from compass.search.knowledge import Knowledge

_Floats = NDArray[np.float64]
Losses = Callable[[_Floats], _Floats]
"""The losses (n, k) of n choices in steps of (n, k) seconds; positive, and lower is better."""

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
TIMING_NOISE = 0.02
"""Relative noise of a short timing: of its few steps, and of the pace of its process."""
READY_S = 0.25
"""What a probe takes beyond its steps, for each of them: a model is built and warmed up. Without it, the tiniest batch is always cheapest."""
TAILS = 1.5
"""Two predictions differ from the truth by more than their covariance says where no form holds: on 23 foreign machines a tenth of the
pairs of choices by over 2.4 spreads, where a normal distribution has 1.64. Half of them are within the spreads that are said."""


def expected_gains(known: Knowledge, losses: Losses, choices: Sequence[Choice], probes: Sequence[Choice]) -> _Floats:
    """(p,) by what share of the best loss the pick among `choices` is expected to improve if one of `probes` is timed."""
    n_choices = len(choices)
    covariance = known.costs.covariance([*choices, *probes])
    step_s = np.array([choice.step_s for choice in choices])[:, None]
    gains = []
    for place in range(n_choices, n_choices + len(probes)):
        moves = TAILS * covariance[:n_choices, place] / np.sqrt(max(0.0, covariance[place, place]) + TIMING_NOISE**2)
        after = losses(step_s * np.exp(moves[:, None] * NODES))
        now = (after @ WEIGHTS).min()
        gains.append(1 - float(after.min(axis=0) @ WEIGHTS / now) if np.isfinite(now) else 0.0)
    return np.array(gains)


def most_promising(
    known: Knowledge, losses: Losses, choices: Sequence[Choice], probes: Sequence[Choice], *, gain_share: float
) -> Choice | None:
    """The probe with the largest expected gain per second; None if none gains more than `gain_share`.

    Every probe makes about as many steps.
    """
    gains = expected_gains(known, losses, choices, probes) if choices and probes else np.zeros(0)
    worthwhile = [
        (gain / (READY_S + probe.step_s), probe) for gain, probe in zip(gains, probes, strict=True) if gain > gain_share
    ]
    return max(worthwhile, key=lambda one: one[0])[1] if worthwhile else None
