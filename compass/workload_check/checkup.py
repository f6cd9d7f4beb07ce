"""The check, top to bottom: one step, the same again, other batches, other models, step times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic

import numpy as np

from compass.cost.memory import MemoryModel, fit_memory, shape_of
from compass.cost.observation import Probe
from compass.cost.time import fit_time
from compass.device import available_cores
from compass.optimizer_config import OptimizerConfig
from compass.probe.local import LocalRunner
from compass.probe.requests import micro, timing_probe
from compass.probe.runner import Runner
from compass.records import Batch, Description, Knobs, Load, Outcome, ProbeSpec, Progress, RuntimeSettings, Variant
from compass.search.family import follow
from compass.search.space import variants
from compass.workload_check.questions import Questions, questions
from compass.workload_check.report import CheckReport, Finding, Fit
from compass.workload_check.sizes import assess_sizes, members_of, possible_sizes
from compass.workload_check.words import (
    about_determinism,
    about_knobs,
    about_layers,
    about_loads,
    about_padding,
    about_parameters,
    about_sums,
    about_time,
)

CHECK_TIME_S = 45.0
"""After this time, only probes without which there is no verdict are started."""
FIRST_STEPS = 3
"""Steps of the first two probes."""
TIMED_COPIES = 4
"""Copies of the smallest sample in a timed batch, before it is multiplied."""
ENOUGH_S = 0.02
"""A timed step of the smallest model should take this long: in a step of 2 ms, threads that wait for each other matter, and no
model predicts that."""
MOST_TIMES = 16
"""The most that a batch is multiplied by for that."""
TIMED_MEMORY_SHARE = 0.25
"""Share of the budget that timed batches may need."""


@dataclass
class Checkup:
    """The state of a check: one workload on one machine, and the findings so far."""

    name: str
    config: OptimizerConfig
    runner: Runner
    description: Description
    kind: Variant
    ask: Questions
    runtime: RuntimeSettings
    watch: Callable[[Progress], None]
    started: float = field(default_factory=monotonic)
    findings: list[Finding] = field(default_factory=list)
    n_probes: int = 0

    def probe(self, what: str, spec: ProbeSpec) -> Outcome:
        """Make one probe and report the progress."""
        self.watch(Progress(phase="calibrate", what=what, n_done=self.n_probes, n_expected=self.n_expected))
        self.n_probes += 1
        return self.runner.probe(spec)

    def profiled(self, what: str, shape: tuple[int, int], batch: Batch, n_steps: int = 2) -> Probe:
        """A profiled micro-probe of the model `shape`, (layers, channels), on `batch`."""
        [spec] = micro(self.config.probe, self.kind, [(shape, batch)], self.runtime, n_steps=n_steps)
        return Probe(spec, self.probe(what, spec))

    @property
    def n_expected(self) -> int:
        """Number of probes if none is left out."""
        ask = self.ask
        n_memory = (len(ask.seen) + 1) * len(ask.fitted) + len(ask.others) + len(ask.seen_once) + 2 * len(ask.unseen)
        return 2 + n_memory + len(ask.seen) + len(ask.unseen)

    @property
    def late(self) -> bool:
        """Whether only indispensable probes should still be started."""
        return monotonic() - self.started > CHECK_TIME_S

    @property
    def samples(self) -> Mapping[str, Load]:
        """The load of one copy of each sample."""
        return dict(self.description.samples)


def check_workload(
    workload: str,
    config: OptimizerConfig,
    *,
    device: str | None = None,
    limit_bytes: int | None = None,
    runner: Runner | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> CheckReport:
    """Whether the cost model applies to `workload`, from a few dozen small probes in a worker.

    Raises:
        InputError: the workload cannot be found or built, or lacks a member.
        WorkerError: this machine cannot run probes.
    """
    runtime = RuntimeSettings(threads=config.runtime.threads or available_cores())
    started = monotonic()
    machine = runner or LocalRunner(config, runtime, workload=workload, device=device, limit_bytes=limit_bytes)
    try:
        description = machine.describe()
        config = follow(config, description.family)
        kind = variants(config.space, config.stages.prototyping)[0]
        ask = questions(description, config.probe, config.seed)
        state = Checkup(workload, config, machine, description, kind, ask, runtime, watch, started)
        return _run_checks(state)
    finally:
        machine.close()


def _run_checks(state: Checkup) -> CheckReport:
    ask = state.ask
    first = state.profiled("one step", ask.seen[0], ask.fitted[0], FIRST_STEPS)
    if not first.outcome.ok:
        return _report(state, failure=f"{first.outcome.status}: {first.outcome.detail}")
    again = state.profiled("the same again", ask.seen[0], ask.fitted[0], FIRST_STEPS)
    state.findings += about_determinism(first.outcome, again.outcome)
    state.findings += [Finding(level="note", about="side effects", text=text) for text in first.outcome.remarks]
    state.findings += about_layers(first.outcome)
    try:
        over_loads = _other_batches(state)
        seen = _calibration(state)
        counted = _counted(state, seen)
        state.findings += about_parameters(seen, {knobs: counted[knobs] for knobs in _models(seen)})
        law = fit_memory(
            state.description.features,
            seen,
            margin_floor=state.config.memory.live_margin,
            parameters={shape_of(knobs): count for knobs, count in counted.items()},
        )
        over_knobs = _other_models(state, law)
        timed = _times(state, law)
    except ProbeFailed as failed:
        return _report(state, failure=str(failed))
    state.findings += [about_loads(over_loads, len(state.samples)), about_knobs(over_knobs), about_time(timed)]
    return _report(state, loads=over_loads, knobs=over_knobs, time=timed)


class ProbeFailed(Exception):  # noqa: N818 - the name of an event
    """A probe after the first two did not run to its end."""


def _good(state: Checkup, probe: Probe) -> Probe:
    outcome = probe.outcome
    if not outcome.ok:
        load = "no load" if outcome.load is None else outcome.load.in_words(state.description.family.noun)
        raise ProbeFailed(f"{probe.spec.knobs} on {load}: {outcome.status}: {outcome.detail}")
    return probe


def _other_batches(state: Checkup) -> Fit | None:
    """One model on every batch: do the declared sizes explain its live bytes?"""
    ask = state.ask
    probes = [_good(state, state.profiled("batches", ask.shape, batch)) for batch in (*ask.fitted, *ask.others)]
    state.findings += about_sums(probes, state.samples, state.description.family.noun)
    state.findings += about_padding(state.samples)
    members = [members_of(probe.spec.batches[0], state.samples) for probe in probes]
    features = state.description.features
    loads = np.array([[size for _, size in probe.spec.batches[0].load(state.samples).sizes] for probe in probes])
    values = [dict(probe.outcome.segments) for probe in probes]
    return assess_sizes(features, loads, values, possible_sizes(features, members))


def _calibration(state: Checkup) -> list[Probe]:
    """The micro-probes that calibration would make."""
    ask = state.ask
    design = [(shape, batch) for shape in ask.seen for batch in ask.fitted]
    design += [(shape, ask.fitted[0]) for shape in ask.seen_once]
    return [_good(state, state.profiled("models", shape, batch)) for shape, batch in design]


def _models(probes: Sequence[Probe]) -> list[Knobs]:
    """The models of `probes`, each once."""
    return list(dict.fromkeys(probe.spec.knobs for probe in probes))


def _counted(state: Checkup, seen: Sequence[Probe]) -> dict[Knobs, int]:
    """The parameters of the models in `seen`, and of those that are to be predicted."""
    unseen = [Knobs(layers=layers, channels=channels, variant=state.kind) for layers, channels in state.ask.unseen]
    return dict(state.runner.describe([*_models(seen), *unseen]).parameters)


def _other_models(state: Checkup, law: MemoryModel) -> Fit | None:
    """Models that calibration does not probe: does memory follow layers and channels?"""
    errors: list[float] = []
    for shape in state.ask.unseen:
        for batch in dict.fromkeys((state.ask.fitted[-1], *state.ask.others[:1])):
            if errors and state.late:
                break
            probe = _good(state, state.profiled("models unseen", shape, batch))
            outcome = probe.outcome
            if outcome.load is not None and outcome.live_bytes:
                errors.append(abs(law.law(probe.spec.knobs).live(outcome.load) / outcome.live_bytes - 1))
    return _fit(errors)


def _times(state: Checkup, law: MemoryModel) -> Fit | None:
    """Models that calibration does not time: can their step times be predicted?"""
    ask = state.ask
    batches = _batches_to_time(state, law)
    seen: list[Probe] = []
    for shape in (*ask.seen, *ask.seen_once):
        for batch in batches:
            if state.late and len(seen) >= len(ask.seen):
                break
            seen.append(_timing(state, shape, batch))
    model = fit_time(state.description.features, seen, overlapping=not state.description.hardware.on_host)
    errors: list[float] = []
    for shape in ask.unseen:
        if errors and state.late:
            break
        probe = _timing(state, shape, batches[-1])
        outcome = probe.outcome
        if outcome.load is not None and outcome.step is not None:
            sizes = np.array([[size for _, size in outcome.load.sizes]])
            predicted = float(model.step_s(probe.spec.knobs, outcome.parameters or 0, sizes)[0])
            errors.append(abs(predicted / outcome.step.median_s - 1))
    return _fit(errors)


def _batches_to_time(state: Checkup, law: MemoryModel) -> list[Batch]:
    """Copies of the smallest sample, and a mixture of samples if there are several, multiplied until a step takes `ENOUGH_S`."""
    ask, samples = state.ask, state.samples
    smallest = min(samples, key=lambda name: sum(size for _, size in samples[name].sizes))
    alone = Batch(members=((smallest, 1),))
    batches = [Batch(members=((smallest, TIMED_COPIES),)), *(ask.others[-1:] or [alone])]
    step = _timing(state, ask.seen[0], batches[0]).outcome.step
    n_times = min(MOST_TIMES, max(1, round(ENOUGH_S / step.median_s))) if step else 1
    largest = [Knobs(layers=shape[0], channels=shape[1], variant=state.kind) for shape in (*ask.seen_once, *ask.unseen)]

    most_bytes = max(law.law(knobs).live(batch.load(samples)) for knobs in largest for batch in batches)
    n_fitting = int(TIMED_MEMORY_SHARE * state.description.hardware.budget_bytes // most_bytes)
    return [
        Batch(members=tuple((name, copies * max(1, min(n_times, n_fitting))) for name, copies in batch.members))
        for batch in batches
    ]


def _timing(state: Checkup, shape: tuple[int, int], batch: Batch) -> Probe:
    knobs = Knobs(layers=shape[0], channels=shape[1], variant=state.kind)
    on_cpu = state.description.hardware.on_host
    spec = timing_probe(state.config.probe, knobs, batch, state.runtime, on_cpu=on_cpu)
    return _good(state, Probe(spec, state.probe("times", spec)))


def _fit(errors: Sequence[float]) -> Fit | None:
    if not errors:
        return None
    return Fit(median=float(np.median(errors)), worst=float(max(errors)), n=len(errors))


def _report(
    state: Checkup, *, failure: str = "", loads: Fit | None = None, knobs: Fit | None = None, time: Fit | None = None
) -> CheckReport:
    if failure:
        text = "a step did not run to its end; see below"
        state.findings.append(Finding(level="bad", about="step", text=text))
    return CheckReport(
        workload=state.name,
        features=state.description.features,
        n_samples=len(state.samples),
        n_probes=state.n_probes,
        seconds=monotonic() - state.started,
        findings=tuple(state.findings),
        loads=loads,
        knobs=knobs,
        time=time,
        failure=failure,
    )
