"""The control: everything is a straight line and nothing scatters."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.foreign.machine import Machine
from benchmarks.foreign.physics import Physics
from compass.records import Allocator, Knobs


class Linear(Physics):
    """Nothing to learn but rates."""

    name = "linear"
    about = "time and memory are straight lines of the load, without noise"
    devices = ("cuda",)

    def draw_machine(self, rng: np.random.Generator) -> Machine:
        """A device whose host waits for it and whose allocator wastes nothing."""
        drawn = super().draw_machine(rng)
        return replace(
            drawn,
            overlap=1.0,
            launch_s=0.0,
            expandable=True,
            waste_share=0.0,
            checkpointing_waste_share=0.0,
            step_sigma=0.0,
            process_sigma=0.0,
        )

    def slowness(self, n_before: int, elapsed_s: float, rng: np.random.Generator) -> float:
        """Every step but the first two takes equally long."""
        del elapsed_s, rng
        return 2.0 if n_before < 2 else 1.0

    def waste_share(self, knobs: Knobs, allocator: Allocator, n_different: int) -> float:
        """None."""
        del knobs, allocator, n_different
        return 0.0
