"""What the memory of a plan is made of, up to its ceiling."""

from __future__ import annotations

from dataclasses import dataclass

from compass.records import StagePlan
from compass.reporting.figure import Colour
from compass.units import format_bytes

WEIGHT_BYTES, GRADIENT_BYTES, STATE_BYTES = 4, 4, 8
"""Per parameter: weights and gradients are fp32 in every precision, and AdamW keeps two fp32 states."""
NOT_ADAMW = 0.1
"""If less than these is held at the update, by this share, the optimizer keeps fewer states. More may be temporary."""


@dataclass(frozen=True)
class MemoryPart:
    """One part of the footprint, in bytes, and its share of the ceiling."""

    name: str
    n_bytes: float
    share: float
    colour: Colour

    @property
    def says(self) -> str:
        """Its size in words."""
        return format_bytes(self.n_bytes)

    @property
    def percent(self) -> float:
        """For the length of its bar."""
        return 100 * self.share


def memory_parts(plan: StagePlan) -> tuple[MemoryPart, ...]:
    """The parts of the measured footprint, the process first, then what is left up to the ceiling.

    Weights, gradients and optimizer state follow from the parameters; of an optimizer with fewer states only their sum is known, by
    the law of the update. Activations are the rest of the live bytes, at their
    measured peak; with them count the batch and the temporary tensors. What the process held beyond its idle footprint and
    beyond its tensors, the allocator kept.
    """
    measured, ceiling_bytes = plan.measured, plan.certificate.ceiling_bytes
    of_weights = _of_weights(plan)
    beyond_bytes = max(0, measured.footprint_bytes - measured.live_bytes)
    process_bytes = min(plan.bytes_law.baseline_bytes, beyond_bytes)
    sizes: list[tuple[str, float, Colour]] = [
        ("process", process_bytes, "grey"),
        *of_weights,
        ("activations", max(0, measured.live_bytes - sum(n_bytes for _, n_bytes, _ in of_weights)), "orange"),
        ("kept by the allocator", beyond_bytes - process_bytes, "purple"),
    ]
    parts = [MemoryPart(name, n_bytes, n_bytes / ceiling_bytes, colour) for name, n_bytes, colour in sizes]
    return tuple(part for part in parts if part.n_bytes > 0)


def _of_weights(plan: StagePlan) -> list[tuple[str, float, Colour]]:
    """What does not depend on the batch."""
    weights, gradients, states = (n * plan.choice.capacity for n in (WEIGHT_BYTES, GRADIENT_BYTES, STATE_BYTES))
    of_adamw, update = weights + gradients + states, dict(plan.bytes_law.segments).get("optimizer")
    if update is not None and update.base < (1 - NOT_ADAMW) * of_adamw:
        held_bytes = min(update.base, plan.measured.live_bytes)
        return [("weights, gradients and optimizer state", held_bytes, "blue")]
    return [("weights", weights, "blue"), ("gradients", gradients, "sky"), ("optimizer state", states, "green")]
