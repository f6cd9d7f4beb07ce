"""The reasons behind a stage's plan: the score's terms, the distance to each limit, and the gain of more memory, time or data."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compass.records import Candidate, Choice, Stage, StageFailure, StagePlan, WhatIf
from compass.records.nouns import counted, of_batch, of_data
from compass.reporting.evidence import Evidence
from compass.reporting.words import (
    allowed_s,
    change,
    choice_words,
    model_name,
    of_bytes,
    plan_limit_words,
    rate,
    rate_unit,
    searched_share,
    share,
)
from compass.units import format_bytes, format_count, format_seconds


@dataclass(frozen=True)
class Limit:
    """One limit on a plan, and the part of it in use."""

    name: str
    used: float
    allowed: float | None
    """None: there is no limit."""
    says: str
    limited_by: bool

    @property
    def used_share(self) -> float | None:
        """The share of the limit that is used; None without a limit."""
        return None if not self.allowed else self.used / self.allowed


@dataclass(frozen=True)
class Purchase:
    """The predicted gain from more memory, time or data."""

    more: str
    says: str
    changes: bool


@dataclass(frozen=True)
class Explanation:
    """The content of `compass explain`."""

    stage: Stage
    answer: str
    """The plan in a few words, or that there is none."""
    why: str
    limited_by: str
    limits: tuple[Limit, ...] = ()
    score: tuple[str, ...] = ()
    """The terms, a sentence each; empty for a stage without a score."""
    purchases: tuple[Purchase, ...] = ()
    beside: tuple[str, ...] = ()
    """The fastest pick, the second best, what validation follows."""


def explain_plan(evidence: Evidence, stage: Stage) -> Explanation:
    """The reasons for the plan or the failure of `stage`. Raises KeyError if the profile has neither."""
    entry = evidence.found[stage]
    if isinstance(entry, StageFailure):
        return _failure(evidence, entry)
    choice = entry.choice
    return Explanation(
        stage=stage,
        answer=(
            f"{model_name(choice.knobs)}, batch {format_count(choice.batch_size)}: {rate(entry.measured.throughput)} {rate_unit(evidence.noun)}, "
            f"a cycle of {format_seconds(entry.measured.cycle_s)}"
        ),
        why=entry.why,
        limited_by=plan_limit_words(entry, evidence.noun, evidence.config),
        limits=plan_limits(evidence, entry),
        score=_score(evidence, entry),
        purchases=purchases(entry, evidence.noun),
        beside=_beside(evidence, entry),
    )


def plan_limits(evidence: Evidence, plan: StagePlan) -> tuple[Limit, ...]:
    """The limits of memory, time, data and space, and the part of each that the plan uses."""
    # In a stage with a time target, data and space limit the batch; in the others they limit the model.
    timed = allowed_s(plan.stage, evidence.config) is not None
    found = [_memory(plan), _time(evidence, plan)]
    config = evidence.config
    if config is not None and evidence.data_cap and evidence.dataset_size:
        cap, size, batch = evidence.data_cap, evidence.dataset_size, plan.choice.batch_size
        found.append(
            Limit(
                "data",
                plan.choice.capacity,
                cap,
                f"{format_count(plan.choice.capacity)} of the {format_count(cap)} parameters that "
                f"{counted(size, of_data(evidence.noun))} allow",
                plan.limited_by == "data" and not timed,
            )
        )
        most = config.batch.cap(size)
        says = f"{format_count(batch)} of at most {counted(most, of_batch(evidence.noun))} per batch"
        found.append(
            Limit("batch", batch, most, says, timed and plan.limited_by in {"data", "space"} and batch >= most)
        )
    span = searched_share(plan.stage, config)
    if span and evidence.reference:
        part = plan.choice.capacity / evidence.reference.capacity
        says = f"{share(part)} of the production model's parameters; {share(span[0])} to {share(span[1])} are searched"
        found.append(Limit("space", part, span[1], says, limited_by=False))
    return tuple(found)


def purchases(entry: StagePlan | StageFailure, noun: str) -> tuple[Purchase, ...]:
    """The predicted change of each recorded what-if, against the choice predicted now; `noun` is the workload's."""
    now = next((one.pick for one in entry.what_ifs if one.change == "none"), None)
    scored = isinstance(entry, StagePlan) and entry.measured.terms is not None
    return tuple(_purchase(one, now, noun, scored=scored) for one in entry.what_ifs if one.change != "none")


def _memory(plan: StagePlan) -> Limit:
    certificate, bound = plan.certificate, plan.certificate.footprint_bound_bytes
    says = (
        f"at most {of_bytes(bound, certificate.ceiling_bytes)}, {format_bytes(plan.measured.footprint_bytes)} measured"
    )
    return Limit("memory", bound, certificate.ceiling_bytes, says, plan.limited_by == "memory")


def _time(evidence: Evidence, plan: StagePlan) -> Limit:
    most = allowed_s(plan.stage, evidence.config)
    if most is None:
        says = f"a cycle of {format_seconds(plan.measured.cycle_s)}, without a limit"
        return Limit("time", plan.measured.cycle_s, None, says, limited_by=False)
    rules = evidence.config.stages[plan.stage] if evidence.config else None
    target = "" if rules is None or rules.target_s is None else f", target {format_seconds(rules.target_s)}"
    says = f"a cycle of {format_seconds(plan.measured.cycle_s)}; {format_seconds(most)} allowed{target}"
    return Limit("time", plan.measured.cycle_s, most, says, plan.limited_by == "time")


