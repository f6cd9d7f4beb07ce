"""Kinds in which other programs or other ranks share the machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.foreign.family import Floats
from benchmarks.foreign.machine import Machine, log_uniform
from benchmarks.foreign.physics import Physics
from compass.records import Allocator, Knobs
from compass.units import GIB, MIB


class UnifiedMemory(Physics):
    """A laptop whose GPU shares its memory with every other program."""

    name = "unified_memory"
    about = "neighbours hold part of the memory, and the rest is given in heaps"
    devices = ("mps",)

    def draw_machine(self, rng: np.random.Generator) -> Machine:
        """A small context, and a budget that neighbours left over."""
        drawn = super().draw_machine(rng)
        total = float(rng.choice([8, 16, 24, 36, 64]))
        return replace(
            drawn,
            total_bytes=int(total * GIB),
            budget_bytes=int(max(1.5, total * rng.uniform(0.15, 0.6)) * GIB),
            context_bytes=int(rng.uniform(40, 200) * MIB),
            bandwidth=rng.uniform(0.7e11, 4e11),
            flops=log_uniform(rng, 2e12, 1.5e13),
        )

    def draw(self, rng: np.random.Generator) -> None:
        """The size of a heap."""
        self.heap_bytes = float(rng.choice([8, 32, 64])) * MIB

    def footprint_bytes(
        self, knobs: Knobs, sizes: Floats, allocator: Allocator = "fast", n_different: int = 1
    ) -> Floats:
        """Whole heaps beyond the context."""
        context = self.machine.context_bytes
        beyond = super().footprint_bytes(knobs, sizes, allocator, n_different) - context
        return np.asarray(context + np.ceil(beyond / self.heap_bytes) * self.heap_bytes)


class DataParallel(Physics):
    """Other ranks on the same machine train at the same time."""

    name = "data_parallel"
    about = "neighbours take a share of the bandwidth, and gradients are summed over a link"
    devices = ("cuda",)

    def draw(self, rng: np.random.Generator) -> None:
        """Their share, and the link."""
        self.share, self.link = rng.uniform(0.1, 0.5), log_uniform(rng, 5e8, 2e10)

    def passes_s(self, knobs: Knobs, sizes: Floats) -> Floats:
        """At the bandwidth that is left."""
        return super().passes_s(knobs, sizes) / (1 - self.share)

    def update_s(self, knobs: Knobs) -> float:
        """After the gradients of all ranks were summed."""
        return super().update_s(knobs) + 8 * self.family.parameters(knobs) / self.link


class BurstyNeighbours(Physics):
    """Other programs that work for minutes and rest for minutes."""

    name = "bursty_neighbours"
    fair = False
    about = "neighbours come and go in periods longer than any probe"

    def draw(self, rng: np.random.Generator) -> None:
        """What they cost, and the share of processes that meet them from the start."""
        self.price, self.share = rng.uniform(1.2, 1.8), rng.uniform(0.2, 0.5)

    def slowness(self, n_before: int, elapsed_s: float, rng: np.random.Generator) -> float:
        """A process meets them in all its steps or in none."""
        if n_before == 0:
            self._now = self.price if rng.random() < self.share else 1.0
        return self._now * super().slowness(n_before, elapsed_s, rng)

    def long_run(self) -> float:
        """The mean of both times."""
        return 1 + (self.price - 1) * self.share
