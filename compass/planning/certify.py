"""From a stage's pick on paper to a plan that has run: certify the pick, learn from its measurements, and pick again."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from compass.cost.ranks import RankedCosts
from compass.planning.alternatives import candidates, what_ifs
from compass.planning.budgeted import with_budget
from compass.planning.experiment import Experiment
from compass.planning.forecast import stage_part
from compass.planning.prober import BEYOND_DOUBT, Probed, Prober
from compass.planning.ranks import with_ranks
from compass.planning.strategies import time_rivals
from compass.planning.unequal import with_shares
from compass.probe.requests import certificate_probe
from compass.probe.settle import LEAST_REST, is_settled
from compass.records import (
    Affine,
    BytesLaw,
    Certificate,
    Choice,
    Knobs,
    Measured,
    Outcome,
    ProbeSpec,
    RuntimeSettings,
    ScoreTerms,
    Stage,
    StageFailure,
    StagePlan,
    Status,
    StepTime,
)
from compass.search.knowledge import Knowledge
from compass.search.score import terms
from compass.stages import POLICIES
from compass.stages.options import options_words
from compass.stages.policy import Policy, Ranking, largest_batch_pick, pareto_front, smaller_pick
from compass.units import format_seconds

log = logging.getLogger(__name__)

WORTH_TIMING = 0.01
"""Share of production's throughput that a timing must be expected to gain."""
CAPPED_SHARE = 0.01
"""A certificate may raise the bound of the very batch that it ran. Up to this share above the budget, the law is capped by what was
certified: it costs a sixth of the slack at most. Beyond, a smaller batch is certified."""
POOR_TIME = 0.15
"""Step times are said to be doubtful where a timing misses the form by more: the usual error of a model never timed is 3 to 4 %."""
WRONG_LAW = 0.2
"""A plan is not recommended if a law that it was chosen by is off by more: another model, or another batch, may be better by as much."""
SPILLING_FILL, SPILLING_SLOWS = 0.7, 1.5
"""A certificate seems to have spilled if it filled more than this share of the budget, in so many times the predicted step: a bus moves
bytes at a hundredth of a device's pace."""
MOST_FAILED = 2
"""Failures of a stage before it gives up, in rounds: each costs a process, and models that all fail would take a day."""
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


def certify_stage(policy: Policy, experiment: Experiment, prober: Prober) -> StagePlan | StageFailure:
    """The stage's plan, certified; or the reason why there is none."""
    certified, failed = run_certificates(policy, experiment, prober)
    known = experiment.known()
    in_time = [one for one in certified if not math.isinf(measured_choice(policy, known, one).score or 0.0)]
    if in_time:
        lawful = [one for one in in_time if is_lawful(known, one.choice)]
        plan = make_plan(policy, experiment, best_of(policy, known, lawful or in_time))
        plan = with_budget(with_ranks(plan, experiment), policy, experiment, prober)
        return with_shares(plan, policy, experiment, prober)
    if certified:
        return _too_slow(policy, known, min(certified, key=lambda one: one.step.median_s))
    if failed:
        limit = "memory" if failed[-1].outcome.status is Status.OUT_OF_MEMORY else "model"
        return _failure(policy, known, limit, failed[-1].reason, failed[-1].choice)
    return _failure(policy, known, *policy.nearest(known))


# -------------------------------------------------------------------------------------------------------- the rounds


