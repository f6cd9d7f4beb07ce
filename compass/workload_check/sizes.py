"""Whether the declared sizes explain live bytes, and if not, which other size would.

For one model, the live bytes of each segment of a step are affine in the sizes that drive memory. Each batch is left out in
turn and predicted from the rest: a large error means that a size is missing. Other sizes are then tried beside the declared
ones.

Notation: k batches, F declared sizes, m members of a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from compass.records import Batch, Load
from compass.records.nouns import SAMPLES
from compass.workload_check.report import Fit

_Floats = NDArray[np.float64]
MEDIAN_LIMIT, WORST_LIMIT = 0.01, 0.03
"""Relative errors of live bytes up to which the cost model applies."""
CLEAR_SHARE = 0.5
"""A size is named as missing if it brings the worst error below this share of its former value."""
RANK = 1e-9
"""Relative tolerance of the rank of a matrix of loads."""
PADDED = "padded to the batch's largest"
"""Marks a size to which every member is padded. It is no sum over members."""

Values = Sequence[Mapping[str, float]]
"""(segment → bytes) of each batch; a batch without segments has one entry."""


def members_of(batch: Batch, samples: Mapping[str, Load]) -> _Floats:
    """(m, F) sizes of the batch's members; a synthetic batch counts as one member."""
    if batch.synthetic is not None:
        return np.array([[size for _, size in batch.synthetic.sizes]])
    loads = [samples[name] for name, copies in batch.members for _ in range(copies)]
    return np.array([[size for _, size in load.sizes] for load in loads])


def possible_sizes(features: Sequence[str], batches: Sequence[_Floats]) -> dict[str, _Floats]:
    """Sizes that might be missing, by name, (k,) each, the simplest first. `batches` holds each batch's (m, F) sizes."""

    def over(size: Callable[[_Floats], _Floats | float]) -> _Floats:
        return np.array([float(np.sum(size(members))) for members in batches])

    pairs = [(i, j) for i in range(len(features)) for j in range(len(features)) if i != j]
    found = {SAMPLES: over(len)}
    for i, name in enumerate(features):
        found[f"{name}_squared"] = over(partial(_product, i, i))
    for i, j in pairs:
        if i < j:
            found[f"{features[i]} × {features[j]}"] = over(partial(_product, i, j))
    for i, j in pairs:
        found[f"{features[i]}_squared / {features[j]}"] = over(partial(_ratio, i, j))
    for i, name in enumerate(features):
        found[f"{name}, {PADDED}"] = over(partial(_padded, i, 1))
        found[f"{name}_squared, {PADDED}"] = over(partial(_padded, i, 2))
    return found


def _product(i: int, j: int, members: _Floats) -> _Floats:
    return np.asarray(members[:, i] * members[:, j])


def _ratio(i: int, j: int, members: _Floats) -> _Floats:
    return np.asarray(members[:, i] ** 2 / np.maximum(members[:, j], 1e-9))


def _padded(i: int, power: int, members: _Floats) -> float:
    return float(len(members) * members[:, i].max() ** power)


def assess_sizes(features: Sequence[str], loads: _Floats, values: Values, others: Mapping[str, _Floats]) -> Fit | None:
    """How well `loads` (k, F) explain `values`, and which of `others` (k,) would explain more.

    None with too few different batches.
    """
    errors = left_out(loads, values)
    if errors is None:
        return None
    without = []
    for place, name in enumerate(features):
        fewer = left_out(np.delete(loads, place, axis=1), values)
        without.append((name, float(fewer.max()) if fewer is not None else 0.0))
    fit = Fit(median=float(np.median(errors)), worst=float(errors.max()), n=len(errors), without=tuple(without))
    if fit.median <= MEDIAN_LIMIT and fit.worst <= WORST_LIMIT:
        return fit
    best: tuple[str, float] | None = None
    for name, size in others.items():
        wider = np.column_stack([loads, size])
        if _rank(wider) == _rank(loads):
            continue
        richer = left_out(wider, values)
        if richer is not None and richer.max() < CLEAR_SHARE * (fit.worst if best is None else best[1]):
            best = (name, float(richer.max()))
    return fit if best is None else fit.model_copy(update={"missing": best[0], "with_missing": best[1]})


def left_out(loads: _Floats, values: Values) -> _Floats | None:
    """Relative error of each batch's peak as predicted from the other batches.

    Batches without which the others do not determine the law are passed over; None if that leaves none.
    """
    rows = np.column_stack([np.ones(len(loads)), loads])
    full = _rank(loads)
    truth = np.array([max(value.values()) for value in values])
    errors = []
    for i in range(len(rows)):
        kept = np.arange(len(rows)) != i
        if _rank(loads[kept]) < full:
            continue
        predicted = -np.inf
        for segment in values[i]:
            seen = [j for j in range(len(values)) if kept[j] and segment in values[j]]
            target = np.array([values[j][segment] for j in seen])
            predicted = max(predicted, float(rows[i] @ _solve(rows[seen], target)))
        errors.append(abs(predicted / truth[i] - 1))
    return np.array(errors) if errors else None


def _solve(rows: _Floats, target: _Floats) -> _Floats:
    """Least-squares coefficients for the relative error, with columns scaled to the same size."""
    weighted = rows / target[:, None]
    scale = np.maximum(np.abs(weighted).max(axis=0), 1e-300)
    solution, *_ = np.linalg.lstsq(weighted / scale, np.ones(len(rows)), rcond=1e-10)
    return np.asarray(solution / scale, dtype=np.float64)


def _rank(loads: _Floats) -> int:
    """Rank of `loads` (k, F) with a column of ones."""
    if len(loads) == 0:
        return 0
    rows = np.column_stack([np.ones(len(loads)), loads])
    return int(np.linalg.matrix_rank(rows / np.maximum(np.abs(rows).max(axis=0), 1e-300), tol=RANK * len(rows)))
