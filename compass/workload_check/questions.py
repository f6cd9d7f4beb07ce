"""Which probes a check-up makes: the optimizer's own, and some to hold their law against."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from compass.optimizer_config import ProbeRules
from compass.probe.requests import synthetic_batches
from compass.records import Batch, Description, Load

LARGEST = 8
"""Samples in a batch that the law is held against."""
N_MIXED = 3


@dataclass(frozen=True)
class Questions:
    """Batches and shapes, apart by what they are for."""

    fitted: tuple[Batch, ...]
    """What calibration probes."""
    others: tuple[Batch, ...]
    """Real samples, mixed and alike, few and several."""
    shape: tuple[int, int]
    """(layers, channels) of the one model that all batches are tried with."""
    seen: tuple[tuple[int, int], ...]
    """(layers, channels) that calibration probes with all its batches."""
    seen_once: tuple[tuple[int, int], ...]
    """The same with the first of them only."""
    unseen: tuple[tuple[int, int], ...]
    """(layers, channels) to predict."""


def questions(description: Description, rules: ProbeRules, seed: int) -> Questions:
    """What to ask of a workload."""
    samples = dict(description.samples)
    fitted = description.micro_batches or synthetic_batches(rules)
    shapes = rules.micro_architectures
    return Questions(
        fitted=fitted,
        others=tuple(batch for batch in real_batches(samples, seed) if batch not in fitted),
        shape=shapes[len(shapes) // 2],
        seen=shapes,
        seen_once=rules.extra_architectures,
        unseen=rules.more_architectures,
    )


def real_batches(samples: dict[str, Load], seed: int) -> list[Batch]:
    """The smallest, the middle and the largest samples, alone and together, and mixtures drawn at random.

    Few of the large and many of the small have one size in common and differ in others: that shows what is not declared.
    """
    ordered = sorted(samples, key=lambda name: sum(size for _, size in samples[name].sizes))
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    batches = [[low] * LARGEST, [high] * 2, [middle] * 3, [middle] * 6, [low, high], [low] * 4 + [high]]
    rng = random.Random(seed)
    batches += [rng.choices(ordered, k=n) for n in range(LARGEST - N_MIXED, LARGEST)]
    return list(dict.fromkeys(as_batch(names) for names in batches))


def as_batch(names: Sequence[str]) -> Batch:
    """A batch of these samples, in the order in which they first appear."""
    return Batch(members=tuple((name, names.count(name)) for name in dict.fromkeys(names)))
