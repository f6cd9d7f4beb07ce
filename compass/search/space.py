"""Which models exist: the architectures and variants of a stage, and the parameters the dataset allows."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from compass.optimizer_config import SpaceRules, StageRules, Table
from compass.records import Knobs, Variant
from compass.units import GIB


def data_cap(table: Table, dataset_size: int) -> int:
    """Trainable parameters that `dataset_size` complexes can feed: log–log interpolation, clamped at both ends."""
    sizes, caps = (np.log([point[axis] for point in table]) for axis in (0, 1))
    return round(math.exp(float(np.interp(math.log(max(1, dataset_size)), sizes, caps))))


def vram_factor(table: Table, budget_bytes: int) -> float:
    """By how much the upper ends of layers and channels are scaled for a memory of `budget_bytes`."""
    return float(np.interp(budget_bytes / GIB, [x for x, _ in table], [y for _, y in table]))


def architectures(rules: SpaceRules, budget_bytes: int) -> list[tuple[int, int]]:
    """(layers, channels) of every model the space holds for a memory of `budget_bytes`."""
    factor = vram_factor(rules.vram_factors, budget_bytes)
    step = math.lcm(rules.channel_step, int(rules.options.get("heads", 1)))
    layers = range(rules.layers[0], max(rules.layers[0], round(rules.layers[1] * factor)) + 1)
    lowest = math.ceil(rules.channels[0] / step) * step
    channels = range(lowest, max(lowest, round(rules.channels[1] * factor)) + 1, step)
    narrow, wide = rules.channels_per_layer
    return [(depth, width) for depth in layers for width in channels if narrow <= width / depth <= wide]


def variants(space: SpaceRules, stage: StageRules) -> list[Variant]:
    """What a stage chooses from beside depth and width."""
    options = tuple(sorted(space.options.items()))
    return [
        Variant(precision=precision, checkpointing=checkpointing, options=options)
        for precision in stage.precision
        for checkpointing in stage.checkpointing
    ]


def knobs_of(shapes: Sequence[tuple[int, int]], kinds: Sequence[Variant]) -> list[Knobs]:
    """Every architecture in every variant."""
    return [Knobs(layers=depth, channels=width, variant=kind) for kind in kinds for depth, width in shapes]
