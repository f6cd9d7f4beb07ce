"""From a stage's pick on paper to a plan that has run: certify the pick, correct what it showed."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from compass.planning.alternatives import candidates, what_ifs
from compass.planning.budgeted import with_budget
from compass.planning.experiment import Experiment
from compass.probe.requests import certificate_probe
from compass.records import (
    Batch,
    Certificate,
    Choice,
    Knobs,
    Measured,
    Outcome,
    ProbeSpec,
    ScoreTerms,
    StageFailure,
    StagePlan,
    Status,
    StepTime,
)
from compass.search.knowledge import Knowledge
from compass.search.score import terms
from compass.stages.policy import Policy, Ranking, pareto_front
from compass.units import format_seconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Certified:
    """A choice that ran under the ceiling, and how."""

    choice: Choice
    known: Knowledge
    """What was known when it was chosen: what stopped it from being larger stands there."""
    spec: ProbeSpec
    outcome: Outcome
    timed: Outcome
    """What its step is believed of: itself, or a cycle of training under the same settings."""

    @property
    def step(self) -> StepTime:
        """Seconds a step."""
        assert self.timed.step is not None  # noqa: S101 - else it would not be believed
        return self.timed.step


def certify_stage(policy: Policy, lab: Experiment) -> StagePlan | StageFailure:
    """The stage's plan, certified; or why there is none."""
    lab.stage = policy.stage
    certified_by_choice: dict[tuple[Knobs, int], Certified] = {}
    last: tuple[Choice, Outcome] | None = None
    for n_round in range(lab.config.probe.certify_rounds):
        known = lab.known()
        ranking = policy.rank(known)
        if ranking is None:
            break
        pick = _worth_certifying(lab, policy, ranking, certified_by_choice)
        if pick is None:
            break
        lab.tell(
            "certify", f"{policy.stage}: {pick.knobs}, batch {pick.batch_size}", n_round, n_round + 1, pick.step_s * 8
        )
        spec = _certificate_spec(policy, lab, pick)
        # A smoke test's few steps are only a hint, and not worth making again.
        outcome = lab.probe("certify", spec) if policy.stage == "smoke_test" else lab.certify(spec)
        last = (pick, outcome)
        if outcome.ok and outcome.step is not None:
            # Hundreds of steps of training under the same settings say more than a dozen before them.
            trained = lab.trained(pick.knobs, pick.batch_size, spec.runtime) if lab.notes[-1].reused else None
            timed = trained or outcome
            certified_by_choice[pick.knobs, pick.batch_size] = Certified(pick, known, spec, outcome, timed)
        else:
            _learn(lab, policy, pick, outcome)
    measured = {key: _measured(lab.known(), policy, certified) for key, certified in certified_by_choice.items()}
    admissible = {
        key: certified for key, certified in certified_by_choice.items() if not math.isinf(measured[key].score or 0.0)
    }
    if admissible:
        return with_budget(_plan(policy, lab, admissible), policy, lab)
    if measured:
        nearest = min(measured, key=lambda key: measured[key].cycle_s)
        return _too_slow(policy, lab, certified_by_choice[nearest].choice, measured[nearest].cycle_s)
    return _failure(policy, lab, last)


def _learn(lab: Experiment, policy: Policy, pick: Choice, outcome: Outcome) -> None:
    """Keep a pick that did not run from being tried again."""
    log.warning("%s: %s, batch %d: %s: %s", policy.stage, pick.knobs, pick.batch_size, outcome.status, outcome.detail)
    reason = f"{outcome.status}: {outcome.detail}"
    if outcome.status is not Status.OUT_OF_MEMORY:
        lab.pruned.set_aside(pick.knobs, reason)
    elif pick.batch_size == 1 and outcome.enforced:
        lab.pruned.rule_out(pick.knobs, lab.config.stages[policy.stage].allocator, reason)
    elif pick.batch_size == 1:  # another program may have held what it lacked, which says nothing of other models
        lab.pruned.set_aside(pick.knobs, reason)
    # Else the bound did not hold: the footprint model learns from it, and the next round's batch is smaller.


