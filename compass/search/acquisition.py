"""Chooses the next untimed choice to probe: the largest expected improvement of the score per second of the probe.

Only time is unknown, and the score is a known function of it, so the posterior over the score is the time's log-normal
pushed through the formula, integrated by Gauss–Hermite quadrature.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from compass.optimizer_config import StageRules
from compass.records import Choice
from compass.search.knowledge import Knowledge, sizes_row

NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def expected_gain(known: Knowledge, stage: StageRules, choice: Choice, best: float) -> float:
    """The expected improvement over the `best` score if `choice` is timed, in units of the score."""
    spread = known.costs.spread(choice.knobs, choice.capacity, sizes_row(choice.load), choice.allocator)
    step_s = choice.step_s * np.exp(spread * NODES)
    scores = known.score(choice.capacity, choice.batch_size, step_s, stage)
    gains = [max(0.0, best - value) if value is not None and np.isfinite(value) else 0.0 for value in scores]
    return float(WEIGHTS @ np.array(gains))


def most_promising(
    known: Knowledge, stage: StageRules, choices: Iterable[Choice], *, gain_share: float, longest_s: float
) -> Choice | None:
    """The untimed choice with the largest expected gain per probe second; None if no gain is worth a probe.

    A probe's batch is as large as steps of `longest_s` allow, but at least one graph.
    """
    choices = [choice for choice in choices if choice.score is not None]
    if not choices:
        return None
    timed = [choice for choice in choices if known.costs.is_timed(choice.knobs)]
    best = min(choice.score or 0.0 for choice in timed or choices)
    gains = {
        choice.knobs: (expected_gain(known, stage, choice, best), choice)
        for choice in choices
        if not known.costs.is_timed(choice.knobs)
    }
    worthwhile = [(gain, choice) for gain, choice in gains.values() if gain > gain_share * best]
    if not worthwhile:
        return None
    return max(worthwhile, key=lambda item: item[0] / _probe_step_s(known, item[1], longest_s))[1]


def _probe_step_s(known: Knowledge, choice: Choice, longest_s: float) -> float:
    """Seconds of one step of the probe; every probe makes about as many steps."""
    return max(known.step_s(choice.knobs, known.work.typical_load(1)), min(choice.step_s, longest_s))
