"""What a choice is worth to a stage. Lower scores are better; the production reference scores 1.

    score = (1 − q)·(throughput / reference throughput)^−β + q·(capacity / reference capacity)^−α

It has the form of a neural scaling law: one term falls with the samples seen in a given time, the other with parameters,
both with diminishing returns, so the best choice lies inside the space and not in a corner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from compass.records import ScoreTerms

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from compass.optimizer_config import ScoreRules, StageRules
    from compass.records import Choice

    Floats = NDArray[np.float64]


def worth(cycle_s: Floats, stage: StageRules, late_worth: float) -> Floats:
    """What a sample counts for in a cycle of that length: 1 up to the target, falling, and 0 beyond the window."""
    if stage.target_s is None:
        return np.ones_like(cycle_s)
    over = np.maximum(0.0, cycle_s - stage.target_s)
    if stage.window_s == 0:
        return np.where(over > 0, 0.0, 1.0)
    return np.where(over > stage.window_s, 0.0, 1.0 - (1.0 - late_worth) * over / stage.window_s)


def terms(
    throughput: float, cycle_s: float, capacity: int, reference: Choice, stage: StageRules, rules: ScoreRules
) -> ScoreTerms:
    """The score of one configuration, taken apart; `throughput` as it was measured."""
    counts = float(worth(np.array([cycle_s]), stage, rules.late_worth)[0])
    samples, parameters = counts * throughput / reference.throughput, capacity / reference.capacity
    return ScoreTerms(
        worth=counts,
        throughput_ratio=samples,
        capacity_ratio=parameters,
        samples=(1.0 - stage.quality_weight) * samples**-rules.beta,
        parameters=stage.quality_weight * parameters**-rules.alpha,
    )


def score(throughput: Floats, capacity: Floats, reference: Choice, quality_weight: float, rules: ScoreRules) -> Floats:
    """The score of softened `throughput` (graphs per second) and `capacity` (parameters); infinite at throughput 0."""
    runs = throughput > 0
    samples = (np.where(runs, throughput, 1.0) / reference.throughput) ** -rules.beta
    parameters = (capacity / reference.capacity) ** -rules.alpha
    return np.where(runs, (1.0 - quality_weight) * samples + quality_weight * parameters, np.inf)
