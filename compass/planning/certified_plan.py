"""The plan of a certified choice, and the reason where a stage has none."""

from __future__ import annotations

import math

from compass.cost.ranks import RankedCosts
from compass.planning.alternatives import candidates, what_ifs
from compass.planning.certificate import Certified, measured_choice
from compass.planning.experiment import Experiment
from compass.planning.prober import BEYOND_DOUBT
from compass.probe.settle import is_settled
from compass.records import (
    Affine,
    BytesLaw,
    Certificate,
    Choice,
    Knobs,
    Measured,
    ScoreTerms,
    StageFailure,
    StagePlan,
)
from compass.search.knowledge import Knowledge
from compass.search.score import terms
from compass.stages.options import options_words
from compass.stages.policy import Policy, Ranking, largest_batch_pick, pareto_front, smaller_pick
from compass.units import format_seconds

POOR_TIME = 0.15
"""Step times are said to be doubtful where a timing misses the form by more: the usual error of a model never timed is 3 to 4 %."""
WRONG_LAW = 0.2
"""A plan is not recommended if a law that it was chosen by is off by more: another model, or another batch, may be better by as much."""


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


def too_slow(policy: Policy, known: Knowledge, nearest: Certified) -> StageFailure:
    """The failure of a stage whose models all ran, but not in time; `nearest` was the fastest."""
    rules, cycle_s = known.config.stages[policy.stage], measured_choice(policy, known, nearest).cycle_s
    allowed_s = (rules.target_s or math.inf) + rules.window_s
    reason = (
        f"the best model was predicted to be in time, but its cycle took {format_seconds(cycle_s)}; "
        f"at most {format_seconds(allowed_s)} are allowed"
    )
    return no_plan(policy, known, "time", reason, nearest.choice).model_copy(update={"nearest_cycle_s": cycle_s})


def no_plan(policy: Policy, known: Knowledge, limit: str, reason: str, nearest: Choice | None) -> StageFailure:
    """The failure of a stage for a `reason`, with what limits it and the choice that came nearest."""
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
