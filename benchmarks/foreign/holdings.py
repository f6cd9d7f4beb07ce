"""Kinds that hold more memory than tensors ask for, or have little of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.foreign.family import Floats
from benchmarks.foreign.machine import Machine, log_uniform
from benchmarks.foreign.physics import Physics
from compass.records import Allocator, Knobs
from compass.units import GIB, MIB


class MigSlice(Physics):
    """A slice of a card with hardly more memory than its context."""

    name = "mig_slice"
    about = "a budget of 0.7 to 2 GiB, of which the context takes a third"
    devices = ("cuda",)

    def draw_machine(self, rng: np.random.Generator) -> Machine:
        """A slice."""
        drawn = super().draw_machine(rng)
        budget = int(log_uniform(rng, 0.7, 2) * GIB)
        return replace(
            drawn,
            total_bytes=int(budget / 0.95),
            budget_bytes=budget,
            context_bytes=int(min(rng.uniform(150, 400) * MIB, 0.4 * budget)),
            kernels_bytes=int(rng.uniform(10, 80) * MIB),
        )


class FixedSegments(Physics):
    """An allocator that takes memory in pieces of fixed sizes."""

    name = "fixed_segments"
    about = "memory is held in pools that are rounded up to whole segments"
    devices = ("cuda", "mps")

    def draw_machine(self, rng: np.random.Generator) -> Machine:
        """No segment grows in place, and budgets are small as often as not."""
        drawn = super().draw_machine(rng)
        budget = int(log_uniform(rng, 1, 16) * GIB)
        return replace(drawn, expandable=False, total_bytes=int(budget / 0.9), budget_bytes=budget,
                       context_bytes=min(drawn.context_bytes, budget // 3), kernels_bytes=min(drawn.kernels_bytes, 60 * MIB))  # fmt: skip

    def draw(self, rng: np.random.Generator) -> None:
        """Pools, and their segments."""
        self.n_pools = int(rng.integers(2, 6))
        self.segment_bytes = float(rng.choice([16, 20, 32, 64])) * MIB

    def footprint_bytes(
        self, knobs: Knobs, sizes: Floats, allocator: Allocator = "fast", n_different: int = 1
    ) -> Floats:
        """Every pool in whole segments."""
        base = self.machine.context_bytes + self.machine.kernels_bytes
        held = super().footprint_bytes(knobs, sizes, allocator, n_different) - base
        in_pool = np.ceil(held / self.n_pools / self.segment_bytes) * self.segment_bytes
        return np.asarray(base + self.n_pools * in_pool)


class HostConstant(Physics):
    """Buffers beside the tensors: for the process, and for every layer."""

    name = "host_constant"
    about = "a constant of the host, and buffers for each layer, count beside live bytes"
    devices = ("cpu",)

    def draw(self, rng: np.random.Generator) -> None:
        """Both."""
        self.of_host, self.of_layer = rng.uniform(10, 150) * MIB, rng.uniform(2, 25) * MIB

    def constant_bytes(self, knobs: Knobs) -> float:
        """The process's own, and each layer's."""
        return self.of_host + self.of_layer * knobs.layers


class ShuffledFragmentation(Physics):
    """Batches of different sizes leave holes, which a few of them fill for good."""

    name = "shuffled_fragmentation"
    about = "a third different batch holds more memory than the first, further ones do not"

    def draw(self, rng: np.random.Generator) -> None:
        """What the holes cost."""
        self.holes_share = rng.uniform(0.03, 0.25)
        self.n_enough = 3

    def waste_share(self, knobs: Knobs, allocator: Allocator, n_different: int) -> float:
        """More with every different batch, until there are enough."""
        grown = min(1.0, (n_different - 1) / (self.n_enough - 1))
        return super().waste_share(knobs, allocator, n_different) + self.holes_share * grown


class SlowFragmentation(ShuffledFragmentation):
    """The same, over hundreds of batches."""

    name = "slow_fragmentation"
    fair = False
    about = "hundreds of different batches hold ever more memory"

    def draw(self, rng: np.random.Generator) -> None:
        """What the holes cost, and when they stop to grow."""
        super().draw(rng)
        self.n_enough = 400
