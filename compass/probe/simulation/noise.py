"""What a clock shows instead of the settled step: warm-up, boost, drift, noise, hiccups and spikes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from compass.probe.simulation.machines import Machine
from compass.records import StepTime

Array = NDArray[np.float64]

N_WARM_UP = 2
"""Steps that are never timed: the first builds the optimizer's state, the second is the first to use it."""
_WARM_UP_FACTORS = (1.6, 1.3)
_FIRST_STEP_S = 0.7
"""Library handles, kernels loaded on first use."""
_NEW_SHAPE_FACTOR = 1.15
"""The allocator asks the device for segments, which waits for it."""
_DRIFT_PERIOD_S = 45.0
_CONFIDENCE = 0.95


def measured_steps(machine: Machine, settled_s: Array, host_s: Array, rng: np.random.Generator) -> Array:
    """What a clock shows for steps (n,) that would take `settled_s` each, in a process that starts cool.

    Noise, hiccups and spikes leave the median where it is; boost and drift do not, as on real devices.
    """
    n = len(settled_s)
    noise = np.exp(rng.normal(0.0, machine.noise_share, n))
    hiccups = rng.exponential(1.0, n) - np.log(2.0)
    spiked = rng.random(n) < machine.spike_share
    spikes = np.where(spiked, rng.uniform(0.3, 2.0, n), 0.0)
    at_s = np.cumsum(settled_s) - settled_s
    boost = 1.0 - machine.boost_share * np.exp(-at_s / machine.boost_decay_s)
    drift = 1.0 + machine.drift_share * np.sin(2 * np.pi * (at_s / _DRIFT_PERIOD_S + rng.random()))
    steps = settled_s * (noise + spikes) * boost * drift + machine.jitter_share * host_s * hiccups
    n_warm = min(n, len(_WARM_UP_FACTORS))
    steps[:n_warm] *= _WARM_UP_FACTORS[:n_warm]
    steps[0] += _FIRST_STEP_S
    changed = np.flatnonzero(np.diff(settled_s)) + 1
    steps[changed] *= _NEW_SHAPE_FACTOR
    shown: Array = np.maximum(steps, 1e-6)
    return shown


def median_of(steps: Array) -> StepTime:
    """The median of `steps` (n,) with its distribution-free interval.

    The interval is between order statistics: their ranks bound the median with binomial probability, whatever the
    distribution (David & Nagaraja, Order Statistics, 7.1). Under six steps it is the whole range.
    """
    ordered = np.sort(steps)
    n = len(ordered)
    cut = int(binom.ppf((1 - _CONFIDENCE) / 2, n, 0.5)) - 1 if n >= 6 else 0
    cut = max(0, cut)
    return StepTime(
        median_s=float(np.median(ordered)), low_s=float(ordered[cut]), high_s=float(ordered[n - 1 - cut]), n_steps=n
    )
