"""Runtime settings, each chosen by measurement: threads and how they wait on a small model, then the loaders."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from compass.optimizer_config import RuntimeRules
from compass.planning.calibration import micro_specs
from compass.planning.experiment import Experiment
from compass.planning.prober import Prober
from compass.probe.requests import timing_probe
from compass.records import (
    Batch,
    Knobs,
    ProbeSpec,
    RuntimeChoice,
    RuntimeSettings,
    RuntimeTrial,
    StagePlan,
    StepTime,
)
from compass.units import format_seconds

log = logging.getLogger(__name__)

FEW_CORES = 2
"""Half of so few cores is one thread, with which no step was ever faster."""
THREAD_TRIAL_SIZE = 40 / 3
"""Load of the batch that thread counts are compared on, relative to the largest micro-probe's: before any calibration, small
enough for every machine and large enough for all cores. For complexes some 4,000 nodes."""
WAITING_TRIAL_SIZE = 5 / 3
"""The same for the ways to wait, which matter most to short steps."""
LEAST_COPY = 0.5
"""A sample more than twice as large as the trial should be is not run before its memory is known."""
NARROW = 1.5
"""Spinning that lost is tried again if its step was shorter than this many times the sleeping one."""


def choose_settings(experiment: Experiment, prober: Prober) -> tuple[RuntimeSettings, tuple[RuntimeChoice, ...]]:
    """The settings of all later measurements, and why; the experiment must be open with every core and spinning threads."""
    threads = choose_threads(experiment, prober)
    settings = experiment.settings.model_copy(update={"threads": int(threads.chosen)})
    waiting = choose_waiting(experiment, prober, settings)
    return settings.model_copy(update={"waiting": waiting.chosen}), (threads, waiting)


def choose_threads(experiment: Experiment, prober: Prober) -> RuntimeChoice:
    """A thread for each core or, on a CPU, for half of them if that makes a step faster."""
    n_cores = experiment.settings.threads
    why = None
    if experiment.config.runtime.threads is not None:
        why = "as configured"
    elif not experiment.on_cpu:
        why = "every core: the device computes, and the threads feed it"
    elif n_cores <= FEW_CORES:
        why = "every core: there are too few to leave one idle"
    if why is not None:
        return RuntimeChoice(setting="threads", chosen=str(n_cores), why=why)
    prober.report("runtime", "threads", 0, 1)
    specs = {}
    for n_threads in (n_cores, n_cores // 2):
        settings = experiment.settings.model_copy(update={"threads": n_threads})
        specs[str(n_threads)] = trial(experiment, settings, THREAD_TRIAL_SIZE)
    return fastest_threads(_run_trials(prober, specs), experiment.config.runtime)


def choose_waiting(experiment: Experiment, prober: Prober, settings: RuntimeSettings) -> RuntimeChoice:
    """Whether threads spin or sleep while they wait for each other; measured on a CPU with several threads.

    Spinning loses only where other programs take cores, so the two are compared only there.
    """
    rules = experiment.config.runtime
    why = None
    if rules.waiting is not None:
        return RuntimeChoice(setting="waiting", chosen=rules.waiting, why="as configured")
    if not experiment.on_cpu:
        why = "the library's default: the device computes"
    elif settings.threads == 1:
        why = "the library's default: a single thread does not wait"
    if why is not None:
        return RuntimeChoice(setting="waiting", chosen=settings.waiting, why=why)

    spin_spec = trial(experiment, settings.model_copy(update={"waiting": "spin"}))
    first_micro = micro_specs(experiment, [spin_spec.knobs.variant])[0]
    prober.report("runtime", "threads spin", 0, 2)
    # On a known machine the calibration is known too, though of other variants than before the weight update was chosen.
    prober.prepare([] if prober.knows(spin_spec) else [spin_spec, first_micro])
    spin = prober.probe("runtime", spin_spec)
    step, others_cores = spin.outcome.step, spin.outcome.others_cores
    if step and others_cores is not None and others_cores < rules.idle_cores:
        return undisturbed(step, others_cores)
    prober.report("runtime", "threads sleep", 1, 2)
    sleep_spec = trial(experiment, settings.model_copy(update={"waiting": "sleep"}))
    sleep_step = prober.probe("runtime", sleep_spec).outcome.step
    if not spin.reused and _is_narrow(step, sleep_step, rules):
        step = prober.repeat(spin).outcome.step
    return calmer_waiting(step, sleep_step, rules)


def undisturbed(spin: StepTime, others_cores: float) -> RuntimeChoice:
    """Spinning, because other programs hardly use the cores."""
    why = f"cores are idle: all other programs used {others_cores:.2f} cores while threads spun"
    tried = (RuntimeTrial(value="spin", step_s=spin.of_many_s),)
    return RuntimeChoice(setting="waiting", chosen="spin", why=why, tried=tried)


def calmer_waiting(spin: StepTime | None, sleep: StepTime | None, rules: RuntimeRules) -> RuntimeChoice:
    """Spinning only if its mean step is clearly faster: beside other work, it costs several times its gain.

    The mean counts, because not every step meets other work. By the slowest step, a single disturbance made one plan in
    twelve sleep on idle cores, with steps 40 % longer.
    """
    spin_s, sleep_s = (None if step is None else step.of_many_s for step in (spin, sleep))
    tried = (RuntimeTrial(value="spin", step_s=spin_s), RuntimeTrial(value="sleep", step_s=sleep_s))
    if sleep_s is None or spin_s is None:
        no_end = "the trial of spinning did not end: other programs use the cores, or it failed"
        why = "the trial did not run" if sleep_s is None else no_end
        return RuntimeChoice(setting="waiting", chosen="sleep", why=why, tried=tried)
    times = f"a step takes {format_seconds(spin_s)} spinning, {format_seconds(sleep_s)} sleeping"
    if spin_s < sleep_s * (1 - rules.spin_gain):
        why, gain = f"cores are idle: {times}", sleep_s / spin_s
        return RuntimeChoice(setting="waiting", chosen="spin", why=why, tried=tried, gain=gain)
    why, gain = f"cores are shared: {times}", spin_s / sleep_s
    return RuntimeChoice(setting="waiting", chosen="sleep", why=why, tried=tried, gain=gain)


def _is_narrow(spin: StepTime | None, sleep: StepTime | None, rules: RuntimeRules) -> bool:
    """Whether spinning lost by so little that a single disturbance may explain it; on shared cores it loses by more."""
    if spin is None or sleep is None:
        return False
    return (1 - rules.spin_gain) * sleep.of_many_s <= spin.of_many_s < NARROW * sleep.of_many_s


def fastest_threads(tried: list[RuntimeTrial], rules: RuntimeRules) -> RuntimeChoice:
    """The faster of two trials: on all cores, which comes first in `tried`, and on half of them."""
    every, half = tried
    chosen, gain, why = every, None, "every core: the trial did not run"
    if every.step_s is not None and half.step_s is not None:
        times = (
            f"a step takes {format_seconds(every.step_s)} on all cores, {format_seconds(half.step_s)} on half of them"
        )
        if half.step_s < every.step_s * (1 - rules.trial_gain):
            chosen, gain, why = half, every.step_s / half.step_s, f"half of the cores: {times}"
        else:
            chosen, gain, why = every, half.step_s / every.step_s, f"every core: {times}"
    return RuntimeChoice(setting="threads", chosen=chosen.value, why=why, tried=tuple(tried), gain=gain)


def choose_loaders(
    plan: StagePlan, n_cores: int, rules: RuntimeRules, *, on_cpu: bool, noun: str = ""
) -> RuntimeChoice:
    """How many processes prepare the plan's batches: none if that takes a small part of a step, else enough to hide it."""
    collate_s, step_s = plan.measured.collate_s, plan.measured.step.median_s
    if collate_s is None:
        return _loaders(
            plan, 0, f"copies of {f'some {noun}' if noun else 'one complex'} do not show how long loading takes"
        )
    share = f"preparing a batch takes {format_seconds(collate_s)}, {collate_s / step_s:.1%} of a step"
    alone = RuntimeTrial(value="0", step_s=step_s + collate_s)
    if collate_s <= rules.loader_share * step_s:
        return _loaders(plan, 0, share, tried=(alone,))
    if on_cpu and plan.runtime.waiting == "spin" and plan.runtime.threads >= n_cores:
        return _loaders(plan, 0, f"{share}, and every core has a thread that spins while it waits", tried=(alone,))
    n_loaders = min(math.ceil(rules.loader_headroom * collate_s / step_s), max(1, n_cores - 1))
    # On a CPU the same cores do this work, but all of them, instead of one while the others wait.
    hidden_s = step_s + collate_s / n_cores if on_cpu else max(step_s, collate_s / n_loaders)
    return _loaders(plan, n_loaders, share, tried=(alone,), gain=(step_s + collate_s) / hidden_s)


