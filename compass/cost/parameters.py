"""Trainable parameters of every architecture, from counting a few.

Layers are alike and linear maps are C × C, so the count is a polynomial of degree one in L and two in C. The fit is checked on
architectures that it has not seen. Where the check fails, or the sample leaves a coefficient undetermined, every architecture is
counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from compass.records import Knobs

Counter = Callable[[Iterable[Knobs]], Mapping[Knobs, int]]
FITTED, CHECKED = 9, 3


def capacities(knobs: Sequence[Knobs], count: Counter) -> dict[Knobs, int]:
    """Parameters of all `knobs` (one variant), asking `count` for as few as possible."""
    if len(knobs) <= FITTED + CHECKED:
        return dict(count(knobs))
    ordered = sorted(knobs, key=lambda k: (k.channels, k.layers))
    asked = [ordered[i] for i in np.linspace(0, len(ordered) - 1, FITTED + CHECKED).round().astype(int)]
    asked += [max(ordered, key=lambda k: (k.layers, k.channels)), min(ordered, key=lambda k: (k.layers, -k.channels))]
    counted = dict(count(dict.fromkeys(asked)))
    known = list(counted)
    check = known[1::4][:CHECKED]
    fit = [k for k in known if k not in check]
    if _rank(fit, knobs) < _rank(knobs, knobs):
        return dict(count(knobs))
    w, *_ = np.linalg.lstsq(_rows(fit), np.array([float(counted[k]) for k in fit]), rcond=None)
    if any(round(float(value)) != counted[k] for value, k in zip(_rows(known) @ w, known, strict=True)):
        return dict(count(knobs))
    return {k: round(float(value)) for k, value in zip(knobs, _rows(knobs) @ w, strict=True)}


def _rank(some: Sequence[Knobs], of: Sequence[Knobs]) -> int:
    """The number of coefficients that `some` determine; terms are scaled by their largest value among `of`."""
    return int(np.linalg.matrix_rank(_rows(some) / _rows(of).max(axis=0)))


def _rows(knobs: Sequence[Knobs]) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    depth = np.array([float(k.layers) for k in knobs])
    width = np.array([float(k.channels) for k in knobs])
    return np.stack([np.ones_like(width), width, width**2, depth, depth * width, depth * width**2], axis=1)
