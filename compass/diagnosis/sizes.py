"""Which size of a batch explains what the declared ones do not.

Notation: k batches, F declared sizes. At one architecture each segment of a step holds bytes that are affine in the sizes that
matter. Leaving one batch out at a time and predicting it from the others says whether the declared sizes are those; trying
others beside them says which one is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compass.diagnosis.report import Fit
from compass.records import Batch, Load

Floats = NDArray[np.float64]
MEDIAN_LIMIT, WORST_LIMIT = 0.01, 0.03
"""Errors of live bytes up to which a workload counts as understood."""
CLEARLY = 0.5
"""A size is named as missing if it brings the worst error under this share of what it was."""
RANK = 1e-9

Values = Sequence[Mapping[str, float]]
"""(segment → bytes) of each batch, or one entry that is what was measured."""


class Sizes:
    """Sizes of one batch beyond its declared load: of its members, one by one."""

    def __init__(self, batch: Batch, samples: Mapping[str, Load]) -> None:
        if batch.synthetic is not None:
            self.members = [dict(batch.synthetic.sizes)]
        else:
            self.members = [dict(samples[name].sizes) for name, copies in batch.members for _ in range(copies)]

    def total(self, of: Callable[[Mapping[str, float]], float]) -> float:
        """The sum over the members."""
        return sum(of(member) for member in self.members)

    def padded(self, name: str, power: int) -> float:
        """What the members' size `name` comes to if each is filled up to the largest."""
        return len(self.members) * max(member[name] for member in self.members) ** power


def candidates(features: Sequence[str], batches: Sequence[Sizes]) -> dict[str, Floats]:
    """Sizes that might be missing, (k,) each, the simplest first."""
    found = {"graphs": [float(len(batch.members)) for batch in batches]}
    for name in features:
        found[f"{name}_squared"] = [batch.total(lambda m, s=name: m[s] ** 2) for batch in batches]
    for one in features:
        for other in features:
            if one < other:
                found[f"{one} × {other}"] = [batch.total(lambda m, s=one, t=other: m[s] * m[t]) for batch in batches]
    for one in features:
        for other in features:
            if one != other:
                found[f"{one}_squared / {other}"] = [
                    batch.total(lambda m, s=one, t=other: m[s] ** 2 / max(m[t], 1e-9)) for batch in batches
                ]
    for name in features:
        found[f"{name}, padded to the batch's largest"] = [batch.padded(name, 1) for batch in batches]
        found[f"{name}_squared, padded to the batch's largest"] = [batch.padded(name, 2) for batch in batches]
    return {name: np.array(values) for name, values in found.items()}


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
            seen = [j for j in np.flatnonzero(kept) if segment in values[j]]
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
    rows = np.column_stack([np.ones(len(loads)), loads])
    return int(np.linalg.matrix_rank(rows / np.maximum(np.abs(rows).max(axis=0), 1e-300), tol=RANK * len(rows)))
