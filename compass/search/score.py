"""The score of a choice for a stage. Lower scores are better; the production reference scores 1.

    score = (1 − q)·(throughput / reference throughput)^−β + q·(capacity / reference capacity)^−α

It has the form of a neural scaling law: one term falls with the samples seen in a given time, the other with parameters. Both
have diminishing returns, so the best choice lies inside the space and not in a corner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compass.records import ScoreTerms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from compass.optimizer_config import ScoreRules, StageRules
    from compass.records import Choice

    _Floats = NDArray[np.float64]


def worth(cycle_s: _Floats, stage: StageRules, late_worth: float) -> _Floats:
    """The worth of a sample in cycles of `cycle_s` seconds: 1 up to the target, falling within the window, 0 beyond it."""
    if stage.target_s is None:
        return np.ones_like(cycle_s)
    over = np.maximum(0.0, cycle_s - stage.target_s)
    if stage.window_s == 0:
        return np.where(over > 0, 0.0, 1.0)
    return np.where(over > stage.window_s, 0.0, 1.0 - (1.0 - late_worth) * over / stage.window_s)


def score(
    throughput: _Floats, capacity: _Floats, reference: Choice, quality_weight: float, rules: ScoreRules
) -> _Floats:
    """The score of softened `throughput` (graphs per second) and `capacity` (parameters); infinite at throughput 0."""
    samples, parameters = _terms(
        throughput / reference.throughput, capacity / reference.capacity, quality_weight, rules
    )
    return samples + parameters


def terms(
    throughput: float, cycle_s: float, capacity: int, reference: Choice, stage: StageRules, rules: ScoreRules
) -> ScoreTerms:
    """The score of one configuration, taken apart; `throughput` as it was measured."""
    counts = float(worth(np.array([cycle_s]), stage, rules.late_worth)[0])
    ratios = counts * throughput / reference.throughput, capacity / reference.capacity
    samples, parameters = _terms(np.array(ratios[:1]), np.array(ratios[1:]), stage.quality_weight, rules)
    return ScoreTerms(
        worth=counts,
        throughput_ratio=ratios[0],
        capacity_ratio=ratios[1],
        samples=float(samples[0]),
        parameters=float(parameters[0]),
    )


def _terms(
    throughput_ratio: _Floats, capacity_ratio: _Floats, quality_weight: float, rules: ScoreRules
) -> tuple[_Floats, _Floats]:
    """The two terms of the score, of samples and of parameters. Without any throughput the first is infinite."""
    runs = throughput_ratio > 0
    samples = (1.0 - quality_weight) * np.where(runs, throughput_ratio, 1.0) ** -rules.beta
    return np.where(runs, samples, np.inf), quality_weight * capacity_ratio**-rules.alpha
