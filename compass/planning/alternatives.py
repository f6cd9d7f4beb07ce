"""The explanation of a plan: every model that the stage considered with its verdict, and the choice in other circumstances."""

from __future__ import annotations

import math
from dataclasses import replace

from compass.records import Candidate, CandidateVerdict, Choice, Knobs, WhatIf, WhatIfChange
from compass.search.knowledge import Knowledge
from compass.search.space import data_cap
from compass.stages.policy import Policy, Ranking, capacity_span
from compass.units import GIB

MORE_BYTES, MORE_S, MORE_DATA = GIB, 600.0, 2
"""One more GiB of budget; ten more minutes of target; twice the complexes."""


def candidates(
    policy: Policy, known: Knowledge, ranking: Ranking | None, chosen: Choice | None
) -> tuple[Candidate, ...]:
    """Every model of the stage's variants: the chosen one, the admissible ones by rank, and the rest with the reason.

    Empty for a stage that is not explained.
    """
    if not policy.explained:
        return ()
    ranked = [] if ranking is None else [choice for choice in ranking.choices if not _same(choice, chosen)]
    seen = {choice.knobs for choice in ranked} | ({chosen.knobs} if chosen else set())
    rest = [
        _ruled_out(policy, known, knobs)
        for knobs in known.models(known.config.stages[policy.stage], 0, math.inf)
        if knobs not in seen
    ]
    rest.sort(key=lambda row: -row.capacity)
    first = [_row(known, chosen.knobs, "chosen", chosen)] if chosen else []
    return (*first, *(_row(known, choice.knobs, "admissible", choice) for choice in ranked), *rest)


def what_ifs(policy: Policy, known: Knowledge) -> tuple[WhatIf, ...]:
    """The policy's choice on paper now, and with more memory, time or data; the reference stays the same."""
    if not policy.explained or (policy.timed and known.reference is None):
        return ()
    rules, config = known.config.stages[policy.stage], known.config
    found: list[tuple[WhatIfChange, float, Knowledge]] = [
        ("none", 0.0, known),
        ("memory", MORE_BYTES, replace(known, budget_bytes=known.budget_bytes + MORE_BYTES)),
    ]
    if rules.target_s is not None:
        longer = rules.model_copy(update={"target_s": rules.target_s + MORE_S})
        stages = config.stages.model_copy(update={policy.stage: longer})
        found.append(("time", MORE_S, replace(known, config=config.model_copy(update={"stages": stages}))))
    size = known.dataset_size * MORE_DATA
    cap = max(known.data_cap, data_cap(config.space.data_cap, size))
    found.append(("data", size - known.dataset_size, replace(known, dataset_size=size, data_cap=cap)))
    return tuple(WhatIf(change=change, amount=amount, pick=_pick(policy, other)) for change, amount, other in found)


def _pick(policy: Policy, known: Knowledge) -> Candidate | None:
    ranking = policy.rank(known)
    return None if ranking is None else _row(known, ranking.pick.knobs, "admissible", ranking.pick)


def _same(choice: Choice, chosen: Choice | None) -> bool:
    return chosen is not None and choice.knobs == chosen.knobs


def _ruled_out(policy: Policy, known: Knowledge, knobs: Knobs) -> Candidate:
    """A model that is not admissible, with the reason. Nothing is predicted where the reason lies in the model alone."""
    rules, capacity = known.config.stages[policy.stage], known.capacities[knobs]
    low, high = capacity_span(policy, known)
    if (broken := known.pruned.broken(knobs)) is not None:
        return _row(known, knobs, "model", None, broken)
    if capacity > known.data_cap:
        return _row(known, knobs, "data", None)
    if not low <= capacity <= high:
        return _row(known, knobs, "space", None)
    too_big, largest = known.ruled_out(knobs, rules), known.largest_batch(knobs, rules)
    if too_big is not None or largest == 0:
        return _row(known, knobs, "memory", known.choice(knobs, rules, known.least_batch), too_big or "")
    best = known.best_choice(knobs, rules)
    if best is None:
        return _row(known, knobs, "time", known.choice(knobs, rules, known.least_batch))
    return _row(known, knobs, "batch" if best.batch_size < known.config.batch.min_batch else "untried", best)


def _row(
    known: Knowledge, knobs: Knobs, verdict: CandidateVerdict, choice: Choice | None, reason: str = ""
) -> Candidate:
    bare = Candidate.of(knobs, capacity=known.capacities[knobs], verdict=verdict, reason=reason)
    if choice is None:
        return bare
    score = choice.score if choice.score is not None and math.isfinite(choice.score) else None
    return bare.model_copy(
        update={
            "batch_size": choice.batch_size,
            "allocator": choice.allocator,
            "live_bytes": _short(choice.live_bytes),
            "footprint_bound_bytes": _short(choice.footprint_bound_bytes),
            "step_s": _short(choice.step_s),
            "spread": _short(known.spread_of(choice)),
            "score": None if score is None else _short(score),
        }
    )


def _short(value: float) -> float:
    """`value` to six digits: a prediction is no more precise, and a profile may hold thousands."""
    return float(f"{value:.6g}")
