"""Ridge regression on sparse features, its penalty chosen by what it does to data that was not fitted.

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

    Floats = NDArray[np.float64]

PENALTIES = np.logspace(5, -2, 15)
"""Largest first: of equals the simplest wins."""
N_JUDGES = 20
"""Rows set apart from which on they choose the penalty. Fewer say little: then every fitted row is left out in turn."""
ROWS = 512
"""Made dense at once."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """A fitted regression."""

    columns: NDArray[np.int64]
    """(q,) the features that occur."""
    centre: Floats
    """(q,)"""
    weights: Floats
    """(q,)"""
    mean: float
    penalty: float

    def predict(self, x: csr_array) -> Floats:
        """The prediction (m,) for features (m, p)."""
        found: Floats = self.mean + x[:, self.columns] @ self.weights - self.centre @ self.weights
        return found


def fit_ridge(x: csr_array, y: Floats, judges: csr_array, truth: Floats) -> Ridge:
    """The ridge of features (n, p) on labels (n,), n ≥ 1, by the penalty that does best.

    Judged by `judges` (m, p) with their `truth` (m,) if there are enough of them, else by leaving out each row in turn,
    which for a ridge takes no fitting (Allen's PRESS).
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


def _along(x: csr_array, centre: Floats, axes: Floats) -> Iterator[tuple[Floats, slice]]:
    """(X V of some rows, which rows)."""
    for start in range(0, x.shape[0], ROWS):
        rows = slice(start, start + ROWS)
        yield (x[rows].toarray() - centre) @ axes, rows
