"""The laws that every kind starts from. A kind changes one or two of them.

Notation as in `family`. A time is of the settled step on a calm machine; a footprint is of a process in the middle of training.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import numpy as np

from benchmarks.foreign.family import Family, Floats, draw_family
from benchmarks.foreign.machine import Machine, draw_machine
from compass.records import ALLOCATORS, Allocator, Knobs, Status

ELEMENT = 4
"""Bytes."""
RETURNING_WASTE = 0.004
"""Memory beyond live bytes under an allocator that returns it, as a share."""
ENDLESS = 10**6
"""Different batches that a training sees."""


class Failure(NamedTuple):
    """Why a model fails at any ceiling."""

    status: Status
    detail: str


class Physics:
    """One machine with one model family."""

    name: ClassVar[str]
    fair: ClassVar[bool] = True
    """Whether short probes can know all that matters."""
    about: ClassVar[str]
    devices: ClassVar[tuple[str, ...]] = ("cuda", "cuda", "cpu")
    """Kinds of device to draw from."""
    features: ClassVar[tuple[str, ...]] = ("nodes", "edges")

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng([seed, sum(map(ord, self.name))])
        self.machine = self.draw_machine(rng)
        self.family = self.draw_family(rng)
        self.draw(rng)

    def draw_machine(self, rng: np.random.Generator) -> Machine:
        """The device."""
        return draw_machine(rng, str(rng.choice(self.devices)))

    def draw_family(self, rng: np.random.Generator) -> Family:
        """The model family."""
        return draw_family(rng, self.features)

    def draw(self, rng: np.random.Generator) -> None:
        """The kind's own parameters."""

    # ---------------------------------------------------------------------------------------------------------- time

    def step_s(self, knobs: Knobs, sizes: Floats, allocator: Allocator = "fast") -> Floats:
        """(n,) seconds of a settled step."""
        forward_s = self.forward_s(knobs, sizes)
        work_s = forward_s * (1 + self.family.backward_work)
        kernels = self.family.kernels * knobs.layers * (1 + self.family.backward_work)
        if knobs.variant.checkpointing:
            work_s = work_s + forward_s * self.recompute_work(knobs, sizes)
            kernels += self.family.kernels * knobs.layers
        device_s = work_s + self.update_s(knobs) + kernels * self.machine.fill_s
        host_s = kernels * self.machine.launch_s + 1e-3
        power = self.machine.overlap
        step_s = (host_s**power + device_s**power) ** (1 / power)
        if self.machine.on_cpu and ALLOCATORS[allocator].returns_memory:
            step_s = step_s + self.live_bytes(knobs, sizes) * self.machine.refetch_s_per_byte
        return np.asarray(step_s)

    def forward_s(self, knobs: Knobs, sizes: Floats) -> Floats:
        """(n,) seconds of the forward pass on the device: every layer, and the stem and head as half a layer."""
        return (knobs.layers + 0.5) * (self.products_s(knobs, sizes) + self.passes_s(knobs, sizes))

    def products_s(self, knobs: Knobs, sizes: Floats) -> Floats:
        """(n,) seconds of a layer's matrix products, forward."""
        rows = self.family.amount(self.family.products, sizes)
        return 2 * rows * self.product_width(knobs.channels) ** 2 / self.machine.flops

    def product_width(self, channels: int) -> float:
        """Channels that a matrix product works on."""
        return float(channels)

    def passes_s(self, knobs: Knobs, sizes: Floats) -> Floats:
        """(n,) seconds of a layer's element-wise work, forward."""
        return self.passed_bytes(knobs, sizes) / self.machine.bandwidth

    def passed_bytes(self, knobs: Knobs, sizes: Floats) -> Floats:
        """(n,) bytes that a layer's element-wise work reads and writes, forward."""
        of_width = self.family.amount(self.family.passes, sizes) * knobs.channels
        return ELEMENT * (of_width + self.family.amount(self.family.flat_passes, sizes))

    def recompute_work(self, knobs: Knobs, sizes: Floats) -> Floats:
        """(n,) work of the second forward pass / that of the first."""
        del knobs
        return np.full(len(sizes), self.family.recompute_work)

    def update_s(self, knobs: Knobs) -> float:
        """Seconds of a weight update."""
        return 40 * self.family.parameters(knobs) / self.machine.bandwidth + 2e-4

    def slowness(self, n_before: int, elapsed_s: float, rng: np.random.Generator) -> float:
        """How many times as long as settled a step takes, after `n_before` steps and `elapsed_s` seconds of the process."""
        del elapsed_s
        first = (2.5, 1.2)[n_before] if n_before < 2 else 1.0
        return first * float(np.exp(rng.normal(0, self.machine.step_sigma)))

    def long_run(self) -> float:
        """How many times as long as settled in a short probe the median step of a long training is."""
        return 1.0

    # -------------------------------------------------------------------------------------------------------- memory

    def segments(self, knobs: Knobs, sizes: Floats) -> dict[str, Floats]:
        """(n,) peak of live bytes in every segment of a step, in its order; blocks by number."""
        family, depth, width = self.family, knobs.layers, knobs.channels
        weights = ELEMENT * family.parameters(knobs)
        per_layer = weights / (depth + 1)
        held = 3 * weights + ELEMENT * family.amount(family.input, sizes)
        stem = ELEMENT * width * family.amount(family.entry, sizes)
        kept = self.kept_bytes(knobs, sizes)
        forward, backward = self.spare_bytes(knobs, sizes)
        workspace = self.workspace_bytes(knobs)
        checkpointing = knobs.variant.checkpointing
        stays = stem if checkpointing else kept
        found = {"forward:stem": held + stem}
        for layer in range(depth):
            found[f"forward:{layer}"] = held + stem + (layer + 1) * stays + forward + workspace
        full = held + stem + depth * stays
        found["forward:head"] = full + 0.5 * stem
        found["backward:head"] = full + 0.8 * stem + 0.1 * per_layer
        for layer in reversed(range(depth)):
            gradients = (depth - layer) * per_layer
            below = held + stem + gradients + (layer + 1) * stays
            if checkpointing:
                found[f"recompute:{layer}"] = below - per_layer + kept + forward + workspace
                below = below + kept
            found[f"backward:{layer}"] = below + backward + workspace
        found["backward:stem"] = held + stem + weights + stem
        found["optimizer"] = held + weights * (1 + family.update_spare)
        return found

    def kept_bytes(self, knobs: Knobs, sizes: Floats) -> Floats:
        """(n,) bytes that a layer keeps for the backward pass."""
        of_width = self.family.amount(self.family.kept, sizes) * knobs.channels
        return ELEMENT * (of_width + self.family.amount(self.family.flat_kept, sizes))

    def spare_bytes(self, knobs: Knobs, sizes: Floats) -> tuple[Floats, Floats]:
        """(n,), (n,) bytes held only while a layer runs: forward, backward."""
        forward, backward = self.family.forward_spare, self.family.backward_spare
        scale = ELEMENT * knobs.channels
        return scale * self.family.amount(forward, sizes), scale * self.family.amount(backward, sizes)

    def workspace_bytes(self, knobs: Knobs) -> float:
        """Live bytes of a layer's workspace, whatever the load."""
        del knobs
        return 0.0

    def live_bytes(self, knobs: Knobs, sizes: Floats) -> Floats:
        """(n,) peak of live bytes."""
        return np.asarray(np.max(list(self.segments(knobs, sizes).values()), axis=0))

    def footprint_bytes(
        self, knobs: Knobs, sizes: Floats, allocator: Allocator = "fast", n_different: int = 1
    ) -> Floats:
        """(n,) footprint of a process that has run so many different batches, of which `sizes` is the largest."""
        live = self.live_bytes(knobs, sizes)
        held = live * (1 + self.waste_share(knobs, allocator, n_different))
        return self.machine.context_bytes + self.machine.kernels_bytes + self.constant_bytes(knobs) + held

    def waste_share(self, knobs: Knobs, allocator: Allocator, n_different: int) -> float:
        """Memory that the allocator holds beyond live bytes, as a share of them."""
        del n_different
        if self.machine.on_cpu and ALLOCATORS[allocator].returns_memory:
            return RETURNING_WASTE
        checkpointing = knobs.variant.checkpointing
        share = self.machine.checkpointing_waste_share if checkpointing else self.machine.waste_share
        wobble = np.sin(12.9898 * knobs.layers + 78.233 * knobs.channels / 16)  # the pieces differ with every shape
        return share * (1 + 0.1 * float(wobble))

    def constant_bytes(self, knobs: Knobs) -> float:
        """Footprint outside live bytes that a model adds, whatever the load."""
        del knobs
        return 0.0

    # ------------------------------------------------------------------------------------------------------- failing

    def failure(self, knobs: Knobs) -> Failure | None:
        """Why `knobs` run at no batch; None if they do."""
        del knobs
        return None

    def accident(self, n_probes: int) -> Failure | None:
        """What befalls the probe after `n_probes` others, whatever it asks; None if nothing."""
        del n_probes
        return None
