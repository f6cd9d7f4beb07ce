"""From live bytes to what counts against the budget.

    footprint = baseline + constant + ratio · live

Allocators hold more than tensors do: rounding, fragmentation, freed memory that is kept. The ratio is an upper value: a
configured prior until the same configuration was seen, then what was seen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

from compass.cost.memory import MemoryModel
from compass.cost.observation import Probe
from compass.optimizer_config import MemoryRules
from compass.records import Allocator, BytesLaw, Hardware, Knobs, Outcome, ProbeSpec, Status

SEEN_SLACK = 0.005
"""Two runs of one configuration on a CPU differ by less."""
SLACK_FIXED, SLACK_FIXED_RECOMPUTING = 0.1, 0.2
"""Fixed segments fragment differently at every batch: by 7 % from one to another, in simulation, and by 19 % where activations
are recomputed."""
SLACK_EXPANDABLE, SLACK_EXPANDABLE_RECOMPUTING = 0.06, 0.12
"""Expandable ones waste less, and much the same in every model of a variant: 1.00 to 1.02 of live bytes and 1.07 to 1.08 where
activations are recomputed, in forty models on an H200. In simulation batches of many sizes add 6 %, and one model differs from
another by 12 % where activations are recomputed."""
SEEN_CONSTANT_BYTES = 24 * 1024**2
"""The least that was ever measured of what training adds to an idle process on a CPU: 28 MB. Where a configuration was seen, the
rest of its excess counts as growing with live bytes, so that a line through what was seen stays above larger loads."""
OVERRUN_SHARE, OVERRUN_GROWTH = 0.1, 4
"""A probe that ran out wanted more than the ceiling, nobody knows how much; each further one of a configuration so many times the
share before, so that three find a heap of 2.5 times the live bytes that was expected at 1.55."""
TELLING_BYTES = 256 * 1024**2
"""Below this many live bytes the constant hides the ratio, and above it the ratio the constant."""
GROWN_SLACK_BYTES = 8 * 1024**2
"""By which the constant differs from one process to the next: up to 4 MiB on a CPU."""


@dataclass(frozen=True)
class FootprintModel:
    """The ratio by allocator and configuration."""

    rules: MemoryRules
    baseline_bytes: int
    on_cpu: bool
    seen: dict[tuple[Allocator, Knobs], float] = field(default_factory=dict)
    constant_bytes: int = SEEN_CONSTANT_BYTES
    """What training adds to an idle process whatever the model: thread stacks and arenas on a CPU, else its kernels."""
    expandable: bool = False
    """Whether an accelerator's allocator was asked to grow its segments in place."""

    def complete(self, law: BytesLaw, knobs: Knobs, allocator: Allocator) -> BytesLaw:
        """`law` with the footprint that its live bytes entail."""
        return law.model_copy(
            update={
                "baseline_bytes": self.baseline_bytes + self._constant_bytes(knobs, allocator),
                "footprint_ratio": self.ratio(knobs, allocator),
            }
        )

    def _constant_bytes(self, knobs: Knobs, allocator: Allocator) -> int:
        corrected = self.on_cpu and allocator == "tight" and (allocator, knobs) in self.seen
        return SEEN_CONSTANT_BYTES if corrected else self.constant_bytes

    def ratio(self, knobs: Knobs, allocator: Allocator) -> float:
        """Upper value of (footprint − baseline − constant) / live."""
        return (self._ratio_of_heap if self.on_cpu else self._ratio_of_segments)(knobs, allocator)

    def _ratio_of_heap(self, knobs: Knobs, allocator: Allocator) -> float:
        prior, seen = _prior(self.rules, knobs, allocator, on_cpu=True), self.seen.get((allocator, knobs))
        if seen is None:
            return max(prior, self._seen_in_kin(knobs, allocator))
        if allocator == "tight":
            return max(1.0, seen * (1 + SEEN_SLACK))
        # The heap goes on fragmenting after a certificate has ended, so what was seen can only raise the bound.
        return max(prior, seen * (1 + SEEN_SLACK))

    def _ratio_of_segments(self, knobs: Knobs, allocator: Allocator) -> float:
        grows = self.expandable and allocator != "system"
        recomputing, prior = knobs.variant.checkpointing, _prior(self.rules, knobs, allocator, on_cpu=False)
        kin, seen = self._seen_in_kin(knobs, allocator), self.seen.get((_of_device(allocator), knobs))
        if grows and kin:
            return max(1.0, kin * (1 + (SLACK_EXPANDABLE_RECOMPUTING if recomputing else SLACK_EXPANDABLE)))
        if seen is None:
            return max(prior, kin)
        return max(1.0, seen * (1 + (SLACK_FIXED_RECOMPUTING if recomputing else SLACK_FIXED)))

    def _seen_in_kin(self, knobs: Knobs, allocator: Allocator) -> float:
        """The largest ratio of any model of the same variant.

        Batches of many sizes fragment an accelerator's memory, and they do it to every model; on a CPU, what one model of a
        family ran out on, the next would too.
        """
        key = allocator if self.on_cpu else _of_device(allocator)
        return max(
            (ratio for (of, seen), ratio in self.seen.items() if of == key and seen.variant == knobs.variant),
            default=0.0,
        )


