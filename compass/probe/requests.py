"""Specifications of probes: micro-probes to calibrate, timing probes to choose, long probes to certify."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from compass.optimizer_config import ProbeRules
from compass.records import Batch, Knobs, Load, ProbeSpec, RuntimeSettings, Variant

Phase = Literal["runtime", "calibrate", "search", "certify"]


def synthetic_batches(rules: ProbeRules) -> tuple[Batch, ...]:
    """Batches of one synthetic graph each, with the configured atoms and neighbours; self-loops count as edges."""
    loads = [
        Load(graphs=1, sizes=(("nodes", float(nodes)), ("edges", float(nodes * (neighbours + 1)))))
        for nodes, neighbours in rules.micro_loads
    ]
    return tuple(Batch(synthetic=load) for load in loads)


def micro_probes(
    rules: ProbeRules, kinds: Sequence[Variant], batches: Sequence[Batch], runtime: RuntimeSettings, *, n_steps: int
) -> Iterator[ProbeSpec]:
    """Probes of small batches and few models for each variant. They determine the memory model."""
    design = [(shape, batch) for shape in rules.micro_architectures for batch in batches]
    design += [(shape, batches[0]) for shape in rules.extra_architectures]
    for kind in kinds:
        yield from micro(rules, kind, design, runtime, n_steps=n_steps)


def more_micro_probes(
    rules: ProbeRules, kind: Variant, batches: Sequence[Batch], runtime: RuntimeSettings, *, n_steps: int
) -> Iterator[ProbeSpec]:
    """Further micro-probes of a variant whose memory the usual ones do not explain."""
    design = [(shape, batch) for shape in rules.more_architectures for batch in batches]
    return micro(rules, kind, design, runtime, n_steps=n_steps)


def micro(
    rules: ProbeRules,
    kind: Variant,
    design: Sequence[tuple[tuple[int, int], Batch]],
    runtime: RuntimeSettings,
    *,
    n_steps: int,
) -> Iterator[ProbeSpec]:
    """One profiled probe of `n_steps` steps for each ((layers, channels), batch) of the design."""
    for (layers, channels), batch in design:
        yield ProbeSpec(
            knobs=Knobs(layers=layers, channels=channels, variant=kind),
            batches=(batch,),
            min_steps=n_steps,
            max_steps=n_steps,
            timeout_s=rules.micro_timeout_s + _compile_s(rules, kind),
            runtime=runtime,
        )


def timing_probe(  # noqa: PLR0913 - each varies on its own
    rules: ProbeRules,
    knobs: Knobs,
    batch: Batch,
    runtime: RuntimeSettings,
    *,
    on_cpu: bool = False,
    profile: bool = False,
    step_s: float = 0.0,
    n_warming: int = 0,
) -> ProbeSpec:
    """A few timed steps on real samples; with `profile`, one more whose live bytes test the memory model.

    `step_s` is the expected time of a step in seconds; 0 if unknown. `n_warming` steps are slow beyond the usual two.
    """
    fewest, most = (n + n_warming for n in (rules.anchor_steps_cpu if on_cpu else rules.anchor_steps))
    return ProbeSpec(
        knobs=knobs,
        batches=(batch,),
        min_steps=fewest,
        max_steps=most,
        settle_share=rules.anchor_settle_share,
        profile=profile,
        timeout_s=max(rules.timeout_floor_s, rules.timeout_factor * step_s * most) + _compile_s(rules, knobs.variant),
        runtime=runtime,
    )


def certificate_probe(  # noqa: PLR0913 - each varies on its own
    rules: ProbeRules,
    knobs: Knobs,
    batches: tuple[Batch, ...],
    *,
    step_s: float,
    ceiling_bytes: int,
    runtime: RuntimeSettings,
    evaluated: tuple[Batch, ...] = (),
    timed: Batch | None = None,
    ranks: int = 1,
) -> ProbeSpec:
    """All `batches` once, under the ceiling in a fresh process; then `timed`, or the last of them, until its time has settled.

    `step_s` is the expected time of a step in seconds. Of several `ranks`, each has a process and a ceiling of its own.
    """
    n_timed = max(rules.timed_steps, min(rules.timed_most, int(rules.timed_s / step_s)))
    n_batches = len(batches) + (0 if timed is None else n_timed)
    return ProbeSpec(
        knobs=knobs,
        batches=batches,
        evaluated=evaluated,
        timed=timed,
        min_steps=n_batches,
        max_steps=n_batches + int(min(rules.patience_s / step_s, 2 * n_batches)),
        settle_share=rules.settle_share,
        fresh=True,
        ceiling_bytes=ceiling_bytes,
        timeout_s=max(rules.timeout_floor_s, rules.timeout_factor * step_s * 3 * n_batches)
        + _compile_s(rules, knobs.variant),
        runtime=runtime,
        ranks=ranks,
    )


def _compile_s(rules: ProbeRules, variant: Variant) -> float:
    """Seconds that a probe may take beyond its steps."""
    return rules.compile_timeout_s if variant.compiled else 0.0
