"""From live bytes to what counts against the budget.

    footprint = baseline + constant + ratio · live

Allocators hold more than tensors do: rounding, fragmentation, freed memory that is kept. The ratio is an upper value: a
configured prior until the same configuration was seen, then what was seen.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from compass.cost.memory import MemoryModel
from compass.cost.observation import Probe
from compass.optimizer_config import MemoryRules
from compass.records import Allocator, BytesLaw, Knobs, Outcome, ProbeSpec, Status

SEEN_SLACK, SEEN_SLACK_ACCELERATOR, SEEN_SLACK_RECOMPUTING = 0.005, 0.1, 0.2
"""Two runs of one configuration on a CPU differ by less; a caching allocator fragments differently at every batch: by 7 % from
one to another, in simulation, and by 19 % where activations are recomputed."""
SEEN_CONSTANT_BYTES = 24 * 1024**2
"""The least that was ever measured of what training adds to an idle process: 28 MB. Where a configuration was seen, the
rest of its excess counts as growing with live bytes, so that a line through what was seen stays above larger loads."""
OVERRUN_FACTOR = 1.1
"""A probe that ran out wanted more than the ceiling; nobody knows how much."""
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
                "baseline_bytes": self.baseline_bytes + self._constant_bytes(knobs, allocator),
                "footprint_ratio": self.ratio(knobs, allocator),
            }
        )

    def _constant_bytes(self, knobs: Knobs, allocator: Allocator) -> int:
        corrected = (allocator, knobs) in self.seen and (allocator == "tight" or not self.on_cpu)
        return SEEN_CONSTANT_BYTES if corrected else self.rules.footprint_constant_bytes

    def ratio(self, knobs: Knobs, allocator: Allocator) -> float:
        """Upper value of (footprint − baseline − constant) / live."""
        prior, seen = self._prior(knobs, allocator), self.seen.get((allocator, knobs))
        if seen is None:
            return max(prior, self._seen_in_kin(knobs, allocator))
        if not self.on_cpu:
            slack = SEEN_SLACK_RECOMPUTING if knobs.variant.checkpointing else SEEN_SLACK_ACCELERATOR
            return max(1.0, seen * (1 + slack))
        if allocator == "tight":
            return max(1.0, seen * (1 + SEEN_SLACK))
        # The heap goes on fragmenting after a certificate has ended, so what was seen can only raise the bound.
        return max(prior, seen * (1 + SEEN_SLACK))

    def _seen_in_kin(self, knobs: Knobs, allocator: Allocator) -> float:
        """The largest ratio of any model of the same variant.

        Batches of many sizes fragment an accelerator's memory, and they do it to every model; on a CPU, what one model of a
        family ran out on, the next would too.
        """
        kin = [
            ratio for (other, seen), ratio in self.seen.items() if other == allocator and seen.variant == knobs.variant
        ]
        return max(kin, default=0.0)

    def _prior(self, knobs: Knobs, allocator: Allocator) -> float:
        rules, recomputing = self.rules, knobs.variant.checkpointing
        if not self.on_cpu:
            return rules.footprint_ratio_accelerator_recomputing if recomputing else rules.footprint_ratio_accelerator
        if allocator == "tight":
            return rules.footprint_ratio_tight
        return rules.footprint_ratio_recomputing if recomputing else rules.footprint_ratio_fast


def fit_footprint(
    rules: MemoryRules, probes: Iterable[Probe], memory: MemoryModel, *, baseline_bytes: int, on_cpu: bool
) -> FootprintModel:
    """Take the ratios from `probes` with enough live bytes to tell; on a CPU only fresh processes tell the truth.

    A probe that ran out of memory under a ceiling held at least as much as the ceiling allows. A long training counts for a
    fresh process: what it came to hold is what the next one will.
    """
    seen: dict[tuple[Allocator, Knobs], float] = {}
    for spec, outcome in probes:
        if on_cpu and not spec.fresh:
            continue
        fixed_bytes = baseline_bytes + SEEN_CONSTANT_BYTES
        live_bytes = _live_bytes(spec, outcome, memory)
        if live_bytes is None:
            continue
        if outcome.ok and outcome.footprint_bytes is not None and live_bytes >= TELLING_BYTES:
            ratio = (outcome.footprint_bytes - fixed_bytes) / live_bytes
        elif outcome.status is Status.OUT_OF_MEMORY and spec.ceiling_bytes is not None:
            ratio = OVERRUN_FACTOR * (spec.ceiling_bytes - fixed_bytes) / live_bytes
        else:
            continue
        key = (spec.runtime.allocator, spec.knobs)
        seen[key] = max(seen.get(key, 0.0), ratio)
    return FootprintModel(rules, baseline_bytes, on_cpu, seen)


def _live_bytes(spec: ProbeSpec, outcome: Outcome, memory: MemoryModel) -> float | None:
    """As measured; of what ran out and of training, which nobody profiles, as predicted."""
    if outcome.live_bytes is not None:
        return outcome.live_bytes
    is_telling = outcome.source == "training" or outcome.status is Status.OUT_OF_MEMORY
    return memory.law(spec.knobs).live(outcome.load) if is_telling and outcome.load is not None else None
