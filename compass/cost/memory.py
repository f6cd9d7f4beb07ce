"""Live bytes of any configuration at any load, from a dozen micro-probes.

Notation: L layers, C channels, s the sizes of a load (for ViSNet N nodes and E edges).

The peak of a training step lies in one of a few segments (see compass.probe.segments). Within a segment, whatever is
held was allocated by code that runs once, or once a layer, on tensors of so many elements a node, an edge or a weight:

    bytes = Σ_s s · (a_s + b_s·C + c_s·L + d_s·L·C)  +  e + f·C + g·C² + h·L + i·L·C + j·L·C²

exact as long as the code takes the same path. The peak is the maximum over the segments. One form for the peak itself
misses by up to 5 %, because the place of the peak moves.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compass.cost.observation import Probe
from compass.records import AffineBytes, BytesLaw, Knobs, Load, Variant

Floats = NDArray[np.float64]
PER_UNIT = 4
"""Coefficients a size has: 1, C, L, L·C."""
MIN_BLOCKS = {"early": 3, "late": 3, "inner": 3, "first": 2}
"""Layers a model needs for the segment of that layer to exist."""


@dataclass(frozen=True)
class MemoryModel:
    """The fitted coefficients of every segment of every variant."""

    features: tuple[str, ...]
    coefficients: dict[Variant, dict[str, Floats]]
    margins: dict[Variant, float] = field(default_factory=dict)
    """One-sided share by which the truth may exceed the prediction."""
    shallowest: dict[Variant, dict[str, int]] = field(default_factory=dict)
    """Fewest layers that a segment was seen with: a family whose layers are given in halves has them all with fewer."""

    def law(self, knobs: Knobs) -> BytesLaw:
        """The affine law of live bytes for `knobs`; footprint fields are left at their neutral values.

        Raises:
            KeyError: the variant was never probed.
        """
        shape = _unit_row(knobs)
        pieces = []
        for segment, w in self.coefficients[knobs.variant].items():
            seen_from = self.shallowest.get(knobs.variant, {}).get(segment, sys.maxsize)
            if knobs.layers < min(seen_from, MIN_BLOCKS.get(segment.rpartition(":")[2], 0)):
                continue
            rates = [float(shape @ w[i * PER_UNIT : (i + 1) * PER_UNIT]) for i in range(len(self.features))]
            base = float(_fixed_row(knobs) @ w[len(self.features) * PER_UNIT :])
            per_unit = tuple(zip(self.features, rates, strict=True))
            pieces.append((segment, AffineBytes(base=base, per_unit=per_unit)))
        return BytesLaw(segments=tuple(pieces), margin_share=self.margins.get(knobs.variant, 0.0))


def fit_memory(features: tuple[str, ...], probes: Iterable[Probe], *, margin_floor: float) -> MemoryModel:
    """Fit the segments' peaks in `probes`; those without segments are passed over.

    The margin is the largest share by which any probe exceeded what the others predict of it, doubled, and never under
    `margin_floor`. Leaving one out says something only where the others still determine the fit.
    """
    by_variant: dict[Variant, list[Probe]] = {}
    for probe in probes:
        if probe.outcome.ok and probe.outcome.segments:
            by_variant.setdefault(probe.spec.knobs.variant, []).append(probe)
    coefficients = {variant: _fit_segments(features, group) for variant, group in by_variant.items()}
    margins = {variant: max(margin_floor, 2 * _worst_excess(features, group)) for variant, group in by_variant.items()}
    shallowest = {variant: _shallowest(group) for variant, group in by_variant.items()}
    return MemoryModel(features, coefficients, margins, shallowest)


def _shallowest(probes: Sequence[Probe]) -> dict[str, int]:
    found: dict[str, int] = {}
    for spec, outcome in probes:
        for name, _ in outcome.segments:
            found[name] = min(spec.knobs.layers, found.get(name, spec.knobs.layers))
    return found


def _fit_segments(features: tuple[str, ...], probes: Sequence[Probe]) -> dict[str, Floats]:
    names = dict.fromkeys(name for probe in probes for name, _ in probe.outcome.segments)
    fitted = {}
    for name in names:
        seen = [(p, dict(p.outcome.segments)[name]) for p in probes if name in dict(p.outcome.segments)]
        rows = np.array([_row(features, p.spec.knobs, _load(p)) for p, _ in seen])
        fitted[name] = _solve(rows, np.array([float(n_bytes) for _, n_bytes in seen]))
    return fitted


def _solve(rows: Floats, n_bytes: Floats) -> Floats:
    """Least squares of the relative error; columns scaled, so that the smallest solution is one of like terms."""
    weighted = rows / n_bytes[:, None]
    scale = np.abs(weighted).max(axis=0)
    scale[scale == 0] = 1.0
    solution, *_ = np.linalg.lstsq(weighted / scale, np.ones(len(rows)), rcond=1e-12)
    return np.asarray(solution / scale, dtype=np.float64)


def _worst_excess(features: tuple[str, ...], probes: Sequence[Probe]) -> float:
    """The largest relative excess of a probe over its prediction from the others that leave the fit determined."""
    worst = 0.0
    rows = np.array([_row(features, p.spec.knobs, _load(p)) for p in probes])
    full_rank = np.linalg.matrix_rank(rows / np.abs(rows).max(axis=0))
    for index, probe in enumerate(probes):
        others = np.delete(rows, index, axis=0)
        if np.linalg.matrix_rank(others / np.abs(rows).max(axis=0)) < full_rank:
            continue
        rest = [p for i, p in enumerate(probes) if i != index]
        model = MemoryModel(features, {probe.spec.knobs.variant: _fit_segments(features, rest)})
        truth = max(n_bytes for _, n_bytes in probe.outcome.segments)
        worst = max(worst, truth / model.law(probe.spec.knobs).live(_load(probe)) - 1.0)
    return worst


def _load(probe: Probe) -> Load:
    load = probe.outcome.load
    if load is None:
        raise ValueError(f"probe {probe.spec.key}: an outcome with segments has no load")
    return load


def _row(features: tuple[str, ...], knobs: Knobs, load: Load) -> Floats:
    unit = _unit_row(knobs)
    return np.concatenate([*(load[name] * unit for name in features), _fixed_row(knobs)])


def _unit_row(knobs: Knobs) -> Floats:
    depth, width = float(knobs.layers), float(knobs.channels)
    return np.array([1.0, width, depth, depth * width])


def _fixed_row(knobs: Knobs) -> Floats:
    depth, width = float(knobs.layers), float(knobs.channels)
    return np.array([1.0, width, width**2, depth, depth * width, depth * width**2])
