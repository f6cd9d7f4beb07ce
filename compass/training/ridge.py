"""Ridge regression on sparse features; the penalty is selected on data that was not fitted.

Notation: n rows, p features, X (n, p) centred, y (n,) centred, XᵀX = V diag(s) Vᵀ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from scipy.sparse import csr_array

    _Floats = NDArray[np.float64]

PENALTIES = np.logspace(5, -2, 15)
"""Largest first: of equally good ones the simplest is selected."""
N_JUDGES = 20
"""Held-out rows from which on they select the penalty; with fewer of them, each fitted row is left out in turn."""
ROWS = 512
"""Rows that are converted to dense arrays at once."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A fitted regression."""

    columns: NDArray[np.int64]
    """(q,) indices of the features that occur in the fitted rows."""
    centre: _Floats
    """(q,) means of these features."""
    weights: _Floats
    """(q,) their weights."""
    mean: float
    """The mean of the labels."""
    penalty: float
    """The selected one of `PENALTIES`."""

    def predict(self, x: csr_array) -> _Floats:
        """The predictions (m,) for features `x` (m, p)."""
        found: _Floats = self.mean + x[:, self.columns] @ self.weights - self.centre @ self.weights
        return found


def fit_ridge(x: csr_array, y: _Floats, judges: csr_array, truth: _Floats) -> Ridge:
    """The ridge of features `x` (n, p) on labels `y` (n,), n ≥ 1, with the penalty that predicts best.

    Held-out features `judges` (m, p) with labels `truth` (m,) select the penalty if m ≥ `N_JUDGES`. Otherwise each row is left
    out in turn, which for a ridge needs no refitting (Allen's PRESS statistic).
    """
    columns = np.unique(x.indices)
    used = x[:, columns]
    centre, mean = np.asarray(used.mean(axis=0)).ravel(), float(y.mean())
    spread, axes = np.linalg.eigh((used.T @ used).toarray() - len(y) * np.outer(centre, centre))
    spread = np.maximum(spread, 0.0)
    pull = axes.T @ (used.T @ (y - mean))
    shrunk = 1.0 / (spread[:, None] + PENALTIES)  # (q, penalties)
    along = pull[:, None] * shrunk
    error = np.zeros(len(PENALTIES))
    if len(truth) >= N_JUDGES:
        for z, rows in _along(judges[:, columns], centre, axes):
            error += np.square(z @ along + mean - truth[rows, None]).sum(axis=0)
    else:
        for z, rows in _along(used, centre, axes):
            leverage = 1.0 / len(y) + np.square(z) @ shrunk
            error += np.square((z @ along + mean - y[rows, None]) / np.maximum(1.0 - leverage, 1e-9)).sum(axis=0)
    best = int(error.argmin())
    return Ridge(columns, centre, axes @ along[:, best], mean, float(PENALTIES[best]))


def _along(x: csr_array, centre: _Floats, axes: _Floats) -> Iterator[tuple[_Floats, slice]]:
    """The centred rows of `x` (m, q) times `axes` (q, q), in blocks: (block (b, q), its rows)."""
    for start in range(0, x.shape[0], ROWS):
        rows = slice(start, start + ROWS)
        yield (x[rows].toarray() - centre) @ axes, rows