def _score(evidence: Evidence, plan: StagePlan) -> tuple[str, ...]:
    terms, config = plan.measured.terms, evidence.config
    if terms is None or config is None:
        return ()
    q = config.stages[plan.stage].quality_weight
    loss = "" if math.isclose(terms.worth, 1) else f", less {share(1 - terms.worth)} since the cycle is over its target"
    return (
        (
            f"samples {terms.samples:.3f}: {terms.throughput_ratio:.3g} times the production model's {rate_unit(evidence.noun)}{loss}, "
            f"to the power −{config.score.beta:g}, weighted {1 - q:g}"
        ),
        (
            f"parameters {terms.parameters:.3f}: {terms.capacity_ratio:.3g} times the production model's parameters, "
            f"to the power −{config.score.alpha:g}, weighted {q:g}"
        ),
        f"score {terms.score:.3f}: the sum of both; the production model scores 1, lower is better",
    )


def _beside(evidence: Evidence, plan: StagePlan) -> tuple[str, ...]:
    found = []
    if plan.fastest is not None:
        same = plan.fastest.knobs == plan.choice.knobs
        fastest = "the same model" if same else _choice(plan.fastest, evidence.noun)
        found.append(f"Fastest model, ignoring parameters (q = 0): {fastest}.")
    if plan.largest_batch is not None:
        largest = plan.largest_batch
        found.append(f"Largest batch at any price, under {largest.allocator}: {_choice(largest, evidence.noun)}.")
    if plan.runners_up:
        second = plan.runners_up[0]
        found.append(f"Next: {_choice(second, evidence.noun)}{_behind(evidence, plan, second)}.")
    found += [f"Not recommended: {plan.discouraged}."] if plan.discouraged else []
    found += [f"{doubt[:1].upper()}{doubt[1:]}." for doubt in plan.doubts]
    if plan.follows:
        found.append(f"Follows {plan.follows}.")
    return tuple(found)


def _behind(evidence: Evidence, plan: StagePlan, second: Choice) -> str:
    """The distance in score, if the stage has one; level scores are decided by the stage's preference."""
    if second.score is None or plan.measured.terms is None:
        return ""
    behind = second.score / plan.measured.terms.score - 1
    tie_share = evidence.config.score.tie_share if evidence.config else 0.0
    if abs(behind) <= tie_share:
        preferred = {"prototyping": "the faster", "validation": "the larger"}.get(plan.stage, "another")
        return f", level in score (within {share(tie_share)}), where {plan.stage} takes {preferred}"
    if behind > 0:
        return f", {share(behind)} behind in score"
    return f", whose predicted score is {share(-behind)} better than this plan's measured one: it was not run"


def _choice(choice: Choice, noun: str) -> str:
    return f"{choice_words(choice)}, {rate(choice.throughput)} {rate_unit(noun)}"


def _failure(evidence: Evidence, failure: StageFailure) -> Explanation:
    beside = []
    if failure.nearest is not None:
        near = failure.nearest
        beside = [
            (
                f"Nearest miss: {_choice(near, evidence.noun)}, {format_bytes(near.footprint_bound_bytes)} at most, "
                f"a cycle of {format_seconds(failure.nearest_cycle_s or near.cycle_s)}."
            )
        ]
    return Explanation(
        stage=failure.stage,
        answer="nothing found",
        why=failure.reason,
        limited_by=f"Limited by {failure.limited_by}.",
        purchases=purchases(failure, evidence.noun),
        beside=tuple(beside),
    )


def _purchase(one: WhatIf, now: Candidate | None, noun: str, *, scored: bool) -> Purchase:
    more = {
        "memory": f"{format_bytes(one.amount)} more memory",
        "time": f"{format_seconds(one.amount)} more per cycle",
        "data": f"{format_count(one.amount)} more {of_data(noun)}",
    }[one.change]
    if one.pick is None:
        return Purchase(more, "still no admissible model", changes=False)
    if now is None:
        return Purchase(more, f"{_paper(one.pick)}, where now no model is admissible", changes=True)
    same_model = one.pick.is_same(now)
    if same_model and one.pick.batch_size == now.batch_size:
        return Purchase(more, "nothing: the same model and batch", changes=False)
    model = f"the same model, batch {now.batch_size} → {one.pick.batch_size}" if same_model else _paper(one.pick)
    return Purchase(more, f"{model}: {', '.join(_gains(now, one.pick, noun, scored=scored))}", changes=True)


def _gains(now: Candidate, then: Candidate, noun: str, *, scored: bool) -> list[str]:
    """The changes in words, without those that rounding hides."""
    parts = []
    if now.capacity != then.capacity:
        parts.append(f"{change(now.capacity, then.capacity)} in parameters")
    if now.throughput and then.throughput:
        gain = change(now.throughput, then.throughput)
        parts.append("no faster" if gain == "the same" else f"{gain} in {rate_unit(noun)}")
    if scored and now.score and then.score and f"{now.score:.3f}" != f"{then.score:.3f}":
        parts.append(f"predicted score {now.score:.3f} → {then.score:.3f}")
    return parts


def _paper(row: Candidate) -> str:
    return f"{model_name(row)}, batch {format_count(row.batch_size or 0)}"