def _worth_certifying(
    lab: Experiment, policy: Policy, ranking: Ranking, certified_by_choice: dict[tuple[Knobs, int], Certified]
) -> Choice | None:
    """The pick, unless what was proven is as good for the stage."""
    pick = ranking.pick
    if not certified_by_choice:
        return pick
    if (pick.knobs, pick.batch_size) in certified_by_choice:
        return None
    if not policy.scored:
        # The model is fixed by its size; only a batch that the certificate showed to be too timid is worth another.
        largest = _largest(certified_by_choice).choice
        if pick.capacity < largest.capacity:  # what it showed of its kin may make the proven one doubtful: it ran
            return None
        is_fuller = largest.batch_size < lab.config.probe.refill_share * pick.batch_size
        return pick if pick.capacity > largest.capacity or is_fuller else None
    known = lab.known()
    best = min(_score(_measured(known, policy, certified)) for certified in certified_by_choice.values())
    return pick if _score(pick) < best * (1 - lab.config.score.tie_share) else None


def _largest(certified_by_choice: Mapping[tuple[Knobs, int], Certified]) -> Certified:
    """The largest model that ran, with its largest batch."""
    return max(
        certified_by_choice.values(), key=lambda certified: (certified.choice.capacity, certified.choice.batch_size)
    )


def _score(choice: Choice) -> float:
    return math.inf if choice.score is None else choice.score


def _certificate_spec(policy: Policy, lab: Experiment, pick: Choice) -> ProbeSpec:
    rules = lab.config.probe
    runtime = lab.runtime(lab.config.stages[policy.stage].allocator)
    if policy.stage == "smoke_test":
        batches: tuple[Batch, ...] = (lab.work.typical(1),) * rules.smoke_steps
        spec = certificate_probe(
            rules, pick.knobs, batches, step_s=pick.step_s, ceiling_bytes=lab.budget_bytes, runtime=runtime
        )
        # It shows that it runs; how fast is not its question.
        return spec.model_copy(update={"max_steps": spec.min_steps})
    work, law = lab.work, lab.known().bytes_law(pick.knobs, lab.config.stages[policy.stage])
    worst, typical = work.worst(pick.batch_size, law), work.typical(pick.batch_size)
    alone, _ = work.alone(law, lab.budget_bytes)
    n_shuffled = max(1, min(rules.shuffled_batches, int(rules.shuffled_s / pick.step_s)))
    shuffled = work.shuffled(pick.batch_size, n_shuffled)
    return certificate_probe(
        rules,
        pick.knobs,
        (worst, *([alone] if alone else []), *shuffled, worst),
        step_s=pick.step_s,
        ceiling_bytes=lab.budget_bytes,
        runtime=runtime,
        evaluated=(worst,),
        timed=None if typical == worst else typical,
    )


def _measured(known: Knowledge, policy: Policy, certified: Certified) -> Choice:
    """The proven choice with its measured time."""
    choice, step_s = certified.choice, certified.step.median_s
    rules = known.config.stages[policy.stage]
    score = known.score(choice.capacity, choice.batch_size, np.array([step_s]), rules)[0]
    return choice.model_copy(
        update={
            "step_s": step_s,
            "cycle_s": step_s * known.config.cycle_batches,
            "throughput": choice.batch_size / step_s,
            "score": score,
        }
    )


