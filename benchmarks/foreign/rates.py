"""Kinds whose throughput depends on how much a step touches."""

from __future__ import annotations

import numpy as np

from benchmarks.foreign.family import Floats
from benchmarks.foreign.machine import log_uniform
from benchmarks.foreign.physics import ELEMENT, Physics
from compass.records import Allocator, Knobs
from compass.units import MIB


class CacheCliff(Physics):
    """A layer that fits a cache runs several times as fast as one that does not."""

    name = "cache_cliff"
    about = "throughput falls when a layer's working set leaves the cache"

    def draw(self, rng: np.random.Generator) -> None:
        """The cache's size, and what it gains."""
        self.cache_bytes = log_uniform(rng, 16, 256) * MIB
        self.gain = rng.uniform(1.3, 2.5)
        self.width = rng.uniform(0.05, 0.25)

    def passes_s(self, knobs: Knobs, sizes: Floats) -> Floats:
        """Fast below the cache's size, slow above, with a short way between."""
        working_set = self.passed_bytes(knobs, sizes) / 8
        outside = 1 / (1 + np.exp(-np.clip((working_set / self.cache_bytes - 1) / self.width, -50, 50)))
        return np.asarray(super().passes_s(knobs, sizes) * (1 + (self.gain - 1) * outside) / self.gain)


class Numa(Physics):
    """Memory of the other socket is slow."""

    name = "numa"
    about = "memory beyond the near socket's is read at a fraction of the bandwidth"
    devices = ("cpu",)

    def draw(self, rng: np.random.Generator) -> None:
        """Near memory, and how slow the far one is."""
        self.near_bytes = self.machine.budget_bytes * rng.uniform(0.2, 0.6)
        self.far_price = rng.uniform(1.3, 2.2)

    def passes_s(self, knobs: Knobs, sizes: Floats) -> Floats:
        """Each byte at the price of where it lies."""
        live = self.live_bytes(knobs, sizes)
        far_share = np.maximum(0.0, live - self.near_bytes) / live
        return np.asarray(super().passes_s(knobs, sizes) * (1 + (self.far_price - 1) * far_share))


class Spill(Physics):
    """The driver moves memory to the host instead of failing."""

    name = "spill"
    about = "above the resident part of the budget a step grows slow and does not fail"
    devices = ("cuda",)

    def draw(self, rng: np.random.Generator) -> None:
        """The part that stays on the device, and the way to the host."""
        self.resident_bytes = self.machine.budget_bytes * rng.uniform(0.75, 0.97)
        self.link = log_uniform(rng, 6e9, 2.5e10)

    def step_s(self, knobs: Knobs, sizes: Floats, allocator: Allocator = "fast") -> Floats:
        """What does not fit crosses the link four times a step."""
        beyond = self.footprint_bytes(knobs, sizes, allocator) - self.resident_bytes
        return np.asarray(super().step_s(knobs, sizes, allocator) + 4 * np.maximum(0.0, beyond) / self.link)


class SuperlinearEdges(Physics):
    """Many edges write to one node at once."""

    name = "superlinear_edges"
    about = "scatters contend: the edges' share of the time grows with a power above one"

    def draw(self, rng: np.random.Generator) -> None:
        """The power, and the edges from which it counts."""
        self.power = rng.uniform(1.08, 1.3)
        self.from_edges = log_uniform(rng, 1e4, 1e5)

    def passes_s(self, knobs: Knobs, sizes: Floats) -> Floats:
        """Edges count more where there are more of them."""
        edges = sizes[:, self.features.index("edges")]
        extra = (edges / self.from_edges) ** (self.power - 1) - 1
        of_edges = ELEMENT * edges * (self.family.passes[1] * knobs.channels + self.family.flat_passes[1])
        return np.asarray(super().passes_s(knobs, sizes) + np.maximum(0.0, extra) * of_edges / self.machine.bandwidth)


class RecomputeBySize(Physics):
    """A second forward pass of small layers is nearly free."""

    name = "recompute_by_size"
    about = "the price of activation checkpointing grows with the size of a layer"

    def draw(self, rng: np.random.Generator) -> None:
        """Both ends, and the size between them."""
        self.small, self.large = rng.uniform(0.2, 0.6), rng.uniform(1.1, 1.9)
        self.middle_bytes = log_uniform(rng, 20, 400) * MIB

    def recompute_work(self, knobs: Knobs, sizes: Floats) -> Floats:
        """From `small` to `large`."""
        passed = self.passed_bytes(knobs, sizes)
        return np.asarray(self.small + (self.large - self.small) * passed / (passed + self.middle_bytes))
