"""From live bytes to the footprint, which counts against the budget.

    footprint = baseline + constant + ratio · live

Allocators hold more than tensors do: rounding, fragmentation, freed memory that is kept. The ratio is an upper value. It follows
from three things, of which `FootprintModel.ratio` says which one counts:

    prior   the configured ratio of the device, the allocator and activation checkpointing
    own     the largest ratio that probes of this configuration showed; with less slack if one of them was a certificate
    kin     the largest ratio that probes of any model of this variant showed
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from compass.cost.memory import MemoryModel
from compass.cost.observation import Probe
from compass.optimizer_config import MemoryRules
from compass.records import ALLOCATORS, Allocator, BytesLaw, Hardware, Knobs, Outcome, ProbeSpec, Status, Variant

SLACK_HEAP = 0.005
"""Two runs of one configuration on a CPU differ by less."""
SLACK_FIXED, SLACK_FIXED_CHECKPOINTING = 0.1, 0.2
"""Fixed segments fragment differently at every batch: in simulation by 7 % from one batch to another, and by 19 % with activation
checkpointing."""
SLACK_EXPANDABLE, SLACK_EXPANDABLE_CHECKPOINTING = 0.06, 0.12
"""Expandable segments waste less, and much the same in every model of a variant: in forty models on an H200 the footprint was 1.00 to
1.02 of live bytes, and 1.07 to 1.08 with activation checkpointing. In simulation batches of many sizes add 6 %, and with activation
checkpointing one model differs from another by 12 %."""
SEEN_CONSTANT_BYTES = 24 * 1024**2
"""The least that training was ever measured to add to an idle process on a CPU was 28 MB. Where a configuration was seen, the rest of
its excess counts as growing with live bytes, so that a line through the measurements stays above larger loads."""
SLACK_CERTIFIED = 0.03
"""A model that a certificate or a training showed under expandable segments held batches of many sizes, and is no other model: another
batch of it differs by less, and is certified again."""
OVERRUN_SHARE, OVERRUN_GROWTH = 0.1, 4
"""A probe that ran out of memory wanted more than the ceiling, by an unknown share: this one, and for each further probe of the same
configuration so many times the share before. Three probes then find a heap of 2.5 times the live bytes where 1.55 was expected."""
TELLING_BYTES = 256 * 1024**2
"""Below this many live bytes the constant hides the ratio, and above it the ratio hides the constant."""
LEAST_TELLING_BYTES, TELLING_SHARE = 48 * 1024**2, 0.5
"""An accelerator that never held so much, as a slice of one, tells the ratio by its largest probes: those of at least these live bytes,
and of this share of the variant's largest."""
GROWN_SLACK_BYTES = 8 * 1024**2
"""The constant differs by less from one process to the next: by up to 4 MiB on a CPU."""
COMPILER_BYTES = 1024**3
"""The least that `torch.compile` is taken to add to a process that trains on a CPU. ViSNet and SchNet took 0.8 GiB; a probe shows
less where it finds its kernels in a cache."""
COMPILER_SLACK = 0.15
"""Another model, or one with activation checkpointing, has other code to compile, by so much of what was seen."""

_Key = tuple[Allocator, Knobs]