def run_certificates(policy: Policy, experiment: Experiment, prober: Prober) -> tuple[list[Certified], list[Failed]]:
    """Certify the stage's pick, and again if the measurements make another pick better.

    A failure that rules models out is no round, because without it the stage would end with a model that it did not want; but in a
    smoke test, whose models are all as good.
    """
    certified: list[Certified] = []
    failed: list[Failed] = []
    n_rounds = experiment.config.probe.certify_rounds
    most_failed = MOST_FAILED * n_rounds if policy.certified else 0

    def has_rounds() -> bool:
        taught = sum(one.rules_out for one in failed) if len(failed) < most_failed else 0
        return len(certified) + len(failed) - taught < n_rounds

    while has_rounds():
        n_round = len(certified) + len(failed)
        known = experiment.known()
        pick = next_pick(policy, known, certified)
        if pick is None:
            break
        text = f"{pick.knobs}, batch {pick.batch_size}"
        spec = certificate_spec(policy, experiment, pick)
        _expect(policy, experiment, prober, spec, pick.step_s)
        prober.report("certify", text, n_round, n_round + 1, stage=policy.stage)
        probed = _run(policy, experiment, prober, spec)
        if probed.outcome.ok and probed.outcome.step is not None:
            timed = _believed(experiment, pick, probed)
            certified.append(Certified(pick, known, probed.spec, probed.outcome, timed))
            if seems_spilled(experiment, probed):
                log.warning("%s: %s is so slow that memory seems to have moved to the host", policy.stage, text)
                experiment.spilled.add(probed.spec.key)
            if policy.certified and not policy.timed and len(certified) == 1:
                # What the first certificate showed of all choices is known now; the rest is what they may differ by.
                time_rivals(policy, experiment, prober, gain_share=WORTH_TIMING)
        else:
            failed.append(Failed(pick, probed.outcome))
            _learn(policy, experiment, failed[-1])
    return certified, failed


def seems_spilled(experiment: Experiment, probed: Probed) -> bool:
    """Whether a certificate was slowed down as by memory that the driver moves to the host instead of failing.

    It looks like success, so it stays a certificate; but the memory that it needed counts as not there, and a smaller batch is tried.
    """
    expected, step, held = probed.expected, probed.outcome.step, probed.outcome.footprint_bytes
    if (
        experiment.on_cpu
        or not probed.is_slow
        or expected is None
        or not expected.step_s
        or step is None
        or held is None
    ):
        return False
    return held > SPILLING_FILL * experiment.budget_bytes and step.median_s > SPILLING_SLOWS * expected.step_s


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
            _expect(policy, experiment, prober, spec, ranking.pick.step_s)


def _expect(policy: Policy, experiment: Experiment, prober: Prober, spec: ProbeSpec, step_s: float) -> None:
    """Expect the stage's certificate to take what is predicted of `spec`; nothing if the ledger holds it."""
    seconds = 0.0
    if not prober.knows(spec):
        budgeted = policy.certified and experiment.dataset is not None  # then batches that fill the budget run too
        seconds = certificate_s(spec, step_s, prober.forecast.start_s, budgeted=budgeted)
    prober.forecast.expect(stage_part("certify", policy.stage), seconds)


def _run(policy: Policy, experiment: Experiment, prober: Prober, spec: ProbeSpec) -> Probed:
    expected = experiment.expected(spec)
    if policy.certified:
        return prober.certify(spec, stage=policy.stage, expected=expected)
    # A few steps only hint at their time, which is not worth a repetition.
    return prober.probe("certify", spec, stage=policy.stage, expected=expected)


def _believed(experiment: Experiment, pick: Choice, probed: Probed) -> Outcome:
    """The outcome with the step time to believe: hundreds of steps of training say more than a dozen before them."""
    if not probed.reused:
        return probed.outcome
    return experiment.trained(pick.knobs, pick.batch_size, probed.spec.runtime) or probed.outcome


def _learn(policy: Policy, experiment: Experiment, failed: Failed) -> None:
    """Keep a pick that did not run from being tried again."""
    pick, outcome = failed.choice, failed.outcome
    log.warning("%s: certificate of %s, batch %d failed: %s", policy.stage, pick.knobs, pick.batch_size, failed.reason)
    if outcome.status is not Status.OUT_OF_MEMORY:
        if pick.allocator == experiment.calibrated_allocator:
            experiment.pruned.set_aside(pick.knobs, failed.reason)
        else:
            experiment.pruned.distrust(pick.allocator, failed.reason)
    elif pick.batch_size <= experiment.least_batch and outcome.enforced:
        experiment.pruned.rule_out(pick.knobs, pick.allocator, failed.reason)
    elif (
        pick.batch_size <= experiment.least_batch
    ):  # another program may have held the memory, so this says nothing of other models
        experiment.pruned.set_aside(pick.knobs, failed.reason)
    # Otherwise the bound did not hold: the footprint model learns from it, and the next round's batch is smaller.