def _loaders(
    plan: StagePlan, n_loaders: int, why: str, *, tried: tuple[RuntimeTrial, ...] = (), gain: float | None = None
) -> RuntimeChoice:
    return RuntimeChoice(
        setting="loader_workers", stage=plan.stage, chosen=str(n_loaders), why=why, tried=tried, gain=gain
    )


def _trial_batch(experiment: Experiment, size: float) -> Batch:
    """Copies of a typical sample with `size` times the load of the largest micro-probe; its batch if the sample is larger."""
    samples = dict(experiment.description.samples)
    largest = max(experiment.micro_batches, key=lambda batch: batch.load(samples).sizes[-1][1])
    wanted, one = largest.load(samples), experiment.sample_loads.typical_load(1)
    n_copies = min(size * wanted[name] / amount for name, amount in one.sizes if amount)
    if n_copies < LEAST_COPY:  # its memory is not known yet
        return largest
    return experiment.sample_loads.typical(min(experiment.config.batch.max_batch, max(1, round(n_copies))))


def _trial_model(experiment: Experiment) -> Knobs:
    """The smallest of the calibration's anchors, which every machine can run."""
    layers, channels = experiment.config.probe.anchor_architectures_cpu[0]
    plainest = min((knobs.variant for knobs in experiment.capacities), key=lambda variant: variant.departures)
    return Knobs(layers=layers, channels=channels, variant=plainest)


def trial(experiment: Experiment, settings: RuntimeSettings, size: float = WAITING_TRIAL_SIZE) -> ProbeSpec:
    """A timing of the small model under `settings`."""
    batch = _trial_batch(experiment, size)
    return timing_probe(experiment.config.probe, _trial_model(experiment), batch, settings, on_cpu=True)


def _run_trials(prober: Prober, specs: Mapping[str, ProbeSpec]) -> list[RuntimeTrial]:
    """Run a trial of each value. The fastest steps count: other programs only add time, perhaps to one setting alone."""
    prober.prepare(specs.values())
    steps = {value: prober.probe("runtime", spec).outcome.step for value, spec in specs.items()}
    return [RuntimeTrial(value=value, step_s=step.low_s if step else None) for value, step in steps.items()]
