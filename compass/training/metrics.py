"""Metrics of predicted affinities.

Labels with `=` or `~` are values, and errors and correlations are computed from them. A label with `<` or `>` is a bound: it
says only on which side of it the truth lies, so a prediction is right if it lies on that side.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from compass.data.scan.rows import Label
from compass.records import Metrics

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CONSTANT = 1e-12
"""Relative spread below which values differ by rounding only, so that a correlation with them is noise."""
SIDES = {"<": -1, ">": 1}
"""The side of a bound on which the truth lies."""


def metrics_of(predicted: ArrayLike, labels: Sequence[Label]) -> Metrics:
    """The metrics of `predicted` (g,) against `labels` (g).

    Raises:
        ValueError: they differ in length.
    """
    guess = np.asarray(predicted, np.float64)
    if guess.shape != (len(labels),):
        raise ValueError(f"got predictions of shape {guess.shape} for {len(labels)} labels")
    truth = np.array([label.pk for label in labels], np.float64)
    side = np.array([SIDES.get(label.relation, 0) for label in labels])
    error = (guess - truth)[side == 0]
    right = (guess - truth)[side != 0] * side[side != 0] >= 0
    given = guess[side == 0], truth[side == 0]
    return Metrics(
        n=len(error),
        rmse=math.sqrt(np.mean(np.square(error))) if len(error) else None,
        mae=float(np.mean(np.abs(error))) if len(error) else None,
        pearson=_correlation(*given),
        spearman=_correlation(*map(_ranks, given)),
        n_bounds=len(right),
        bounds_kept=float(np.mean(right)) if len(right) else None,
    )


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Pearson's r of two arrays (n,); None with fewer than two points, or if one array does not vary."""
    if len(one) < 2:
        return None
    centred = [values - values.mean() for values in (one, other)]
    spreads = [float(np.linalg.norm(values)) for values in centred]
    sizes = [float(np.linalg.norm(values)) for values in (one, other)]
    if any(spread <= CONSTANT * size for spread, size in zip(spreads, sizes, strict=True)):
        return None
    return float(np.clip(centred[0] / spreads[0] @ (centred[1] / spreads[1]), -1.0, 1.0))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The rank (n,) of each of `values` (n,); equal ones share their mean rank. Importing scipy.stats takes 60 MB."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[places])
