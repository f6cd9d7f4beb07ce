"""Runtime settings, each chosen by measurement: threads, their waiting and the allocator on a small model, then loading."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping

from compass.optimizer_config import RuntimeRules
from compass.planning.experiment import Experiment
from compass.probe.requests import timing_probe
from compass.records import (
    Allocator,
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
"""With so many, half of them is one thread, and nobody's step is faster on one."""
SHARED_OUT = 40 / 3
"""How many times the largest micro-probe's load thread counts are compared on: before any calibration, small enough for every
machine and large enough to be shared out. For complexes some 4,000 nodes."""
SHORT = 5 / 3
"""The same for how threads wait, which matters most to short steps."""
LEAST_COPY = 0.5
"""A sample that is more than twice as large as wanted is not run before its memory is known."""
NARROW = 1.5
"""Times the sleeping step up to which spinning that has lost is given another try."""


def choose_settings(lab: Experiment) -> tuple[RuntimeSettings, tuple[RuntimeChoice, ...]]:
    """What everything after is to be measured under, and why; `lab` was opened with every core, its threads spinning."""
    threads = choose_threads(lab)
    settings = lab.base.model_copy(update={"threads": int(threads.chosen)})
    waiting = choose_waiting(lab, settings)
    return settings.model_copy(update={"waiting": waiting.chosen}), (threads, waiting)


