"""Kinds whose steps do not take equally long."""

from __future__ import annotations

import numpy as np

from benchmarks.foreign.machine import log_uniform
from benchmarks.foreign.physics import Failure, Physics
from compass.records import Status


class Autotuned(Physics):
    """Kernels are chosen by trying them."""

    name = "autotuned"
    about = "the first steps of a process are slow, while kernels are tried"
    devices = ("cuda",)

    def draw(self, rng: np.random.Generator) -> None:
        """How many steps, and how slow."""
        self.n_slow, self.price = int(rng.integers(3, 5)), log_uniform(rng, 2, 15)

    def slowness(self, n_before: int, elapsed_s: float, rng: np.random.Generator) -> float:
        """Slow until all are tried."""
        usual = super().slowness(n_before, elapsed_s, rng)
        return usual * self.price if n_before < self.n_slow else usual


class HeavyTails(Physics):
    """Now and then a step takes several times as long."""

    name = "heavy_tails"
    about = "a few steps in a hundred take up to five times as long"

    def draw(self, rng: np.random.Generator) -> None:
        """How often, and how heavy the tail."""
        self.share, self.tail = rng.uniform(0.02, 0.12), rng.uniform(1.5, 3)

    def slowness(self, n_before: int, elapsed_s: float, rng: np.random.Generator) -> float:
        """Pareto's law for a few."""
        usual = super().slowness(n_before, elapsed_s, rng)
        return usual * min(5.0, 1 + rng.pareto(self.tail)) if rng.random() < self.share else usual


class Throttling(Physics):
    """A device that slows down as it grows warm, later than any probe lasts."""

    name = "throttling"
    fair = False
    about = "minutes of work warm the device, and it slows down for good"
    devices = ("cuda", "mps")

    def draw(self, rng: np.random.Generator) -> None:
        """How slow, and how soon."""
        self.warm, self.warming_s = rng.uniform(1.08, 1.5), log_uniform(rng, 60, 400)

    def slowness(self, n_before: int, elapsed_s: float, rng: np.random.Generator) -> float:
        """From cold towards warm."""
        heat = 1 - np.exp(-elapsed_s / self.warming_s)
        return super().slowness(n_before, elapsed_s, rng) * (1 + (self.warm - 1) * float(heat))

    def long_run(self) -> float:
        """Warm."""
        return self.warm


class SingleCrash(Physics):
    """One probe dies of something that never happens again."""

    name = "single_crash"
    about = "the device crashes once, at a probe drawn by chance"
    devices = ("cuda",)

    def draw(self, rng: np.random.Generator) -> None:
        """Which probe."""
        self.at = int(rng.integers(20, 46))

    def accident(self, n_probes: int) -> Failure | None:
        """One crash."""
        if n_probes != self.at:
            return None
        return Failure(Status.CRASHED, "the worker died: CUDA error: unspecified launch failure")