@dataclass(frozen=True)
class FootprintModel:
    """The ratio by allocator and configuration."""

    rules: MemoryRules
    baseline_bytes: int
    on_cpu: bool
    seen: dict[_Key, float] = field(default_factory=dict)
    certified: frozenset[_Key] = frozenset()
    """Those of `seen` that ran batches of many sizes."""
    constant_bytes: int = SEEN_CONSTANT_BYTES
    """The part of a training process that no model changes: thread stacks and arenas on a CPU, kernels on an accelerator."""
    compiler_bytes: int = 0
    """What a process holds in addition if its model is compiled."""
    expandable: bool = False
    """Whether an accelerator's allocator was asked to grow its segments in place."""

    def complete(self, law: BytesLaw, knobs: Knobs, allocator: Allocator) -> BytesLaw:
        """`law` with the footprint that its live bytes entail."""
        return law.model_copy(
            update={
                "baseline_bytes": self.baseline_bytes
                + self._constant_bytes(knobs, allocator)
                + (self.compiler_bytes if knobs.variant.compiled else 0),
                "footprint_ratio": self.ratio(knobs, allocator),
            }
        )

    def ratio(self, knobs: Knobs, allocator: Allocator) -> float:
        """Upper value of (footprint − baseline − constant) / live.

        The evidence decides which value counts:

        - Expandable segments waste alike in every model of a variant: kin decides as soon as there is any.
        - A configuration that was never seen gets the larger of prior and kin.
        - A configuration that was seen gets its own ratio with some slack. Where an allocator keeps freed memory, the heap of a CPU
          goes on fragmenting after a certificate has ended, so its own ratio can only raise the prior there.
        """
        prior, own = _prior(self.rules, knobs, allocator, on_cpu=self.on_cpu), self._own(knobs, allocator)
        kin, slack = self._kin(knobs, allocator), 1 + self._slack(knobs, allocator)
        if self._grows(allocator) and kin:
            if own is not None and (_as_seen(allocator, on_cpu=self.on_cpu), knobs) in self.certified:
                return max(1.0, own * (1 + SLACK_CERTIFIED))
            return max(1.0, kin * slack)
        if own is None:
            return max(prior, kin)
        least = prior if self.on_cpu and not ALLOCATORS[allocator].returns_memory else 1.0
        return max(least, own * slack)

    def _constant_bytes(self, knobs: Knobs, allocator: Allocator) -> int:
        corrected = self.on_cpu and ALLOCATORS[allocator].returns_memory and self._own(knobs, allocator) is not None
        return SEEN_CONSTANT_BYTES if corrected else self.constant_bytes

    def _own(self, knobs: Knobs, allocator: Allocator) -> float | None:
        return self.seen.get((_as_seen(allocator, on_cpu=self.on_cpu), knobs))

    def _kin(self, knobs: Knobs, allocator: Allocator) -> float:
        """The largest ratio that any model of the variant showed; 0 if none was seen.

        Batches of many sizes fragment an accelerator's memory in every model; and if one model of a family ran out of memory on a
        CPU, the next would too.
        """
        seen_as, variant = _as_seen(allocator, on_cpu=self.on_cpu), knobs.variant.of_memory
        ratios = (
            ratio for (of, model), ratio in self.seen.items() if of == seen_as and model.variant.of_memory == variant
        )
        return max(ratios, default=0.0)

    def _grows(self, allocator: Allocator) -> bool:
        """Whether segments grow in place under `allocator`."""
        return self.expandable and not self.on_cpu and allocator != "system"

    def _slack(self, knobs: Knobs, allocator: Allocator) -> float:
        """The share by which a ratio may exceed the largest one seen."""
        if self.on_cpu:
            return SLACK_HEAP
        if self._grows(allocator):
            return SLACK_EXPANDABLE_CHECKPOINTING if knobs.variant.checkpointing else SLACK_EXPANDABLE
        return SLACK_FIXED_CHECKPOINTING if knobs.variant.checkpointing else SLACK_FIXED


def fit_footprint(
    rules: MemoryRules, probes: Sequence[Probe], memory: MemoryModel, hardware: Hardware, *, baseline_bytes: int
) -> FootprintModel:
    """Take the ratios from those of `probes` that tell them.

    On a CPU only fresh processes do; a long training counts as one, since the next will come to hold as much.
    """
    on_cpu = hardware.on_host
    telling = [probe for probe in probes if probe.spec.fresh or not on_cpu]
    plain, compiled = ([one for one in telling if one.spec.knobs.variant.compiled == value] for value in (False, True))
    extra = _extra_bytes(rules, plain, hardware, baseline_bytes)
    constant_bytes = _constant_bytes(rules, extra, on_cpu=on_cpu)
    compiler_bytes = _compiler_bytes(rules, compiled, baseline_bytes + constant_bytes) if on_cpu else 0
    fixed_bytes = baseline_bytes + _surely_fixed_bytes(extra, constant_bytes, hardware)
    telling_bytes = _telling_bytes(telling, on_cpu=on_cpu)
    seen: dict[_Key, float] = {}
    certified: set[_Key] = set()
    overruns: Counter[_Key] = Counter()
    law_of = cache(memory.law)
    for spec, outcome in telling:
        key = _as_seen(spec.runtime.allocator, on_cpu=on_cpu), spec.knobs
        live_bytes: float | None = outcome.live_bytes
        if live_bytes is None and _is_predictable(spec, outcome, memory) and outcome.load is not None:
            live_bytes = law_of(spec.knobs).live(outcome.load)
        held_bytes = _held_bytes(spec, outcome, live_bytes or 0.0, telling_bytes)
        if live_bytes is None or held_bytes is None:
            continue
        overrun = 1.0
        if not outcome.ok:
            overrun += OVERRUN_SHARE * OVERRUN_GROWTH ** overruns[key]
            overruns[key] += 1
        unsure_bytes = GROWN_SLACK_BYTES if live_bytes < TELLING_BYTES and outcome.ok else 0
        own_bytes = held_bytes - fixed_bytes + unsure_bytes - (compiler_bytes if spec.knobs.variant.compiled else 0)
        seen[key] = max(seen.get(key, 0.0), overrun * own_bytes / live_bytes)
        if outcome.ok and (len(spec.batches) > 1 or outcome.source == "training"):
            certified.add(key)
    return FootprintModel(
        rules,
        baseline_bytes,
        on_cpu,
        seen,
        frozenset(certified),
        constant_bytes,
        compiler_bytes,
        expandable=hardware.expandable_segments,
    )


