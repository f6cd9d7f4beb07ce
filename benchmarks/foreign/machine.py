"""A device in a few numbers, drawn by chance: every seed is another machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compass.units import GIB, MIB


@dataclass(frozen=True)
class Machine:
    """What a step meets on one device."""

    kind: str
    """`cuda`, `mps` or `cpu`."""
    flops: float
    """Multiply-adds of matrix products per second, times two."""
    bandwidth: float
    """Bytes per second of element-wise passes."""
    launch_s: float
    """Seconds that the host needs for one kernel."""
    fill_s: float
    """Seconds that the device needs for one kernel beyond its work."""
    overlap: float
    """Exponent p of (hostᵖ + deviceᵖ)^(1/p): how well host and device work side by side."""
    total_bytes: int
    budget_bytes: int
    context_bytes: int
    """Footprint of an idle worker."""
    kernels_bytes: int
    """Memory that the first step takes for any model."""
    waste_share: float
    """Memory that the allocator holds beyond live bytes, as a share of them."""
    checkpointing_waste_share: float
    """The same with activation checkpointing."""
    expandable: bool
    refetch_s_per_byte: float
    """What an allocator that returns memory adds to a step, per live byte. CPUs only."""
    step_sigma: float
    """Logarithmic scatter of single steps."""
    process_sigma: float
    """Logarithmic scatter between processes."""

    @property
    def on_cpu(self) -> bool:
        """Whether the host computes."""
        return self.kind == "cpu"


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A number between `low` and `high`, equally likely at every scale."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def draw_machine(rng: np.random.Generator, kind: str) -> Machine:
    """A machine of `kind` between a laptop's and a data centre's."""
    on_cpu = kind == "cpu"
    total = log_uniform(rng, 8, 64) if on_cpu else log_uniform(rng, 6, 80)
    share = log_uniform(rng, 0.12, 0.95)
    expandable = kind == "cuda" and bool(rng.random() < 0.7)
    if on_cpu:
        waste, checkpointing_waste = rng.uniform(0.1, 0.45), rng.uniform(0.5, 2.4)
    elif expandable:
        waste, checkpointing_waste = rng.uniform(0.0, 0.025), rng.uniform(0.02, 0.08)
    else:
        waste, checkpointing_waste = rng.uniform(0.03, 0.2), rng.uniform(0.1, 0.5)
    return Machine(
        kind=kind,
        flops=log_uniform(rng, 1e11, 2e12) if on_cpu else log_uniform(rng, 4e12, 5e13),
        bandwidth=log_uniform(rng, 1.5e10, 1.5e11) if on_cpu else log_uniform(rng, 2e11, 3e12),
        launch_s=log_uniform(rng, 4e-6, 1.5e-5),
        fill_s=log_uniform(rng, 2e-6, 8e-6),
        overlap=1.0 if on_cpu else rng.uniform(3, 9),
        total_bytes=int(total * GIB),
        budget_bytes=int(max(1.6, total * share) * GIB),
        context_bytes=int(log_uniform(rng, 250, 800) * MIB),
        kernels_bytes=int((rng.uniform(15, 60) if on_cpu else log_uniform(rng, 20, 250)) * MIB),
        waste_share=waste,
        checkpointing_waste_share=checkpointing_waste,
        expandable=expandable,
        refetch_s_per_byte=1.0 / log_uniform(rng, 1e9, 5e9),
        step_sigma=log_uniform(rng, 0.004, 0.04),
        process_sigma=log_uniform(rng, 0.003, 0.02),
    )
