"""Measured step times: the settled time with warm-up, boost, drift, noise, delays and spikes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compass.probe.simulation.machines import Machine

_Floats = NDArray[np.float64]

_WARM_UP_FACTORS = (1.6, 1.3)
"""Factors on the first steps: the first creates the optimizer's state, the second is the first to use it."""
_FIRST_STEP_S = 0.7
"""Added to the first step: library handles, and kernels loaded on first use."""
_NEW_SHAPE_FACTOR = 1.15
"""Factor on a step of a new shape: the allocator requests segments, which waits for the device."""
_DRIFT_PERIOD_S = 45.0


def measured_steps(machine: Machine, settled_s: _Floats, host_s: _Floats, rng: np.random.Generator) -> _Floats:
    """Measured times (n,), in seconds, of steps whose settled times are `settled_s` (n,), in a process that starts cool.

    `host_s` (n,) is the host's own time in each step. As on real devices, noise, delays and spikes do not change the median;
    boost and drift do.
    """
    n = len(settled_s)
    noise = np.exp(rng.normal(0.0, machine.noise_share, n))
    delays = rng.exponential(1.0, n) - np.log(2.0)
    spiked = rng.random(n) < machine.spike_share
    spikes = np.where(spiked, rng.uniform(0.3, 2.0, n), 0.0)
    at_s = np.cumsum(settled_s) - settled_s
    boost = 1.0 - machine.boost_share * np.exp(-at_s / machine.boost_decay_s)
    drift = 1.0 + machine.drift_share * np.sin(2 * np.pi * (at_s / _DRIFT_PERIOD_S + rng.random()))
    steps = settled_s * (noise + spikes) * boost * drift + machine.jitter_share * host_s * delays
    n_warm = min(n, len(_WARM_UP_FACTORS))
    steps[:n_warm] *= _WARM_UP_FACTORS[:n_warm]
    steps[0] += _FIRST_STEP_S
    changed = np.flatnonzero(np.diff(settled_s)) + 1
    steps[changed] *= _NEW_SHAPE_FACTOR
    shown: _Floats = np.maximum(steps, 1e-6)
    return shown
