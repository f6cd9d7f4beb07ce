"""Why a stage's plan is what it is: the score's terms, how near each limit is, and what more of something would buy."""

from __future__ import annotations

import math
from dataclasses import dataclass

from compass.records import Candidate, Choice, Stage, StageFailure, StagePlan, WhatIf
from compass.report.evidence import Evidence
from compass.report.words import BINDS, allowed_s, change, model_name, of_bytes, rate, share, span_of
from compass.units import format_bytes, format_count, format_seconds


@dataclass(frozen=True)
class Limit:
    """One thing that could stop a plan from growing."""

    name: str
    used: float
    allowed: float | None
    """None: there is no limit."""
    says: str
    limited_by: bool

    @property
    def used_share(self) -> float | None:
        """Of what is allowed."""
        return None if not self.allowed else self.used / self.allowed


@dataclass(frozen=True)
class Purchase:
    """What more of something would buy, on paper."""

    more: str
    says: str
    changes: bool


@dataclass(frozen=True)
class Explanation:
    """Everything `compass explain` says."""

    stage: Stage
    answer: str
    """The plan in a few words, or that there is none."""
    why: str
    limited_by: str
    limits: tuple[Limit, ...] = ()
    score: tuple[str, ...] = ()
    """Its terms, a sentence each; empty where none decides."""
    purchases: tuple[Purchase, ...] = ()
    beside: tuple[str, ...] = ()
    """The fastest pick, the second best, what validation follows."""


def explain(evidence: Evidence, stage: Stage) -> Explanation:
    """Why `stage` ended as it did. Raises KeyError if there is nothing on it."""
    entry = evidence.found[stage]
    if isinstance(entry, StageFailure):
        return _failure(evidence, entry)
    choice = entry.choice
    return Explanation(
        stage=stage,
        answer=(
            f"{model_name(choice.knobs)}, batch {format_count(choice.batch_size)}: {rate(entry.throughput)} graphs/s, "
            f"a cycle of {format_seconds(entry.cycle_s)}"
        ),
        why=entry.why,
        limited_by=BINDS.get(entry.limited_by, f"{entry.limited_by} binds."),
        limits=limits_of(evidence, entry),
        score=_score(evidence, entry),
        purchases=purchases(entry),
        beside=_beside(evidence, entry),
    )


def limits_of(evidence: Evidence, plan: StagePlan) -> tuple[Limit, ...]:
    """Memory, time, data and space, with what the plan uses of each."""
    # What binds a stage that a clock judges is the batch: by the data, or by what is configured.
    timed = allowed_s(plan.stage, evidence.config) is not None
    found = [_memory(plan), _time(evidence, plan)]
    config = evidence.config
    if config is not None and evidence.data_cap and evidence.dataset_size:
        cap, size, batch = evidence.data_cap, evidence.dataset_size, plan.choice.batch_size
        found.append(
            Limit(
                "data", plan.choice.capacity, cap,
                f"{format_count(plan.choice.capacity)} of the {format_count(cap)} parameters that "
                f"{format_count(size)} complexes feed",
                plan.limited_by == "data" and not timed,
            )
        )  # fmt: skip
        most = config.batch.cap(size)
        says = f"{format_count(batch)} of at most {format_count(most)} graphs a batch"
        found.append(
            Limit("batch", batch, most, says, timed and plan.limited_by in {"data", "space"} and batch >= most)
        )
    span = span_of(plan.stage, config)
    if span and evidence.reference:
        part = plan.choice.capacity / evidence.reference.capacity
        says = f"{share(part)} of production's size; {share(span[0])} to {share(span[1])} are searched"
        found.append(Limit("space", part, span[1], says, limited_by=False))
    return tuple(found)


def purchases(entry: StagePlan | StageFailure) -> tuple[Purchase, ...]:
    """What each recorded what-if would change, against what would be chosen on paper now."""
    now = next((one.pick for one in entry.what_ifs if one.change == "none"), None)
    scored = isinstance(entry, StagePlan) and entry.terms is not None
    return tuple(_purchase(one, now, scored=scored) for one in entry.what_ifs if one.change != "none")


def _memory(plan: StagePlan) -> Limit:
    certificate, bound = plan.certificate, plan.certificate.bound_bytes or plan.choice.footprint_bytes
    says = f"at most {of_bytes(bound, certificate.ceiling_bytes)}, {format_bytes(certificate.footprint_bytes)} measured"
    return Limit("memory", bound, certificate.ceiling_bytes, says, plan.limited_by == "memory")


def _time(evidence: Evidence, plan: StagePlan) -> Limit:
    most = allowed_s(plan.stage, evidence.config)
    if most is None:
        says = f"a cycle of {format_seconds(plan.cycle_s)}, without a limit"
        return Limit("time", plan.cycle_s, None, says, limited_by=False)
    rules = evidence.config.stages[plan.stage] if evidence.config else None
    target = "" if rules is None or rules.target_s is None else f", {format_seconds(rules.target_s)} is the target"
    says = f"a cycle of {format_seconds(plan.cycle_s)}; {format_seconds(most)} are allowed{target}"
    return Limit("time", plan.cycle_s, most, says, plan.limited_by == "time")


