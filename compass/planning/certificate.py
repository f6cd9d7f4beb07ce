"""A certificate: its batches, how long it is expected to take, and what it says of a choice."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from compass.planning.experiment import Experiment
from compass.planning.forecast import stage_part
from compass.planning.prober import Prober
from compass.probe.requests import certificate_probe
from compass.probe.settle import LEAST_REST
from compass.records import Choice, Outcome, ProbeSpec, RuntimeSettings, Stage, Status, StepTime
from compass.search.knowledge import Knowledge
from compass.stages import POLICIES
from compass.stages.policy import Policy

REPETITIONS = 1.3
"""A certificate in three is repeated, or followed by another choice's."""
WITH_BUDGETED = 1.7
"""With a dataset, batches that fill the budget are certified too, in a process of their own and without evaluation."""
UNSETTLED_SHARE, MOST_UNSETTLED, SLOW_STEPS = 0.6, 8.0, 2.0
"""Steps until the time settles, as a share of those that patience allows and at most so many, and what the profiled step and the
first one take beyond others. Three certificates of 7 to 16 steps took 12.6, 15.9 and 18.2 times their median."""


@dataclass(frozen=True)
class Certified:
    """A choice that ran under the ceiling, and how."""

    choice: Choice
    known: Knowledge
    """Everything known when it was chosen, which holds the reason why it is no larger."""
    spec: ProbeSpec
    outcome: Outcome
    timed: Outcome
    """The outcome whose step time is believed: this certificate's, or that of a training cycle under the same settings."""

    @property
    def step(self) -> StepTime:
        """The believed step time."""
        assert self.timed.step is not None  # noqa: S101 - without one it is not certified
        return self.timed.step


@dataclass(frozen=True)
class Failed:
    """A choice whose certificate failed."""

    choice: Choice
    outcome: Outcome

    @property
    def rules_out(self) -> bool:
        """Whether it removes models from the choice; running out of memory only makes the batch smaller."""
        return self.outcome.status is not Status.OUT_OF_MEMORY

    @property
    def reason(self) -> str:
        """Status and reason in a line."""
        return self.outcome.summary


def measured_choice(policy: Policy, known: Knowledge, certified: Certified) -> Choice:
    """The certified choice with its measured time."""
    choice, step_s = certified.choice, certified.step.median_s
    rules = known.config.stages[policy.stage]
    return choice.model_copy(
        update={
            "step_s": step_s,
            "cycle_s": step_s * known.config.cycle_batches,
            "throughput": choice.batch_size / step_s,
            "score": known.score(choice.capacity, choice.batch_size, np.array([step_s]), rules)[0],
        }
    )


# --------------------------------------------------------------------------------------------------------- its batches


def certificate_spec(policy: Policy, experiment: Experiment, pick: Choice) -> ProbeSpec:
    """The certificate: the worst batch, the largest isolated sample, shuffled batches, the worst again, then a typical one.

    Where members are padded, a batch of equal lengths is among them.
    """
    rules, runtime = experiment.config.probe, experiment.runtime(pick.allocator)
    if not policy.certified:
        return _few_steps(experiment, pick, runtime)
    loads, law = experiment.sample_loads, experiment.costs().bytes_law(pick.knobs, pick.allocator)
    worst, typical = loads.worst(pick.batch_size, law), loads.typical(pick.batch_size)
    alone, _ = loads.alone(law, experiment.budget_bytes)
    others = [one for one in (loads.of_one_length(pick.batch_size), alone) if one is not None]
    n_shuffled = max(1, min(rules.shuffled_batches, int(rules.shuffled_s / pick.step_s)))
    shuffled = loads.shuffled(pick.batch_size, n_shuffled)
    return certificate_probe(
        rules,
        pick.knobs,
        (worst, *others, *shuffled, worst),
        step_s=pick.step_s,
        ceiling_bytes=experiment.budget_bytes,
        runtime=runtime,
        evaluated=(worst,) if experiment.description.family.evaluates else (),
        timed=None if typical == worst else typical,
        ranks=experiment.n_devices,
    )


def _few_steps(experiment: Experiment, pick: Choice, runtime: RuntimeSettings) -> ProbeSpec:
    """A few steps with one graph, which show that it runs; their time is not the question."""
    rules = experiment.config.probe
    spec = certificate_probe(
        rules,
        pick.knobs,
        (experiment.sample_loads.typical(experiment.least_batch),) * rules.smoke_steps,
        step_s=pick.step_s,
        ceiling_bytes=experiment.budget_bytes,
        runtime=runtime,
        ranks=experiment.n_devices,
    )
    n_steps = spec.min_steps + (experiment.n_warming + LEAST_REST if experiment.n_warming else 0)
    return spec.model_copy(update={"min_steps": n_steps, "max_steps": n_steps})


# ----------------------------------------------------------------------------------------------------- how long it takes


def certificate_s(spec: ProbeSpec, step_s: float, start_s: float, *, budgeted: bool = False) -> float:
    """Seconds that a certificate is expected to take, with `start_s` for its process, evaluation and repetitions."""
    unsettled = min(UNSETTLED_SHARE * (spec.max_steps - spec.min_steps), MOST_UNSETTLED)
    seconds = REPETITIONS * (start_s + step_s * (spec.min_steps + unsettled + len(spec.evaluated) + SLOW_STEPS))
    return seconds * WITH_BUDGETED if budgeted else seconds


def expect_certificates(experiment: Experiment, prober: Prober, stages: Iterable[Stage]) -> None:
    """Expect the certificates of `stages` to take what is predicted now."""
    known = experiment.known()
    for policy in (POLICIES[stage] for stage in stages):
        ranking = policy.rank(known)
        if ranking is not None:
            spec = certificate_spec(policy, experiment, ranking.pick)
            expect_certificate(policy, experiment, prober, spec, ranking.pick.step_s)


def expect_certificate(policy: Policy, experiment: Experiment, prober: Prober, spec: ProbeSpec, step_s: float) -> None:
    """Expect the stage's certificate to take what is predicted of `spec`; nothing if the ledger holds it."""
    seconds = 0.0
    if not prober.knows(spec):
        budgeted = policy.certified and experiment.dataset is not None  # then batches that fill the budget run too
        seconds = certificate_s(spec, step_s, prober.forecast.start_s, budgeted=budgeted)
    prober.forecast.expect(stage_part("certify", policy.stage), seconds)