def _plan(policy: Policy, lab: Experiment, certified_by_choice: dict[tuple[Knobs, int], Certified]) -> StagePlan:
    known = lab.known()
    rules = lab.config.stages[policy.stage]
    if not policy.scored:
        certified = _largest(certified_by_choice)
    else:
        certified = min(certified_by_choice.values(), key=lambda item: _score(_measured(known, policy, item)))
    pick = _measured(known, policy, certified)
    ranking = policy.rank(known) or Ranking((pick,), None)
    others = [choice for choice in ranking.choices if choice.knobs != pick.knobs]
    outcome, law = certified.outcome, known.bytes_law(pick.knobs, rules)
    return StagePlan(
        stage=policy.stage,
        choice=certified.choice.configuration,
        predicted=certified.choice.prediction,
        measured=_measured_figures(policy, known, certified),
        accumulate=max(1, math.ceil(lab.config.batch.effective_batch / pick.batch_size)),
        runtime=certified.spec.runtime,
        bytes_law=law,
        step_law=known.step_law(
            certified.choice, certified.step.median_s, certified.timed.step_load or certified.choice.load
        ),
        indicative=policy.stage == "smoke_test" or lab.is_launching(pick.knobs, certified.step.median_s),
        limited_by=policy.limited_by(certified.known, pick),
        why=policy.why(certified.known, Ranking((pick, *others), ranking.fastest)),
        certificate=Certificate(
            ceiling_bytes=lab.budget_bytes,
            batches=certified.spec.batches,
            evaluated=certified.spec.evaluated,
            timed=certified.spec.timed,
            worst=known.work.worst_load(pick.batch_size, law),
            footprint_bound_bytes=int(
                max(law.upper_footprint(known.work.load(batch)) for batch in certified.spec.batches)
            ),
            left_out=known.work.alone(law, lab.budget_bytes)[1],
            n_steps=outcome.n_steps,
            enforced=outcome.enforced,
        ),
        fastest=ranking.fastest,
        runners_up=tuple(others[: lab.config.search.runners_up]),
        front=tuple(certified.choice if choice is pick else choice for choice in pareto_front([pick, *others])),
        candidates=candidates(policy, known, ranking, certified.choice),
        what_ifs=what_ifs(policy, known),
    )


def _measured_figures(policy: Policy, known: Knowledge, certified: Certified) -> Measured:
    pick, outcome = _measured(known, policy, certified), certified.outcome
    return Measured(
        step=certified.step,
        cycle_s=pick.cycle_s,
        throughput=pick.throughput,
        live_bytes=outcome.live_bytes or 0,
        footprint_bytes=outcome.footprint_bytes or 0,
        update_s=outcome.update_s if certified.timed is outcome else None,
        collate_s=outcome.collate_s if known.work.stands_for == 1 else None,
        terms=_terms(policy, known, pick),
    )


def _terms(policy: Policy, known: Knowledge, pick: Choice) -> ScoreTerms | None:
    if not policy.scored or known.reference is None:
        return None
    rules = known.config.stages[policy.stage]
    return terms(pick.throughput, pick.cycle_s, pick.capacity, known.reference, rules, known.config.score)


def _too_slow(policy: Policy, lab: Experiment, nearest: Choice, cycle_s: float) -> StageFailure:
    rules = lab.config.stages[policy.stage]
    allowed_s = (rules.target_s or math.inf) + rules.window_s
    reason = (
        f"what was predicted to fit the window took {format_seconds(cycle_s)} a cycle, "
        f"and {format_seconds(allowed_s)} are allowed"
    )
    return _nothing(policy, lab, "time", reason, nearest).model_copy(update={"nearest_cycle_s": cycle_s})


def _failure(policy: Policy, lab: Experiment, last: tuple[Choice, Outcome] | None) -> StageFailure:
    if last is None:
        binds, reason, nearest = policy.nearest(lab.known())
        return _nothing(policy, lab, binds, reason, nearest)
    pick, outcome = last
    binds = "memory" if outcome.status is Status.OUT_OF_MEMORY else "model"
    return _nothing(policy, lab, binds, f"{outcome.status}: {outcome.detail}", pick)


def _nothing(policy: Policy, lab: Experiment, binds: str, reason: str, nearest: Choice | None) -> StageFailure:
    if nearest is not None:  # its score may be infinite, which JSON cannot say
        nearest = nearest.model_copy(update={"score": None})
    known = lab.known()
    return StageFailure(
        stage=policy.stage,
        limited_by=binds,
        reason=reason,
        nearest=nearest,
        candidates=candidates(policy, known, policy.rank(known), None),
        what_ifs=what_ifs(policy, known),
    )
