"""The probes of a workload check: the optimizer's own, and others whose results its law must predict."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from compass.optimizer_config import ProbeRules
from compass.probe.requests import synthetic_batches
from compass.records import Batch, Description, Load

LARGEST = 8
"""Samples in the largest batch that the law must predict."""
N_MIXED = 3
"""Batches of samples drawn at random."""


@dataclass(frozen=True)
class Questions:
    """Batches and models to probe, by purpose."""

    fitted: tuple[Batch, ...]
    """The batches that calibration probes."""
    others: tuple[Batch, ...]
    """Batches of real samples to predict: few and several, equal and mixed."""
    shape: tuple[int, int]
    """(layers, channels) of the one model that runs on all batches."""
    seen: tuple[tuple[int, int], ...]
    """(layers, channels) that calibration probes with all its batches."""
    seen_once: tuple[tuple[int, int], ...]
    """(layers, channels) that calibration probes with its first batch alone."""
    unseen: tuple[tuple[int, int], ...]
    """(layers, channels) of models to predict."""


def questions(description: Description, rules: ProbeRules, seed: int) -> Questions:
    """The probes for a workload with this description."""
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

    A few large samples and many small ones can agree in one size and differ in the others, which reveals sizes that are not
    declared.
    """
    ordered = sorted(samples, key=lambda name: sum(size for _, size in samples[name].sizes))
    low, middle, high = ordered[0], ordered[len(ordered) // 2], ordered[-1]
    batches = [[low] * LARGEST, [high] * 2, [middle] * 3, [middle] * 6, [low, high], [low] * 4 + [high]]
    if samples[low].padded:  # as in calibration, one member is shorter than the rest
        batches = [[*names, low] for names in ([high], [middle] * 2, [middle] * 5, [high] * 3)]
    rng = random.Random(seed)
    batches += [rng.choices(ordered, k=n) for n in range(LARGEST - N_MIXED, LARGEST)]
    return list(dict.fromkeys(as_batch(names) for names in batches))


def as_batch(names: Sequence[str]) -> Batch:
    """A batch of these samples, in the order in which they first appear."""
    return Batch(members=tuple((name, names.count(name)) for name in dict.fromkeys(names)))