def _telling_bytes(probes: Sequence[Probe], *, on_cpu: bool) -> dict[Variant, float]:
    """The least live bytes of a probe that tells the ratio of a variant."""
    largest: dict[Variant, float] = {}
    for spec, outcome in probes:
        variant = spec.knobs.variant.of_memory
        largest[variant] = max(largest.get(variant, 0.0), float(outcome.live_bytes or 0))
    if on_cpu:
        return dict.fromkeys(largest, float(TELLING_BYTES))
    return {
        variant: min(float(TELLING_BYTES), max(float(LEAST_TELLING_BYTES), TELLING_SHARE * most))
        for variant, most in largest.items()
    }


def _held_bytes(
    spec: ProbeSpec, outcome: Outcome, live_bytes: float, telling_bytes: Mapping[Variant, float]
) -> int | None:
    """The footprint that a ratio can be taken from; of a probe that ran out of memory, its ceiling; None if it tells nothing."""
    if outcome.ok:
        return outcome.footprint_bytes if live_bytes >= telling_bytes[spec.knobs.variant.of_memory] else None
    return spec.ceiling_bytes if outcome.status is Status.OUT_OF_MEMORY else None


def _as_seen(allocator: Allocator, *, on_cpu: bool) -> Allocator:
    """The setting that a ratio is kept under: on an accelerator `fast` and `tight` are alike, for they differ in main memory only."""
    return allocator if on_cpu or allocator == "system" else "fast"


def _prior(rules: MemoryRules, knobs: Knobs, allocator: Allocator, *, on_cpu: bool) -> float:
    checkpointing = knobs.variant.checkpointing
    if not on_cpu:
        # Of expandable segments as well: calibration starts before either was seen.
        return rules.footprint_ratio_accelerator_checkpointing if checkpointing else rules.footprint_ratio_accelerator
    kind = ALLOCATORS[allocator]
    if kind.returns_memory:
        return rules.footprint_ratio_tight
    if kind.joins_pieces:
        return rules.footprint_ratio_joined_checkpointing if checkpointing else rules.footprint_ratio_joined
    kept = rules.footprint_ratio_checkpointing if checkpointing else rules.footprint_ratio_fast
    return kept * (1 + kind.reserved_share)


def _extra_bytes(
    rules: MemoryRules, probes: Sequence[Probe], hardware: Hardware, baseline_bytes: int
) -> tuple[tuple[int, float], ...]:
    """(live bytes, what was held beyond the idle process and the part that they explain) of each small probe."""
    found = []
    for spec, outcome in probes:
        if outcome.ok and outcome.footprint_bytes and outcome.live_bytes and outcome.live_bytes < TELLING_BYTES:
            prior = _prior(rules, spec.knobs, spec.runtime.allocator, on_cpu=hardware.on_host)
            explained = (1.0 if hardware.expandable_segments else prior) * outcome.live_bytes
            found.append((outcome.live_bytes, outcome.footprint_bytes - baseline_bytes - explained))
    return tuple(found)


def _constant_bytes(rules: MemoryRules, extra: Sequence[tuple[int, float]], *, on_cpu: bool) -> int:
    """The most that a small probe held beyond what its live bytes explain."""
    found = rules.footprint_constant_bytes if on_cpu else SEEN_CONSTANT_BYTES
    return max([found, *(int(n_bytes) + GROWN_SLACK_BYTES for _, n_bytes in extra)])


def _surely_fixed_bytes(extra: Sequence[tuple[int, float]], constant_bytes: int, hardware: Hardware) -> int:
    """The part of the excess that counts as a constant; the rest counts as growing with live bytes, as a ratio.

    Heaps and fixed segments waste more, the more they hold. What every one of an accelerator's smallest probes held is its kernels.
    """
    if hardware.expandable_segments:
        return constant_bytes
    smallest = [n_bytes for live_bytes, n_bytes in extra if live_bytes < LEAST_TELLING_BYTES]
    if hardware.on_host or not smallest:
        return SEEN_CONSTANT_BYTES
    return max(SEEN_CONSTANT_BYTES, int(min(smallest)))


def _compiler_bytes(rules: MemoryRules, probes: Sequence[Probe], plain_bytes: int) -> int:
    """What small compiled models held beyond plain ones on a CPU, with some slack."""
    found = [
        outcome.footprint_bytes
        - plain_bytes
        - _prior(rules, spec.knobs, spec.runtime.allocator, on_cpu=True) * outcome.live_bytes
        for spec, outcome in probes
        if outcome.ok and outcome.footprint_bytes and outcome.live_bytes and outcome.live_bytes < TELLING_BYTES
    ]
    return max(COMPILER_BYTES, int((1 + COMPILER_SLACK) * max(found, default=0.0)))


def _is_predictable(spec: ProbeSpec, outcome: Outcome, memory: MemoryModel) -> bool:
    """Whether live bytes can be predicted where none were measured: the probe ran out of memory, or was a training."""
    is_telling = outcome.source == "training" or outcome.status is Status.OUT_OF_MEMORY
    return is_telling and memory.knows(spec.knobs.variant)
