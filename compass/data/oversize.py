"""The few complexes that are much larger than the rest. A policy handles them before a model is chosen."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

_Sizes = tuple[tuple[str, float], ...]
"""(feature, amount) pairs."""


def oversize(complexes: Mapping[str, _Sizes], share: float) -> tuple[str, ...]:
    """The ids of the largest `share` of `complexes`, rounded down, largest first.

    Size is the largest of all features, each relative to its mean. Complexes as large as the largest that stays are not oversize.
    """
    n_most = math.floor(share * len(complexes))
    if n_most == 0:
        return ()
    amounts = np.array([[amount for _, amount in sizes] for sizes in complexes.values()])
    means = amounts.mean(axis=0)
    relative = dict(zip(complexes, (amounts / np.where(means > 0, means, 1.0)).max(axis=1), strict=True))
    order = sorted(complexes, key=lambda name: (-relative[name], name))
    return tuple(name for name in order[:n_most] if relative[name] > relative[order[n_most]])


def size_limit(complexes: Mapping[str, _Sizes], beyond: Collection[str]) -> dict[str, float]:
    """The largest amount of every feature among `complexes` without those `beyond`: the limit for cropping."""
    kept = [sizes for name, sizes in complexes.items() if name not in beyond]
    return {feature: max(dict(sizes)[feature] for sizes in kept) for feature, _ in kept[0]}
