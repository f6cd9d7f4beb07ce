"""The learning rate: its height for a number of graphs per update, and its course over the updates."""

from __future__ import annotations

import math

from compass.optimizer_config import TrainingRules


def learning_rate(graphs_per_update: float, rules: TrainingRules) -> float:
    """The highest learning rate of a training: `learning_rate · (graphs_per_update / reference_batch)^batch_exponent`.

    Args:
        graphs_per_update: mean number of graphs in an update, over all devices.
        rules: the configured rules.

    Raises:
        ValueError: `graphs_per_update` is not above zero.
    """
    if graphs_per_update <= 0:
        raise ValueError(f"graphs_per_update: got {graphs_per_update}; expected more than 0")
    return float(rules.learning_rate * (graphs_per_update / rules.reference_batch) ** rules.batch_exponent)


def rate_factor(update: int, n_updates: int, rules: TrainingRules) -> float:
    """The share of the highest rate at `update`, counted from 0, of `n_updates`.

    It rises linearly to 1 at the last update of the warm-up, then falls along half a cosine to `final_share` at the last
    update of all. A training that is continued beyond that keeps `final_share`.

    Raises:
        ValueError: `update` is negative or `n_updates` below 1.
    """
    if update < 0 or n_updates < 1:
        raise ValueError(f"update {update} of {n_updates}: expected one from 0, of at least 1")
    n_warm = warmup_updates(n_updates, rules)
    if update < n_warm:
        return (update + 1) / n_warm
    progress = min(1.0, (update - n_warm + 1) / (n_updates - n_warm))
    return rules.final_share + (1.0 - rules.final_share) * (1.0 + math.cos(math.pi * progress)) / 2.0


def warmup_updates(n_updates: int, rules: TrainingRules) -> int:
    """The number of updates in the warm-up: 0 if their configured share is 0, else at least 1, but never all."""
    n_warm = max(1, round(rules.warmup_share * n_updates)) if rules.warmup_share else 0
    return min(n_warm, n_updates - 1)
