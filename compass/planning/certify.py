"""From a stage's pick on paper to a plan that has run: certify the pick, learn from its measurements, and pick again."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence

from compass.planning.budgeted import with_budget
from compass.planning.certificate import Certified, Failed, certificate_spec, expect_certificate, measured_choice
from compass.planning.certified_plan import make_plan, no_plan, too_slow
from compass.planning.experiment import Experiment
from compass.planning.prober import Probed, Prober
from compass.planning.ranks import with_ranks
from compass.planning.strategies import time_rivals
from compass.planning.unequal import with_shares
from compass.records import Choice, Outcome, ProbeSpec, StageFailure, StagePlan, Status
from compass.search.knowledge import Knowledge
from compass.stages.policy import Policy

log = logging.getLogger(__name__)

WORTH_TIMING = 0.01
"""Share of production's throughput that a timing must be expected to gain."""
CAPPED_SHARE = 0.01
"""A certificate may raise the bound of the very batch that it ran. Up to this share above the budget, the law is capped by what was
certified: it costs a sixth of the slack at most. Beyond, a smaller batch is certified."""
SPILLING_FILL, SPILLING_SLOWS = 0.7, 1.5
"""A certificate seems to have spilled if it filled more than this share of the budget, in so many times the predicted step: a bus moves
bytes at a hundredth of a device's pace."""
MOST_FAILED = 2
"""Failures of a stage before it gives up, in rounds: each costs a process, and models that all fail would take a day."""


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
        return too_slow(policy, known, min(certified, key=lambda one: one.step.median_s))
    if failed:
        limit = "memory" if failed[-1].outcome.status is Status.OUT_OF_MEMORY else "model"
        return no_plan(policy, known, limit, failed[-1].reason, failed[-1].choice)
    return no_plan(policy, known, *policy.nearest(known))


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
        expect_certificate(policy, experiment, prober, spec, pick.step_s)
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
