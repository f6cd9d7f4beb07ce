"""Kinds whose models or data differ in what drives them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.foreign.family import Family
from benchmarks.foreign.machine import Machine
from benchmarks.foreign.physics import Physics


class ThreeFeatures(Physics):
    """Angles between edges, many times as many as edges."""

    name = "three_features"
    about = "nodes, edges and triplets drive memory and time"
    features = ("nodes", "edges", "triplets")


class ConvexFeatures(Physics):
    """Attention between all pairs of atoms."""

    name = "convex_features"
    about = "nodes and nodes² drive memory and time"
    features = ("nodes", "edges", "nodes_squared")

    def draw_family(self, rng: np.random.Generator) -> Family:
        """A score for each head and pair is kept."""
        drawn = super().draw_family(rng)
        heads = float(rng.choice([4, 8, 16]))
        return replace(
            drawn,
            passes=(*drawn.passes[:2], rng.uniform(0.5, 2)),
            flat_passes=(*drawn.flat_passes[:2], 6 * heads),
            flat_kept=(*drawn.flat_kept[:2], 2 * heads),
        )


class CompetingPeaks(Physics):
    """The peak moves between forward, backward and the weight update."""

    name = "competing_peaks"
    about = "forward on edges, backward on nodes and the weight update compete for the peak"

    def draw_family(self, rng: np.random.Generator) -> Family:
        """Each of the three has much of its own."""
        drawn = super().draw_family(rng)
        return replace(
            drawn,
            forward_spare=(rng.uniform(0, 4), rng.uniform(20, 60)),
            backward_spare=(rng.uniform(200, 900), rng.uniform(0, 3)),
            update_spare=rng.uniform(2, 12),
            head=drawn.head * 4,
        )


class LaunchBound(Physics):
    """A fast device behind a slow host."""

    name = "launch_bound"
    about = "short steps take as long as the host needs to launch their kernels"
    devices = ("cuda",)

    def draw_machine(self, rng: np.random.Generator) -> Machine:
        """Much bandwidth, slow launches."""
        drawn = super().draw_machine(rng)
        return replace(drawn, bandwidth=rng.uniform(1.5e12, 3.5e12), launch_s=rng.uniform(1.2e-5, 4e-5))

    def draw_family(self, rng: np.random.Generator) -> Family:
        """Many small kernels."""
        return replace(super().draw_family(rng), kernels=int(rng.integers(150, 400)))