def choose_threads(lab: Experiment) -> RuntimeChoice:
    """All the cores that `lab` was opened with or, on a CPU, half of them if a step is faster so."""
    n_cores = lab.base.threads
    if lab.config.runtime.threads is not None:
        return RuntimeChoice(setting="threads", chosen=str(n_cores), why="as configured")
    if not lab.on_cpu:
        return RuntimeChoice(
            setting="threads", chosen=str(n_cores), why="every core: the device computes, they feed it"
        )
    if n_cores <= FEW_CORES:
        return RuntimeChoice(
            setting="threads", chosen=str(n_cores), why="every core: there are too few to leave one idle"
        )
    lab.tell("runtime", "threads", 0, 1)
    settings = {str(n): lab.base.model_copy(update={"threads": n}) for n in (n_cores, n_cores // 2)}
    specs = {value: _trial(lab, one, SHARED_OUT) for value, one in settings.items()}
    return fastest_threads(_made(lab, specs), lab.config.runtime)


def choose_waiting(lab: Experiment, settings: RuntimeSettings) -> RuntimeChoice:
    """Whether threads spin while they wait for each other, or sleep: measured on a CPU where there are several.

    Spinning loses only to what takes cores from it, so that it is compared with sleeping where anything does.
    """
    rules = lab.config.runtime
    if rules.waiting is not None:
        return RuntimeChoice(setting="waiting", chosen=rules.waiting, why="as configured")
    if not lab.on_cpu or settings.threads == 1:
        why = "as the library has it: " + ("the device computes" if not lab.on_cpu else "one thread waits for nobody")
        return RuntimeChoice(setting="waiting", chosen=settings.waiting, why=why)

    spinning = _trial(lab, settings.model_copy(update={"waiting": "spin"}))
    lab.tell("runtime", "threads spin", 0, 2)
    lab.runner.prepare(
        [spinning, *_allocator_trials(lab, spinning.runtime).values(), lab.micro([spinning.knobs.variant])[0]]
    )
    outcome = lab.probe("runtime", spinning)
    if outcome.step and outcome.others_cores is not None and outcome.others_cores < rules.idle_cores:
        return undisturbed(outcome.step, outcome.others_cores)
    is_new = not lab.notes[-1].reused
    lab.tell("runtime", "threads sleep", 1, 2)
    sleep = lab.probe("runtime", _trial(lab, settings.model_copy(update={"waiting": "sleep"}))).step
    if is_new and _is_narrow(outcome.step, sleep, rules):
        outcome = lab.runner.again("runtime", spinning)
    return calmer_waiting(outcome.step, sleep, rules)


def undisturbed(spin: StepTime, others_cores: float) -> RuntimeChoice:
    """Spinning, for nothing takes cores from it."""
    why = f"cores are idle: all other programs took {others_cores:.2f} of one while threads spun"
    tried = (RuntimeTrial(value="spin", step_s=spin.of_many_s),)
    return RuntimeChoice(setting="waiting", chosen="spin", why=why, tried=tried)


def calmer_waiting(spin: StepTime | None, sleep: StepTime | None, rules: RuntimeRules) -> RuntimeChoice:
    """Spinning only if its mean step is clearly faster: beside other work, which not every step meets, it costs several times what it gains.

    By its slowest step, one hiccup made one plan in twelve sleep on idle cores, and its steps 40 % longer.
    """
    spin_s, sleep_s = (None if step is None else step.of_many_s for step in (spin, sleep))
    tried = (RuntimeTrial(value="spin", step_s=spin_s), RuntimeTrial(value="sleep", step_s=sleep_s))
    if sleep_s is None or spin_s is None:
        found = "spinning did not end: either cores are shared, or it failed"
        why = "the trial did not run" if sleep_s is None else found
        return RuntimeChoice(setting="waiting", chosen="sleep", why=why, tried=tried)
    times = f"a step takes {format_seconds(spin_s)} spinning, {format_seconds(sleep_s)} sleeping"
    if spin_s < sleep_s * (1 - rules.spin_gain):
        why, gain = f"cores are idle: {times}", sleep_s / spin_s
        return RuntimeChoice(setting="waiting", chosen="spin", why=why, tried=tried, gain=gain)
    why, gain = f"cores are shared: {times}", spin_s / sleep_s
    return RuntimeChoice(setting="waiting", chosen="sleep", why=why, tried=tried, gain=gain)


def _is_narrow(spin: StepTime | None, sleep: StepTime | None, rules: RuntimeRules) -> bool:
    """Whether spinning lost by so little that one hiccup can have done it; where cores are shared it loses by more."""
    if spin is None or sleep is None:
        return False
    return (1 - rules.spin_gain) * sleep.of_many_s <= spin.of_many_s < NARROW * sleep.of_many_s


def fastest_threads(tried: list[RuntimeTrial], rules: RuntimeRules) -> RuntimeChoice:
    """Of all cores, which come first in `tried`, and half of them."""
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


def compare_allocators(lab: Experiment) -> RuntimeChoice | None:
    """What the calibrated allocator's settings are worth on this CPU, against the system's own.

    None on a device, which has an allocator of its own.
    """
    if not lab.on_cpu:
        return None
    lab.tell("runtime", "allocators", 0, 1)
    return judge_allocators(lab.calibrated_allocator, _made(lab, _allocator_trials(lab, lab.base)), lab.config.runtime)


def _allocator_trials(lab: Experiment, settings: RuntimeSettings) -> dict[str, ProbeSpec]:
    """Of the calibrated one, which the trial of spinning ran under, and of the system's own."""
    own = lab.calibrated_allocator
    other: Allocator = "fast" if own == "system" else "system"
    return {one: _trial(lab, settings.model_copy(update={"allocator": one})) for one in (own, other)}


def judge_allocators(chosen: Allocator, tried: Iterable[RuntimeTrial], rules: RuntimeRules) -> RuntimeChoice:
    """The configured one, with its gain over no settings; that another one is faster is said."""
    tried = tuple(tried)
    took_s = {trial.value: trial.step_s for trial in tried if trial.step_s is not None}
    own_s = took_s.pop(chosen, None)
    if own_s is None or not took_s:
        return RuntimeChoice(
            setting="allocator", chosen=chosen, why="as configured; the trial did not run", tried=tried
        )
    times = " and ".join(f"{step_s / own_s:.2f} times as long under {name}" for name, step_s in took_s.items())
    best = min(took_s, key=took_s.__getitem__)
    if took_s[best] < (1 - rules.trial_gain) * own_s:
        log.warning("a step is faster under the %s allocator than under %s: see stages.*.allocator", best, chosen)
    gain = took_s["system"] / own_s if "system" in took_s else None
    return RuntimeChoice(
        setting="allocator", chosen=chosen, why=f"as configured; a step takes {times}", tried=tried, gain=gain
    )


def choose_loaders(plan: StagePlan, n_cores: int, rules: RuntimeRules, *, on_cpu: bool) -> RuntimeChoice:
    """How many processes make `plan`'s batches ready: none while that is a small part of a step, else enough to hide it."""
    collate_s, step_s = plan.measured.collate_s, plan.measured.step.median_s
    if collate_s is None:
        return _loaders(plan, 0, "a stand-in complex does not show what loading takes")
    share = f"making a batch ready takes {format_seconds(collate_s)}, {collate_s / step_s:.1%} of a step"
    alone = RuntimeTrial(value="0", step_s=step_s + collate_s)
    if collate_s <= rules.loader_share * step_s:
        return _loaders(plan, 0, share, tried=(alone,))
    if on_cpu and plan.runtime.waiting == "spin" and plan.runtime.threads >= n_cores:
        return _loaders(plan, 0, f"{share}, and every core has a thread that spins while it waits", tried=(alone,))
    n_loaders = min(math.ceil(rules.loader_headroom * collate_s / step_s), max(1, n_cores - 1))
    # On a CPU the work is still to be done by the same cores, though no longer by one of them while the others wait.
    hidden_s = step_s + collate_s / n_cores if on_cpu else max(step_s, collate_s / n_loaders)
    return _loaders(plan, n_loaders, share, tried=(alone,), gain=(step_s + collate_s) / hidden_s)


def _loaders(
    plan: StagePlan, n_loaders: int, why: str, *, tried: tuple[RuntimeTrial, ...] = (), gain: float | None = None
) -> RuntimeChoice:
    return RuntimeChoice(
        setting="loader_workers", stage=plan.stage, chosen=str(n_loaders), why=why, tried=tried, gain=gain
    )


def _of(lab: Experiment, times: float) -> Batch:
    """Copies of the sample, so many `times` as large as the largest micro-probe; where one is larger than that, of its batch."""
    largest = max(lab.micro_batches, key=lambda batch: batch.load(dict(lab.description.samples)).sizes[-1][1])
    room, one = largest.load(dict(lab.description.samples)), lab.work.typical_load(1)
    n_copies = min(times * room[name] / size for name, size in one.sizes if size)
    if n_copies < LEAST_COPY:  # nobody knows yet what it takes
        return largest
    return lab.work.typical(min(lab.config.batch.max_batch, max(1, round(n_copies))))


def _model(lab: Experiment) -> Knobs:
    """The smallest of the models that are timed to calibrate, which every machine can run."""
    depth, width = lab.config.probe.anchor_architectures_cpu[0]
    variant = min((knobs.variant for knobs in lab.capacities), key=lambda kind: kind.departures)
    return Knobs(layers=depth, channels=width, variant=variant)


def _trial(lab: Experiment, settings: RuntimeSettings, times: float = SHORT) -> ProbeSpec:
    """Steps of the small model under `settings`."""
    return timing_probe(lab.config.probe, _model(lab), _of(lab, times), settings, on_cpu=True)


def _made(lab: Experiment, specs: Mapping[str, ProbeSpec]) -> list[RuntimeTrial]:
    lab.runner.prepare(specs.values())
    outcomes = {value: lab.probe("runtime", spec) for value, spec in specs.items()}
    # The fastest steps: whatever else runs on the machine only adds to one, and may add to one setting alone.
    return [RuntimeTrial(value=value, step_s=one.step.low_s if one.step else None) for value, one in outcomes.items()]
