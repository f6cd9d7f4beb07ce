"""How many times as long a step takes under another allocator than the calibration's.

    step under a = step under the calibration's · exp(ρ_a)

Giving memory back and fetching it again costs time for every page that a step frees, so ρ grows with the batch and falls with the
width of a model, whose matrix products take longer for the same memory. Neither is known beforehand, so ρ_a is a Gaussian process
over the model's depth and width and the length of its step: near a measurement it takes its value, far from all of them their mean.
The hyperparameters are fixed: one or two probes of each allocator do not determine them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compass.cost.observation import Probe
from compass.records import ALLOCATORS, Allocator, Knobs

_Floats = NDArray[np.float64]

SHARED_SPREAD, LOCAL_SPREAD = 0.5, 0.25
"""Spreads of ρ: the part that all models share, and the part of models and steps like one."""
REACH = 1.0
"""Of the local part, in log layers, log channels and log seconds."""
NOISE = 0.03
"""Of one measurement of ρ: of the run's pace, and of the prediction that it is relative to."""
USUAL = {True: float(np.log(2.5)), False: 0.0}
"""ρ before anything was measured, by whether the allocator returns memory. On two cores it was 0.8 to 1.2 for `tight`."""


@dataclass(frozen=True)
class _Seen:
    """The measurements under one allocator."""

    places: _Floats
    """(n, 3) log layers, log channels, log seconds under the calibration's allocator."""
    weights: _Floats
    """(n,) K⁻¹ · (ρ − usual)."""
    inverse: _Floats
    """(n, n) K⁻¹."""


@dataclass(frozen=True)
class AllocatorTimes:
    """ρ of every allocator but the calibration's."""

    base: Allocator
    seen: dict[Allocator, _Seen]

    def log_factor(self, allocator: Allocator, knobs: Knobs, step_s: _Floats) -> _Floats:
        """ρ (n,) of `knobs` at loads whose steps take `step_s` (n,) under the calibration's allocator."""
        if allocator == self.base:
            return np.zeros_like(step_s)
        usual, seen = USUAL[ALLOCATORS[allocator].returns_memory], self.seen.get(allocator)
        if seen is None:
            return np.full_like(step_s, usual)
        return np.asarray(usual + _covariance(_places(knobs, step_s), seen.places) @ seen.weights, dtype=np.float64)

    def spread(self, allocator: Allocator, knobs: Knobs, step_s: float) -> float:
        """Standard deviation of ρ there."""
        if allocator == self.base:
            return 0.0
        prior, seen = SHARED_SPREAD**2 + LOCAL_SPREAD**2, self.seen.get(allocator)
        if seen is None:
            return float(np.sqrt(prior))
        cross = _covariance(_places(knobs, np.array([step_s])), seen.places)[0]
        return float(np.sqrt(max(0.0, prior - cross @ seen.inverse @ cross)))


def fit_allocator_times(base: Allocator, timed: Sequence[tuple[Probe, float]]) -> AllocatorTimes:
    """Fit ρ to probes under other allocators, each with the seconds of its step under `base`."""
    seen: dict[Allocator, _Seen] = {}
    for allocator in dict.fromkeys(probe.spec.runtime.allocator for probe, _ in timed):
        under = [(probe, base_s) for probe, base_s in timed if probe.spec.runtime.allocator == allocator]
        places = np.concatenate([_places(probe.spec.knobs, np.array([base_s])) for probe, base_s in under])
        rho = np.array([np.log(probe.outcome.step.median_s / base_s) for probe, base_s in under if probe.outcome.step])
        inverse = np.linalg.inv(_covariance(places, places) + NOISE**2 * np.eye(len(places)))
        usual = USUAL[ALLOCATORS[allocator].returns_memory]
        seen[allocator] = _Seen(places, inverse @ (rho - usual), np.asarray(inverse, dtype=np.float64))
    return AllocatorTimes(base, seen)


def _places(knobs: Knobs, step_s: _Floats) -> _Floats:
    """(n, 3)."""
    shape = np.broadcast_to(np.log([knobs.layers, knobs.channels]), (len(step_s), 2))
    return np.concatenate([shape, np.log(step_s)[:, None]], axis=1)


def _covariance(one: _Floats, other: _Floats) -> _Floats:
    """(n, m)."""
    squares = ((one[:, None, :] - other[None, :, :]) ** 2).sum(axis=-1)
    return np.asarray(SHARED_SPREAD**2 + LOCAL_SPREAD**2 * np.exp(-0.5 * squares / REACH**2), dtype=np.float64)