# ------------------------------------------------------------------------------------------------------- the next pick


def next_pick(policy: Policy, known: Knowledge, certified: Sequence[Certified]) -> Choice | None:
    """The stage's pick; None if there is none, or if a certified choice is as good.

    A certificate may show that a model needs more memory than predicted: then its batch exceeds what the law now allows, and a
    smaller one is certified in its place.
    """
    ranking = policy.rank(known)
    if ranking is None:
        return None
    pick, lawful = ranking.pick, [one for one in certified if is_lawful(known, one.choice)]
    if any(_is_same(one.choice, pick) for one in certified):
        return None
    if not lawful:
        return pick
    is_better = _scores_better if policy.timed else _is_larger_or_faster
    return pick if is_better(policy, known, pick, lawful) else None


def is_lawful(known: Knowledge, choice: Choice) -> bool:
    """Whether the present bound of the choice's worst batch is within the budget, or so little above that it may be capped."""
    law = known.costs.bytes_law(choice.knobs, choice.allocator)
    bound_bytes = law.upper_footprint(known.work.worst_load(choice.batch_size, law))
    return bound_bytes <= (1 + CAPPED_SHARE) * known.budget_bytes


def _is_same(one: Choice, other: Choice) -> bool:
    return (one.knobs, one.batch_size, one.allocator) == (other.knobs, other.batch_size, other.allocator)


def _scores_better(policy: Policy, known: Knowledge, pick: Choice, certified: Sequence[Certified]) -> bool:
    best = min(_score(measured_choice(policy, known, one)) for one in certified)
    return _score(pick) < best * (1 - known.config.score.tie_share)


def _is_larger_or_faster(policy: Policy, known: Knowledge, pick: Choice, certified: Sequence[Certified]) -> bool:
    """Whether the pick has more parameters than the best certified model, or trains one of its size faster.

    A smaller pick is not better: the measurements may make the certified model doubtful on paper, but it did run.
    """
    best = best_of(policy, known, certified)
    rules, share = known.config.probe, known.config.space.reference_share
    if pick.capacity * (1 - share) > best.choice.capacity:
        return True
    if pick.capacity < best.choice.capacity * (1 - share):
        return False
    is_refill = (pick.knobs, pick.allocator) == (best.choice.knobs, best.choice.allocator)
    if is_refill and best.choice.batch_size < rules.refill_share * pick.batch_size:
        return True
    return pick.throughput > (1 + rules.worthwhile_gain) * measured_choice(policy, known, best).throughput


def best_of(policy: Policy, known: Knowledge, certified: Sequence[Certified]) -> Certified:
    """The certified choice to recommend: by score in a timed stage, else the fastest of the largest.

    Of measurements that a certificate cannot tell apart, the one with the largest batch.
    """
    if policy.timed:
        return min(certified, key=lambda one: _score(measured_choice(policy, known, one)))
    least = (1 - known.config.space.reference_share) * max(one.choice.capacity for one in certified)
    large = [one for one in certified if one.choice.capacity >= least]
    throughput = {id(one): measured_choice(policy, known, one).throughput for one in large}
    fastest = max(throughput.values())
    level = [one for one in large if throughput[id(one)] >= (1 - known.config.probe.settle_share) * fastest]
    return max(level, key=lambda one: (one.choice.batch_size, one.choice.capacity))


def _score(choice: Choice) -> float:
    return math.inf if choice.score is None else choice.score


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


# ------------------------------------------------------------------------------------------------------------ the plan


