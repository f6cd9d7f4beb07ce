"""Kinds in which the number of channels matters by more than its size."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmarks.foreign.family import Family
from benchmarks.foreign.physics import Failure, Physics
from compass.records import Knobs, Status
from compass.units import MIB


class Aligned64(Physics):
    """Matrix units of 64 columns."""

    name = "aligned_64"
    about = "matrix products are padded to 64 channels"
    devices = ("cuda",)
    tile = 64

    def draw_family(self, rng: np.random.Generator) -> Family:
        """Products weigh enough that padding shows."""
        drawn = super().draw_family(rng)
        return replace(drawn, products=tuple(6 * rate for rate in drawn.products))

    def product_width(self, channels: int) -> float:
        """Whole tiles."""
        return float(-(-channels // self.tile) * self.tile)


class Aligned128(Aligned64):
    """Matrix units of 128 columns."""

    name = "aligned_128"
    about = "matrix products are padded to 128 channels"
    tile = 128


class SteppedWorkspace(Physics):
    """A library asks for a larger workspace with every class of widths."""

    name = "stepped_workspace"
    about = "a layer's workspace grows in steps with the channels"

    def draw(self, rng: np.random.Generator) -> None:
        """(channels from which, bytes)."""
        ends = np.sort(rng.choice(np.arange(48, 320, 16), 3, replace=False))
        heights = np.cumsum(rng.uniform(8, 160, 3)) * MIB
        self.steps = tuple(zip(ends.tolist(), heights.tolist(), strict=True))

    def workspace_bytes(self, knobs: Knobs) -> float:
        """The highest step that the width reaches."""
        return max((height for end, height in self.steps if knobs.channels >= end), default=0.0)


class InvalidShape(Physics):
    """A kernel that no wide model can launch."""

    name = "invalid_shape"
    about = "a kernel cannot be launched above a width: every such model fails, at any batch"
    devices = ("cuda",)

    def draw(self, rng: np.random.Generator) -> None:
        """The first width that fails."""
        self.first_bad = int(rng.choice([112, 144, 160, 192, 224]))

    def failure(self, knobs: Knobs) -> Failure | None:
        """Too wide a model is invalid."""
        if knobs.channels < self.first_bad:
            return None
        return Failure(Status.INVALID, "RuntimeError: CUDA error: invalid configuration argument")
