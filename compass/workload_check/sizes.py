"""Which size of a batch explains what the declared ones do not.

Notation: k batches, F declared sizes. At one architecture each segment of a step holds bytes that are affine in the sizes that
matter. Leaving one batch out at a time and predicting it from the others says whether the declared sizes are those; trying
others beside them says which one is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from compass.records import Batch, Load
from compass.workload_check.report import Fit

Floats = NDArray[np.float64]
MEDIAN_LIMIT, WORST_LIMIT = 0.01, 0.03
"""Errors of live bytes up to which a workload counts as understood."""
CLEARLY = 0.5
"""A size is named as missing if it brings the worst error under this share of what it was."""
RANK = 1e-9
PADDED = "padded to the batch's largest"
"""Says of a size that every member is filled up to it. No sum over members is like that."""

Values = Sequence[Mapping[str, float]]
"""(segment → bytes) of each batch, or one entry that is what was measured."""


def members_of(batch: Batch, samples: Mapping[str, Load]) -> Floats:
    """(m, F) sizes of each of the batch's members; a made-up batch is one member."""
    if batch.synthetic is not None:
        return np.array([[size for _, size in batch.synthetic.sizes]])
    loads = [samples[name] for name, copies in batch.members for _ in range(copies)]
    return np.array([[size for _, size in load.sizes] for load in loads])


def candidates(features: Sequence[str], batches: Sequence[Floats]) -> dict[str, Floats]:
    """Sizes that might be missing, (k,) each, the simplest first; `batches` are the (m, F) sizes of their members."""

    def over(size: Callable[[Floats], Floats | float]) -> Floats:
        return np.array([float(np.sum(size(members))) for members in batches])

    pairs = [(i, j) for i in range(len(features)) for j in range(len(features)) if i != j]
    found = {"graphs": over(len)}
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


def _product(i: int, j: int, members: Floats) -> Floats:
    return np.asarray(members[:, i] * members[:, j])


def _ratio(i: int, j: int, members: Floats) -> Floats:
    return np.asarray(members[:, i] ** 2 / np.maximum(members[:, j], 1e-9))


def _padded(i: int, power: int, members: Floats) -> float:
    return float(len(members) * members[:, i].max() ** power)


def judge(features: Sequence[str], loads: Floats, values: Values, others: Mapping[str, Floats]) -> Fit | None:
    """How well `loads` (k, F) explain `values`, and which of `others` (k,) would explain more; None with too few batches."""
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
        if richer is not None and richer.max() < CLEARLY * (fit.worst if best is None else best[1]):
            best = (name, float(richer.max()))
    return fit if best is None else fit.model_copy(update={"missing": best[0], "with_missing": best[1]})


def left_out(loads: Floats, values: Values) -> Floats | None:
    """Relative error of each batch's peak as the others predict it; of those alone that leave the rest determined.

    None if there are none.
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


def _solve(rows: Floats, target: Floats) -> Floats:
    """Least squares of the relative error, columns brought to one size."""
    weighted = rows / target[:, None]
    scale = np.maximum(np.abs(weighted).max(axis=0), 1e-300)
    solution, *_ = np.linalg.lstsq(weighted / scale, np.ones(len(rows)), rcond=1e-10)
    return np.asarray(solution / scale, dtype=np.float64)


def _rank(loads: Floats) -> int:
    """Of the plane that `loads` (k, F) span, the constant included."""
    if len(loads) == 0:
        return 0
    rows = np.column_stack([np.ones(len(loads)), loads])
    return int(np.linalg.matrix_rank(rows / np.maximum(np.abs(rows).max(axis=0), 1e-300), tol=RANK * len(rows)))