def make_plan(policy: Policy, experiment: Experiment, certified: Certified) -> StagePlan:
    """The plan of a certified choice, with the alternatives as they are known now."""
    known = experiment.known()
    pick = measured_choice(policy, known, certified)
    ranking = policy.rank(known) or Ranking((pick,), None)
    others = [choice for choice in ranking.choices if choice.knobs != pick.knobs]
    rules = known.config.stages[policy.stage]
    worst = known.work.worst_load(pick.batch_size, known.costs.bytes_law(pick.knobs, pick.allocator))
    unsettled = policy.certified and not is_settled(certified.step, known.config.probe.settle_share)
    # What ran under the ceiling is the law, also where no round is left for a smaller batch.
    law = known.costs.bytes_law(pick.knobs, pick.allocator).capped(worst, known.budget_bytes)
    return StagePlan(
        stage=policy.stage,
        choice=certified.choice.configuration,
        predicted=certified.choice.prediction,
        measured=_measured(policy, known, certified),
        least_batch=experiment.least_batch,
        accumulate=max(1, math.ceil(known.config.batch.effective_batch / pick.batch_size)),
        runtime=certified.spec.runtime,
        bytes_law=law,
        step_law=_step_law(known, certified),
        indicative=not policy.certified
        or unsettled
        or _mostly_launching(experiment, pick.knobs, certified.step.median_s),
        unsettled=unsettled,
        doubts=doubts(policy, experiment, certified),
        discouraged=discouraged(policy, experiment, certified),
        limited_by=policy.limited_by(certified.known, pick),
        why=policy.why(certified.known, Ranking((pick, *others), ranking.fastest))
        + options_words(certified.known, certified.choice, others),
        certificate=_certificate(experiment, certified, law),
        fastest=ranking.fastest,
        largest_batch=largest_batch_pick(known, rules, pick) if policy.explained else None,
        smaller=None if policy.timed else smaller_pick(pick, others, known.config.score.tie_share),
        runners_up=tuple(others[: known.config.search.runners_up]),
        front=tuple(certified.choice if choice is pick else choice for choice in pareto_front([pick, *others])),
        candidates=candidates(policy, known, ranking, certified.choice),
        what_ifs=what_ifs(policy, known),
    )


def doubts(policy: Policy, experiment: Experiment, certified: Certified) -> tuple[str, ...]:
    """What the laws of the choice's variant are known to miss, in sentences without a full stop.

    Nothing of a stage that only shows that a model runs: it rests on no law.
    """
    if not policy.certified:
        return ()
    costs, variant, rules = experiment.costs(), certified.choice.knobs.variant, experiment.config.probe
    off = costs.memory.misfits.get(variant.of_memory, 0.0)
    late, before_s = costs.time.misfits.get(variant, 0.0), certified.choice.step_s
    found = []
    if off > rules.poor_fit and certified.choice.knobs.is_fixed:
        sizes = " and ".join(experiment.sample_loads.features)
        found.append(
            f"memory does not follow {sizes} alone, which missed a probe by {off:.0%}: other sizes that the model makes itself, such as edges "
            "within a distance or items padded to the longest, count if a workload declares them as features"
        )
    elif off > rules.poor_fit:
        found.append(
            f"memory laws of this kind of model missed a probe by {off:.0%}, so other models and batches of it may be missed too"
        )
    if late > POOR_TIME:
        found.append(f"step times of this kind of model follow the usual form only within {late:.0%}")
    spread = certified.known.spread_of(certified.choice)
    if abs(math.log(certified.step.median_s / before_s)) > BEYOND_DOUBT * spread:
        found.append(
            f"the step took {certified.step.median_s / before_s:.2f} times as long as predicted, more than the prediction allowed: "
            "other predictions may be as wrong"
        )
    return tuple(found)


def discouraged(policy: Policy, experiment: Experiment, certified: Certified) -> str:
    """Why the plan of a choice is not recommended though it ran, as the end of a sentence; empty if it is.

    A memory law that is off by tens of per cent counts where the model was not probed itself, for then its law holds what that showed.
    A time law counts where the certificate missed its own prediction by as much.
    """
    if not policy.certified:
        return ""
    costs, knobs = experiment.costs(), certified.choice.knobs
    off = 0.0 if costs.memory.observed(knobs) else costs.memory.misfits.get(knobs.variant.of_memory, 0.0)
    late = certified.step.median_s / certified.choice.step_s - 1
    if off > WRONG_LAW:
        return f"the memory law that it was chosen by is off by up to {off:.0%}, so it may be much larger or smaller than it could be"
    if abs(late) > WRONG_LAW and costs.time.misfits.get(knobs.variant, 0.0) > WRONG_LAW:
        return f"the time law that it was chosen by is off by {abs(late):.0%} here, so another model may be better"
    return ""


