"""The learning rate: how large for how many graphs an update, and how it goes over the updates."""

from __future__ import annotations

import math

from compass.optimizer_config import TrainingRules


def learning_rate(graphs_per_update: float, rules: TrainingRules) -> float:
    """The highest rate of a training whose updates gather `graphs_per_update` graphs in the mean, over all devices.

    Raises:
        ValueError: `graphs_per_update` is not above zero.
    """
    if graphs_per_update <= 0:
        raise ValueError(f"graphs_per_update: got {graphs_per_update}; expected more than 0")
    return float(rules.learning_rate * (graphs_per_update / rules.reference_batch) ** rules.batch_exponent)


def rate_factor(update: int, n_updates: int, rules: TrainingRules) -> float:
    """The share of the highest rate at `update`, counted from 0, of `n_updates`.

    Rises linearly to 1, which the last update of the warm-up has; then falls along half a cosine to `final_share`, which
    the last update of all has. Beyond, it stays there: a training that goes on after its plan does so gently.

    Raises:
        ValueError: `update` is negative or `n_updates` below 1.
    """
    if update < 0 or n_updates < 1:
        raise ValueError(f"update {update} of {n_updates}: expected one from 0, of at least 1")
    n_warm = warmup_updates(n_updates, rules)
    if update < n_warm:
        return (update + 1) / n_warm
    way = min(1.0, (update - n_warm + 1) / (n_updates - n_warm))
    return rules.final_share + (1.0 - rules.final_share) * (1.0 + math.cos(math.pi * way)) / 2.0


def warmup_updates(n_updates: int, rules: TrainingRules) -> int:
    """How many updates the rate rises over: none if their share is zero, else at least one, but never all."""
    n_warm = max(1, round(rules.warmup_share * n_updates)) if rules.warmup_share else 0
    return min(n_warm, n_updates - 1)