def _score(evidence: Evidence, plan: StagePlan) -> tuple[str, ...]:
    terms, config = plan.terms, evidence.config
    if terms is None or config is None:
        return ()
    q = config.stages[plan.stage].quality_weight
    loss = "" if math.isclose(terms.worth, 1) else f", after the clock took {share(1 - terms.worth)} of their worth"
    return (
        (
            f"samples {terms.samples:.3f}: {terms.throughput_ratio:.3g} times production's graphs/s{loss}, "
            f"to the power −{config.score.beta:g}, weighted {1 - q:g}"
        ),
        (
            f"parameters {terms.parameters:.3f}: {terms.capacity_ratio:.3g} times production's parameters, "
            f"to the power −{config.score.alpha:g}, weighted {q:g}"
        ),
        f"score {terms.samples + terms.parameters:.3f}: their sum; production's own is 1, lower is better",
    )


def _beside(evidence: Evidence, plan: StagePlan) -> tuple[str, ...]:
    found = []
    if plan.fastest is not None:
        same = plan.fastest.knobs == plan.choice.knobs
        told = "the same model" if same else _choice(plan.fastest)
        found.append(f"If parameters counted nothing (q = 0): {told}.")
    if plan.runners_up:
        found.append(f"Next: {_choice(plan.runners_up[0])}{_behind(evidence, plan, plan.runners_up[0])}.")
    if plan.follows:
        found.append(f"Follows {plan.follows}.")
    return tuple(found)


def _behind(evidence: Evidence, plan: StagePlan, second: Choice) -> str:
    """How far in score, where one decides; level ones are told apart by what the stage prefers."""
    if second.score is None or plan.terms is None:
        return ""
    behind = second.score / (plan.terms.samples + plan.terms.parameters) - 1
    tie_share = evidence.config.score.tie_share if evidence.config else 0.0
    if abs(behind) <= tie_share:
        preferred = {"prototyping": "the faster", "validation": "the larger"}.get(plan.stage, "another")
        return f", level in score (within {share(tie_share)}), where {plan.stage} takes {preferred}"
    return f", {share(behind)} behind in score" if behind > 0 else f", {share(-behind)} ahead in score on paper"


def _choice(choice: Choice) -> str:
    return f"{model_name(choice.knobs)}, batch {format_count(choice.batch_size)}, {rate(choice.throughput)} graphs/s"


def _failure(evidence: Evidence, failure: StageFailure) -> Explanation:
    del evidence
    beside = []
    if failure.nearest is not None:
        near = failure.nearest
        beside = [
            (
                f"Nearest miss: {_choice(near)}, {format_bytes(near.footprint_bytes)} at most, "
                f"a cycle of {format_seconds(near.cycle_s)}."
            )
        ]
    return Explanation(
        stage=failure.stage,
        answer="nothing found",
        why=failure.reason,
        limited_by=f"{failure.limited_by.capitalize()} binds.",
        purchases=purchases(failure),
        beside=tuple(beside),
    )


def _purchase(one: WhatIf, now: Candidate | None, *, scored: bool) -> Purchase:
    more = {
        "memory": f"{format_bytes(one.amount)} more memory",
        "time": f"{format_seconds(one.amount)} more a cycle",
        "data": f"{format_count(one.amount)} more complexes",
    }[one.change]
    if one.pick is None:
        return Purchase(more, "still nothing that would do", changes=False)
    if now is None:
        return Purchase(more, f"{_paper(one.pick)}, where now nothing would do", changes=True)
    same_model = (one.pick.layers, one.pick.channels) == (now.layers, now.channels) and (
        (one.pick.precision, one.pick.checkpointing) == (now.precision, now.checkpointing)
    )
    if same_model and one.pick.batch_size == now.batch_size:
        return Purchase(more, "nothing: the same model and batch", changes=False)
    model = f"the same model, batch {now.batch_size} → {one.pick.batch_size}" if same_model else _paper(one.pick)
    return Purchase(more, f"{model}: {', '.join(_gains(now, one.pick, scored=scored))}", changes=True)


def _gains(now: Candidate, then: Candidate, *, scored: bool) -> list[str]:
    """What changes, in words; a change that cannot be seen is none."""
    parts = []
    if now.capacity != then.capacity:
        parts.append(f"{change(now.capacity, then.capacity)} in parameters")
    if now.throughput and then.throughput:
        told = change(now.throughput, then.throughput)
        parts.append("no faster" if told == "the same" else f"{told} in graphs/s")
    if scored and now.score and then.score and f"{now.score:.3f}" != f"{then.score:.3f}":
        parts.append(f"score {now.score:.3f} → {then.score:.3f}")
    return parts


def _paper(row: Candidate) -> str:
    return f"{model_name(row)}, batch {format_count(row.batch_size or 0)}"
