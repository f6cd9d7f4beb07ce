"""Calibration: the probes that the memory model and the time model are fitted to, pass after pass."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from compass.planning.experiment import Experiment
from compass.planning.forecast import MEMORY, TIMES
from compass.planning.prober import Prober
from compass.probe.requests import micro, micro_probes, more_micro_probes, timing_probe
from compass.probe.settle import N_WARM_STEPS
from compass.records import Batch, Knobs, Outcome, ProbeSpec, Status, Variant
from compass.stages.policy import Policy

log = logging.getLogger(__name__)

N_WARMING_STEPS = 11
"""Steps of the micro-probe that shows how many are slow at first: nine after the usual two. With one more, chance made of half of them a
trend on two machines in seventy, whose timings then took ten steps each."""
MOST_LOOKED_AT = 6
"""Micro-probes of models that a stage would pick, where no memory law holds for their variant."""


def calibrate(experiment: Experiment, prober: Prober, variants: Iterable[Variant]) -> None:
    """Probe until the memory and the step time of models can be predicted; variants that do not run are set aside."""
    variants = tuple(variants)
    learn_memory(experiment, prober, variants)
    learn_times(experiment, prober, variants)


def learn_memory(experiment: Experiment, prober: Prober, variants: Sequence[Variant]) -> None:
    """Micro-probes. On a CPU, their steps give a first idea of time too."""
    probe_micro(experiment, prober, variants)
    learn_warming(experiment, prober, variants)
    for variant in variants:
        _require_memory(experiment, variant)


def learn_times(experiment: Experiment, prober: Prober, variants: Sequence[Variant]) -> None:
    """Anchors, a few models on the real sample: with one graph, where launching shows, and with larger batches.

    The first of those passes has contrasting loads on a CPU, all others have typical ones.
    """
    running = [variant for variant in variants if _runs(experiment, variant)]
    anchors = [knobs for variant in running for knobs in _anchors(experiment, variant)]
    alone = anchors if experiment.on_cpu else launching(anchors)
    n_probes = len(alone) + len(anchors) * len(anchor_step_s(experiment))
    progress = _Progress(prober, TIMES, n_probes)
    time_single_graphs(experiment, prober, alone, progress)
    learn_least_batch(experiment)
    first_s, *other_s = anchor_step_s(experiment)
    if experiment.on_cpu:
        time_contrasting_loads(experiment, prober, anchors, first_s, progress)
    else:
        time_typical_loads(experiment, prober, anchors, first_s, progress)
    for step_s in other_s:
        is_real = step_s == max(other_s) and experiment.has_one_model
        time_typical_loads(experiment, prober, anchors, step_s, progress, fresh=is_real)
    for variant in _of_memory(running):
        resolve_doubts(experiment, prober, variant)
    for variant in running:
        _require_timing(experiment, variant)


class _Progress:
    """Counts the probes of one part of a calibration and reports each before it runs. Those that were made before take no time."""

    def __init__(self, prober: Prober, part: str, n_probes: int) -> None:
        self._prober, self._part, self._n_probes, self._n_done = prober, part, n_probes, 0

    def report(self, spec: ProbeSpec) -> None:
        is_made = self._prober.knows(spec)
        self._n_probes = max(1, self._n_done, self._n_probes - is_made)
        share = self._n_done / self._n_probes
        self._prober.report(
            "calibrate", str(spec.knobs), self._n_done, self._n_probes, part=self._part, done_share=share
        )
        self._n_done += not is_made


# --------------------------------------------------------------------------------------------------------- the passes


def probe_micro(experiment: Experiment, prober: Prober, variants: Sequence[Variant]) -> None:
    """Micro-probes of every variant, which determine the memory model."""
    specs = micro_specs(experiment, variants)
    progress = _Progress(prober, MEMORY, len(specs))
    if experiment.n_devices > 1 and not experiment.on_cpu:
        prober.prepare(specs)  # all devices make them, side by side: no time is read from them
    for spec in specs:
        progress.report(spec)
        prober.probe("calibrate", spec)


def time_single_graphs(experiment: Experiment, prober: Prober, anchors: Sequence[Knobs], progress: _Progress) -> None:
    """Anchors with one graph, whose step time on an accelerator is mostly launch overhead."""
    specs = [timing_spec(experiment, knobs, at_most=1) for knobs in anchors]
    _probe_all(experiment, prober, [spec for spec in specs if spec is not None], progress)


def learn_warming(experiment: Experiment, prober: Prober, variants: Sequence[Variant]) -> None:
    """One micro-probe of many steps on an accelerator: where kernels are chosen by trying them, more than two steps are slow.

    A probe of a few steps would take them for the step's time. Those that time models then make as many more.
    """
    if experiment.on_cpu:
        return
    first = next(spec for spec in micro_specs(experiment, variants))
    steps = {"min_steps": N_WARMING_STEPS, "max_steps": N_WARMING_STEPS, "profile": False}
    step = prober.probe("calibrate", first.model_copy(update=steps)).outcome.step
    if step is not None:
        experiment.n_warming = N_WARMING_STEPS - N_WARM_STEPS - step.n_steps
    if experiment.n_warming:
        log.info("%d more steps than usual are slow at first", experiment.n_warming)


def can_show_steps(experiment: Experiment, variants: Iterable[Variant]) -> bool:
    """Whether micro-probes alone say enough to certify a few steps of the smallest model.

    They do on a CPU, where they show the step time of every variant that runs, if one sample was seen to be batch enough.
    """
    time, probes = experiment.costs().time, experiment.runner.probes
    is_timed = all(time.knows(variant) for variant in variants if _runs(experiment, variant))
    return experiment.on_cpu and is_timed and any(outcome.ok and _n_graphs(spec) == 1 for spec, outcome in probes)


def learn_least_batch(experiment: Experiment) -> None:
    """A model that runs on several graphs and not on one has a layer that normalises over them: batches then have at least two."""
    probes = experiment.runner.probes
    several = {spec.knobs.variant for spec, outcome in probes if outcome.ok and _n_graphs(spec) > 1}
    single = [outcome for spec, outcome in probes if _n_graphs(spec) == 1 and spec.knobs.variant in several]
    refused = [outcome for outcome in single if outcome.status is Status.INVALID]
    if not refused or any(outcome.ok for outcome in single):
        return
    log.info("a batch of one does not run, so batches have at least two: %s", refused[0].summary)
    experiment.least_batch = 2
    # A sample that would be batched alone now shares its batches.
    experiment.sample_loads = replace(experiment.sample_loads, isolated=frozenset())


def _n_graphs(spec: ProbeSpec) -> int:
    batch = spec.batches[-1]
    return batch.synthetic.graphs if batch.synthetic is not None else sum(copies for _, copies in batch.members)


def time_contrasting_loads(
    experiment: Experiment, prober: Prober, anchors: Sequence[Knobs], step_s: float, progress: _Progress
) -> None:
    """Anchors on copies of the sample with the least usual proportions, which separate the cost of each size feature."""
    specs = _anchor_specs(experiment, anchors, step_s, experiment.sample_loads.contrasting)
    _probe_all(experiment, prober, specs, progress)


def time_typical_loads(
    experiment: Experiment,
    prober: Prober,
    anchors: Sequence[Knobs],
    step_s: float,
    progress: _Progress,
    *,
    fresh: bool = False,
) -> None:
    """Anchors on typical batches with steps of up to `step_s` seconds.

    In `fresh` processes, whose footprint is that of the batch: a fixed model is probed like this at a real one.
    """
    specs = _anchor_specs(experiment, anchors, step_s, experiment.sample_loads.typical)
    specs = [spec.model_copy(update={"fresh": True}) for spec in specs] if fresh else specs
    _probe_all(experiment, prober, specs, progress)


def resolve_doubts(experiment: Experiment, prober: Prober, variant: Variant) -> None:
    """More micro-probes where the observed memory of a variant contradicts its model."""
    rules, runtime = experiment.config.probe, experiment.runtime(experiment.calibrated_allocator)
    if experiment.costs().memory.misfits[variant] <= rules.poor_fit:
        return
    log.info("%s: memory does not follow the usual form; running more probes", variant)
    n_steps = _micro_steps(experiment)
    _probe_all(
        experiment,
        prober,
        list(more_micro_probes(rules, variant, experiment.micro_batches, runtime, n_steps=n_steps)),
    )
    misfit = experiment.costs().memory.misfits[variant]
    if misfit > rules.poor_fit:
        log.warning("%s: memory predictions for this variant may be off by %.1f%%", variant, 100 * misfit)


def look_at_models(policy: Policy, experiment: Experiment, prober: Prober) -> None:
    """A micro-probe of each model that the policy would pick, if it fits, where no law holds for its variant.

    What such a model needs is not known from others, and the margin for that would leave much of the memory empty.
    """
    rules, runtime = experiment.config.probe, experiment.runtime(experiment.calibrated_allocator)
    for _ in range(MOST_LOOKED_AT):
        known, memory = experiment.known(), experiment.costs().memory
        if not memory.own_margins:
            return
        ranking = policy.rank(replace(known, costs=experiment.costs().hopeful()))
        if ranking is None or memory.observed(ranking.pick.knobs):
            return
        knobs, batch = ranking.pick.knobs, experiment.micro_batches[0]
        design = [((knobs.layers, knobs.channels), batch)]
        (spec,) = micro(rules, knobs.variant, design, runtime, n_steps=_micro_steps(experiment))
        outcome = prober.probe("calibrate", spec).outcome
        if not outcome.ok:
            return


def _probe_all(
    experiment: Experiment, prober: Prober, specs: Sequence[ProbeSpec], progress: _Progress | None = None
) -> None:
    """Probe all `specs` beside the memory predicted before the first of them. Times are not predicted: they are being learned."""
    costs = experiment.costs()
    for spec in specs:
        if progress:
            progress.report(spec)
        prober.probe("calibrate", spec, expected=experiment.expected_memory(spec, costs))


# --------------------------------------------------------------------------------------------------------- set aside


def _require_memory(experiment: Experiment, variant: Variant) -> None:
    """Set a variant aside if none of its micro-probes ran."""
    if not _runs(experiment, variant):
        experiment.pruned.set_aside(variant, _outcomes(experiment, variant)[-1].summary)


def _runs(experiment: Experiment, variant: Variant) -> bool:
    outcomes = _outcomes(experiment, variant)
    return any(outcome.ok and outcome.segments for outcome in outcomes)  # trials of runtime settings are not profiled


def _outcomes(experiment: Experiment, variant: Variant) -> list[Outcome]:
    probes = experiment.runner.probes
    return [outcome for spec, outcome in probes if spec.knobs.variant.of_memory == variant.of_memory]


def _require_timing(experiment: Experiment, variant: Variant) -> None:
    """Set a variant aside if no step of its time model was timed: on an accelerator, micro-probes do not show time."""
    if experiment.costs().time.knows(variant):
        return
    probes = experiment.runner.probes
    failed = [outcome for spec, outcome in probes if spec.knobs.variant == variant and not outcome.ok]
    reason = failed[-1].summary if failed else "no step could be timed"
    experiment.pruned.set_aside(variant, reason)


# --------------------------------------------------------------------------------------------------------- the probes


def micro_specs(experiment: Experiment, variants: Iterable[Variant]) -> list[ProbeSpec]:
    """The micro-probes of `variants`."""
    runtime = experiment.runtime(experiment.calibrated_allocator)
    rules, batches, n_steps = experiment.config.probe, experiment.micro_batches, _micro_steps(experiment)
    specs = list(micro_probes(rules, _of_memory(variants), batches, runtime, n_steps=n_steps))
    if not experiment.on_cpu:
        return specs
    # A fresh process holds as much before its first step as a training process; a compiler adds to that.
    compiled = [spec.knobs.variant.compiled for spec in specs]
    firsts = {compiled.index(value) for value in set(compiled)}
    return [spec.model_copy(update={"fresh": True}) if i in firsts else spec for i, spec in enumerate(specs)]


def _of_memory(variants: Iterable[Variant]) -> tuple[Variant, ...]:
    """The variants that differ in memory, one for all that share a memory law."""
    return tuple(dict.fromkeys(variant.of_memory for variant in variants))


def _micro_steps(experiment: Experiment) -> int:
    return experiment.config.probe.micro_steps if experiment.on_cpu else 1


def _anchors(experiment: Experiment, variant: Variant) -> list[Knobs]:
    """The models of `variant` whose steps are timed."""
    rules = experiment.config.probe
    if experiment.on_cpu:
        shapes = rules.anchor_checkpointing_cpu if variant.is_factor else rules.anchor_architectures_cpu
    else:
        shapes = rules.anchor_checkpointing if variant.is_factor else rules.anchor_architectures
    return [Knobs(layers=layers, channels=channels, variant=variant) for layers, channels in shapes]


def launching(anchors: Sequence[Knobs]) -> list[Knobs]:
    """Anchors also timed at batch 1, to estimate launch overhead: the first of each variant, and the deepest."""
    first = {knobs.variant: knobs for knobs in reversed(anchors)}
    deepest = sorted(anchors, key=lambda knobs: knobs.layers)[-1:]
    return list(dict.fromkeys([*reversed(first.values()), *deepest]))


def anchor_step_s(experiment: Experiment) -> tuple[float, ...]:
    """The longest step of an anchor in each pass, in seconds."""
    rules = experiment.config.probe
    return rules.anchor_step_s_cpu if experiment.on_cpu else (rules.anchor_step_s,)


def longest_timed_s(experiment: Experiment) -> float:
    """The longest predicted step of a timing probe, in seconds."""
    return max(anchor_step_s(experiment))


def _anchor_specs(
    experiment: Experiment, anchors: Sequence[Knobs], step_s: float, batch_of: Callable[[int], Batch]
) -> list[ProbeSpec]:
    """One timing of each anchor. With the largest steps it is profiled too, to show whether the memory model holds on real samples.

    So is one with contrasting loads. Where no graph fits, a small batch of the micro-probes takes its place.
    """
    rules, runtime = experiment.config.probe, experiment.runtime(experiment.calibrated_allocator)
    smallest, loads = experiment.micro_batches[0], experiment.sample_loads
    is_telling = step_s == longest_timed_s(experiment) or batch_of == loads.contrasting
    return [
        timing_spec(experiment, knobs, longest_s=step_s, profile=is_telling, batch_of=batch_of)
        or timing_probe(rules, knobs, smallest, runtime, on_cpu=experiment.on_cpu, n_warming=experiment.n_warming)
        for knobs in anchors
    ]


def timing_spec(  # noqa: PLR0913 - each varies on its own
    experiment: Experiment,
    knobs: Knobs,
    *,
    longest_s: float | None = None,
    at_most: int | None = None,
    profile: bool = False,
    batch_of: Callable[[int], Batch] | None = None,
    fill_share: float | None = None,
) -> ProbeSpec | None:
    """The timing of `knobs` on as many graphs as memory and a step of `longest_s` allow; None if no graph fits the budget.

    `batch_of` makes a batch of so many graphs: a typical one by default. `fill_share` is the share of the memory that it may fill, by
    default an anchor's.
    """
    costs, batch_of = experiment.costs(), batch_of or experiment.sample_loads.typical
    fill_share = fill_share or experiment.config.probe.anchor_share
    n_graphs = _most_graphs(experiment, knobs, batch_of, longest_s or longest_timed_s(experiment), fill_share)
    law = costs.bytes_law(knobs, experiment.calibrated_allocator)
    if n_graphs == 0:
        if law.upper_footprint(experiment.sample_loads.load(batch_of(1))) > experiment.budget_bytes:
            return None
        n_graphs = 1
    batch = batch_of(min(n_graphs, at_most or n_graphs))
    is_timed = costs.time.knows(knobs.variant)
    step_s = experiment.known().step_s(knobs, experiment.sample_loads.load(batch)) if is_timed else 0.0
    runtime = experiment.runtime(experiment.calibrated_allocator)
    return timing_probe(
        experiment.config.probe,
        knobs,
        batch,
        runtime,
        on_cpu=experiment.on_cpu,
        profile=profile,
        step_s=step_s,
        n_warming=experiment.n_warming,
    )


def _most_graphs(
    experiment: Experiment, knobs: Knobs, batch_of: Callable[[int], Batch], longest_s: float, fill_share: float
) -> int:
    """The most graphs that fill no more than `fill_share` of the memory, in a predicted step of at most `longest_s`."""
    known, costs = experiment.known(), experiment.costs()
    law = costs.bytes_law(knobs, experiment.calibrated_allocator)
    free_bytes = experiment.budget_bytes - law.baseline_bytes
    most_bytes = law.baseline_bytes + fill_share * free_bytes
    is_timed = costs.time.knows(knobs.variant)

    def suits(n_graphs: int) -> bool:
        load = experiment.sample_loads.load(batch_of(n_graphs))
        return law.upper_footprint(load) <= most_bytes and (not is_timed or known.step_s(knobs, load) <= longest_s)

    return known.most_graphs(suits)
