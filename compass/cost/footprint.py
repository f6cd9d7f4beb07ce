"""From live bytes to what counts against the budget.

    footprint = baseline + constant + ratio · live

Allocators hold more than tensors do: rounding, fragmentation, freed memory that is kept. The ratio is an upper value: a
configured prior until the same configuration was seen, then what was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from compass.cost.observation import Probe
from compass.optimizer_config import MemoryRules
from compass.records import Allocator, BytesLaw, Knobs

SEEN_SLACK = 0.01
"""Two runs of one configuration differ by less."""
TELLING_BYTES = 256 * 1024**2
"""Below this many live bytes the constant hides the ratio."""


@dataclass(frozen=True)
class FootprintModel:
    """The ratio by allocator and configuration."""

    rules: MemoryRules
    baseline_bytes: int
    on_cpu: bool
    seen: dict[tuple[Allocator, Knobs], float] = field(default_factory=dict)

    def complete(self, law: BytesLaw, knobs: Knobs, allocator: Allocator) -> BytesLaw:
        """`law` with the footprint that its live bytes entail."""
        return law.model_copy(
            update={
                "baseline_bytes": self.baseline_bytes + self.rules.footprint_constant_bytes,
                "footprint_ratio": self.ratio(knobs, allocator),
            }
        )

    def ratio(self, knobs: Knobs, allocator: Allocator) -> float:
        """Upper value of (footprint − baseline − constant) / live."""
        if (allocator, knobs) in self.seen:
            return max(1.0, self.seen[allocator, knobs] * (1 + SEEN_SLACK))
        if not self.on_cpu:
            return self.rules.footprint_ratio_accelerator
        if allocator == "tight":
            return self.rules.footprint_ratio_tight
        if knobs.variant.checkpointing:
            return self.rules.footprint_ratio_recomputing
        return self.rules.footprint_ratio_fast


def fit_footprint(
    rules: MemoryRules, probes: Iterable[Probe], *, baseline_bytes: int, on_cpu: bool
) -> FootprintModel:
    """Take the ratios from `probes` with enough live bytes to tell; on a CPU only fresh processes tell the truth."""
    seen: dict[tuple[Allocator, Knobs], float] = {}
    for spec, outcome in probes:
        if not outcome.ok or outcome.live_bytes is None or outcome.footprint_bytes is None:
            continue
        if outcome.live_bytes < TELLING_BYTES or (on_cpu and not spec.fresh):
            continue
        held_bytes = outcome.footprint_bytes - baseline_bytes - rules.footprint_constant_bytes
        key = (spec.runtime.allocator, spec.knobs)
        seen[key] = max(seen.get(key, 0.0), held_bytes / outcome.live_bytes)
    return FootprintModel(rules, baseline_bytes, on_cpu, seen)
