"""Step time of any configuration at any load.

Notation: L layers, C channels, s the sizes of a load, P parameters.

    step = t₀ + t₁·L + Σ_s s·(a_s·C + b_s·L + c_s·L·C + d_s·L·C²) + p·P,   every coefficient ≥ 0

Kernels are launched once or once a layer; element-wise work grows with s·C, matrix products with s·C²; the optimizer
passes over the parameters. Fitted by non-negative least squares of the relative error, so that nothing can be cheaper
than free. What the form misses of one architecture (tile effects, caches) is a factor, learnt when it is timed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compass.cost.observation import Probe
from compass.records import Knobs, Variant

Floats = NDArray[np.float64]
PRIOR_SPREAD = 0.05
"""Relative spread assumed of an untimed architecture before any residual was seen: 2–8 % were measured."""
TIMED_SPREAD = 0.01
"""Relative spread of an architecture that was timed."""


@dataclass(frozen=True)
class TimeModel:
    """The fitted coefficients by variant, and each timed architecture's own factor."""

    features: tuple[str, ...]
    coefficients: dict[Variant, Floats]
    factors: dict[Knobs, float] = field(default_factory=dict)
    spreads: dict[Variant, float] = field(default_factory=dict)
    """Relative standard deviation of the form's error on architectures that were not timed."""

    def step_s(self, knobs: Knobs, capacity: int, sizes: Floats) -> Floats:
        """Predicted seconds a step (n,) at `sizes` (n, features). Raises KeyError for a variant never probed."""
        mean = _rows(knobs, capacity, sizes) @ self.coefficients[knobs.variant]
        return np.asarray(mean * self.factors.get(knobs, 1.0), dtype=np.float64)

    def spread(self, knobs: Knobs) -> float:
        """Relative standard deviation of the prediction for `knobs`."""
        return TIMED_SPREAD if knobs in self.factors else self.spreads.get(knobs.variant, PRIOR_SPREAD)


def fit_time(features: tuple[str, ...], probes: Iterable[Probe]) -> TimeModel:
    """Fit the step times in `probes`; the largest load of an architecture decides its own factor."""
    by_variant: dict[Variant, list[Probe]] = {}
    for probe in probes:
        if probe.outcome.ok and probe.outcome.step and probe.outcome.parameters:
            by_variant.setdefault(probe.spec.knobs.variant, []).append(probe)
    coefficients: dict[Variant, Floats] = {}
    spreads: dict[Variant, float] = {}
    factors: dict[Knobs, float] = {}
    for variant, group in by_variant.items():
        w = coefficients[variant] = _solve(*_system(features, group))
        largest: dict[Knobs, Probe] = {}
        for probe in group:
            known = largest.get(probe.spec.knobs)
            if known is None or _step_s(probe) > _step_s(known):
                largest[probe.spec.knobs] = probe
        own = {knobs: _step_s(p) / float(_probe_row(features, p) @ w) for knobs, p in largest.items()}
        # Only steps long enough to be more than launches speak of the architecture.
        factors |= {knobs: factor for knobs, factor in own.items() if _is_telling(largest[knobs])}
        residuals = [np.log(factor) for factor in own.values()]
        spreads[variant] = float(max(0.02, np.sqrt(np.mean(np.square(residuals)))))
    return TimeModel(features, coefficients, factors, spreads)


def _is_telling(probe: Probe) -> bool:
    return any(batch.members for batch in probe.spec.batches)


def _system(features: tuple[str, ...], probes: Sequence[Probe]) -> tuple[Floats, Floats]:
    return np.array([_probe_row(features, p) for p in probes]), np.array([_step_s(p) for p in probes])


def _solve(rows: Floats, step_s: Floats) -> Floats:
    from scipy.optimize import nnls

    weighted = rows / step_s[:, None]
    scale = weighted.max(axis=0)
    scale[scale == 0] = 1.0
    solution, _ = nnls(weighted / scale, np.ones(len(rows)))
    return np.asarray(solution / scale, dtype=np.float64)


def _step_s(probe: Probe) -> float:
    if probe.outcome.step is None:
        raise ValueError(f"probe {probe.spec.key}: it was not timed")
    return probe.outcome.step.median_s


def _probe_row(features: tuple[str, ...], probe: Probe) -> Floats:
    outcome = probe.outcome
    if outcome.load is None or outcome.parameters is None:
        raise ValueError(f"probe {probe.spec.key}: a timed outcome has a load and parameters")
    sizes = np.array([[outcome.load[name] for name in features]])
    return np.asarray(_rows(probe.spec.knobs, outcome.parameters, sizes)[0], dtype=np.float64)


def _rows(knobs: Knobs, capacity: int, sizes: Floats) -> Floats:
    """(n, terms) for sizes (n, features)."""
    depth, width = float(knobs.layers), float(knobs.channels)
    unit = np.array([width, depth, depth * width, depth * width**2])
    work = (sizes[:, :, None] * unit).reshape(len(sizes), -1)
    fixed = np.broadcast_to([1.0, depth], (len(sizes), 2))
    return np.concatenate([fixed, work, np.full((len(sizes), 1), float(capacity))], axis=1)