def fit_footprint(
    rules: MemoryRules, probes: Sequence[Probe], memory: MemoryModel, hardware: Hardware, *, baseline_bytes: int
) -> FootprintModel:
    """Take the ratios from `probes` with enough live bytes to tell; on a CPU only fresh processes tell the truth.

    A probe that ran out of memory under a ceiling held at least as much as the ceiling allows. A long training counts for a
    fresh process: what it came to hold is what the next one will.
    """
    on_cpu = hardware.kind == "cpu"
    telling = [probe for probe in probes if probe.spec.fresh or not on_cpu]
    constant_bytes = _constant_bytes(rules, telling, baseline_bytes, on_cpu=on_cpu)
    # Heaps and fixed segments are the coarser the more there is: what small probes waste counts as growing with live bytes.
    fixed_bytes = baseline_bytes + (constant_bytes if hardware.expandable_segments else SEEN_CONSTANT_BYTES)
    seen: dict[tuple[Allocator, Knobs], float] = {}
    overruns: Counter[tuple[Allocator, Knobs]] = Counter()
    law_of = cache(memory.law)
    for spec, outcome in telling:
        key = (spec.runtime.allocator if on_cpu else _of_device(spec.runtime.allocator), spec.knobs)
        live_bytes: float | None = outcome.live_bytes
        if live_bytes is None and _is_predictable(spec, outcome, memory) and outcome.load is not None:
            live_bytes = law_of(spec.knobs).live(outcome.load)
        if live_bytes is None:
            continue
        if outcome.ok and outcome.footprint_bytes is not None and live_bytes >= TELLING_BYTES:
            ratio = (outcome.footprint_bytes - fixed_bytes) / live_bytes
        elif outcome.status is Status.OUT_OF_MEMORY and spec.ceiling_bytes is not None:
            overrun = 1 + OVERRUN_SHARE * OVERRUN_GROWTH ** overruns[key]
            overruns[key] += 1
            ratio = overrun * (spec.ceiling_bytes - fixed_bytes) / live_bytes
        else:
            continue
        seen[key] = max(seen.get(key, 0.0), ratio)
    return FootprintModel(rules, baseline_bytes, on_cpu, seen, constant_bytes, hardware.expandable_segments)


def _of_device(allocator: Allocator) -> Allocator:
    """What an accelerator's allocator makes of the setting: `fast` and `tight` differ in main memory only."""
    return "system" if allocator == "system" else "fast"


def _prior(rules: MemoryRules, knobs: Knobs, allocator: Allocator, *, on_cpu: bool) -> float:
    recomputing = knobs.variant.checkpointing
    if not on_cpu:
        # Of expandable segments as well: calibration starts before anything was seen of either.
        return rules.footprint_ratio_accelerator_recomputing if recomputing else rules.footprint_ratio_accelerator
    if allocator == "tight":
        return rules.footprint_ratio_tight
    return rules.footprint_ratio_recomputing if recomputing else rules.footprint_ratio_fast


def _constant_bytes(rules: MemoryRules, probes: Sequence[Probe], baseline_bytes: int, *, on_cpu: bool) -> int:
    """The most that a small probe held beyond the idle process and what its live bytes explain."""
    found = rules.footprint_constant_bytes if on_cpu else SEEN_CONSTANT_BYTES
    for spec, outcome in probes:
        if outcome.ok and outcome.footprint_bytes and outcome.live_bytes and outcome.live_bytes < TELLING_BYTES:
            ratio = _prior(rules, spec.knobs, spec.runtime.allocator, on_cpu=True) if on_cpu else 1.0
            held_bytes = outcome.footprint_bytes - baseline_bytes - ratio * outcome.live_bytes
            found = max(found, int(held_bytes) + GROWN_SLACK_BYTES)
    return found


def _is_predictable(spec: ProbeSpec, outcome: Outcome, memory: MemoryModel) -> bool:
    """Whether its live bytes are to be had from the model: it ran out, or was trained, which nobody profiles."""
    is_telling = outcome.source == "training" or outcome.status is Status.OUT_OF_MEMORY
    return is_telling and spec.knobs.variant in memory.coefficients