def _measured(policy: Policy, known: Knowledge, certified: Certified) -> Measured:
    pick, outcome = measured_choice(policy, known, certified), certified.outcome
    return Measured(
        step=certified.step,
        cycle_s=pick.cycle_s,
        throughput=pick.throughput,
        live_bytes=outcome.live_bytes or 0,
        footprint_bytes=outcome.footprint_bytes or 0,
        update_s=_update_s(certified, known) if certified.timed is outcome else None,
        collate_s=outcome.collate_s if known.work.stands_for == 1 else None,
        terms=_score_terms(policy, known, pick),
    )


def _update_s(certified: Certified, known: Knowledge) -> float | None:
    """Seconds of every timed step that training spends once per update: on the weights and, in ranks, on averaging gradients."""
    update_s, costs = certified.outcome.update_s, known.costs
    if update_s is None or not isinstance(costs, RankedCosts):
        return update_s
    return update_s + costs.ranks.sync_of(certified.choice.capacity, costs.ranks.n_ranks)


def _certificate(experiment: Experiment, certified: Certified, law: BytesLaw) -> Certificate:
    spec, outcome, loads = certified.spec, certified.outcome, experiment.sample_loads
    return Certificate(
        ceiling_bytes=experiment.budget_bytes,
        batches=spec.batches,
        evaluated=spec.evaluated,
        timed=spec.timed,
        worst=loads.worst_load(certified.choice.batch_size, law),
        footprint_bound_bytes=int(max(law.upper_footprint(loads.load(batch)) for batch in spec.batches)),
        left_out=loads.alone(law, experiment.budget_bytes)[1],
        n_steps=outcome.n_steps,
        enforced=outcome.enforced,
    )


def _step_law(known: Knowledge, certified: Certified) -> Affine:
    load = certified.timed.step_load or certified.choice.load
    return known.step_law(certified.choice, certified.step.median_s, load)


def _mostly_launching(experiment: Experiment, knobs: Knobs, step_s: float) -> bool:
    """Whether most of a step on an accelerator is launch overhead, which differs by half between two processes."""
    return not experiment.on_cpu and experiment.costs().launch_s(knobs) > step_s / 2


def _score_terms(policy: Policy, known: Knowledge, pick: Choice) -> ScoreTerms | None:
    if not policy.timed or known.reference is None:
        return None
    rules = known.config.stages[policy.stage]
    return terms(pick.throughput, pick.cycle_s, pick.capacity, known.reference, rules, known.config.score)


# --------------------------------------------------------------------------------------------------------- the failure


def _too_slow(policy: Policy, known: Knowledge, nearest: Certified) -> StageFailure:
    rules, cycle_s = known.config.stages[policy.stage], measured_choice(policy, known, nearest).cycle_s
    allowed_s = (rules.target_s or math.inf) + rules.window_s
    reason = (
        f"the best model was predicted to be in time, but its cycle took {format_seconds(cycle_s)}; "
        f"at most {format_seconds(allowed_s)} are allowed"
    )
    failure = _failure(policy, known, "time", reason, nearest.choice)
    return failure.model_copy(update={"nearest_cycle_s": cycle_s})


def _failure(policy: Policy, known: Knowledge, limit: str, reason: str, nearest: Choice | None) -> StageFailure:
    if nearest is not None:  # its score may be infinite, which JSON cannot express
        nearest = nearest.model_copy(update={"score": None})
    return StageFailure(
        stage=policy.stage,
        limited_by=limit,
        reason=reason,
        nearest=nearest,
        candidates=candidates(policy, known, policy.rank(known), None),
        what_ifs=what_ifs(policy, known),
    )
