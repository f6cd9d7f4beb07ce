"""Beside a fixed batch size, a batch that fills the memory: packed, predicted, and run under the ceiling."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from compass.batching.packing import Limits, pack
from compass.planning.experiment import Experiment
from compass.probe.requests import certificate_probe
from compass.records import Batch, BatchBudget, Outcome, StagePlan
from compass.stages.policy import Policy, is_late

log = logging.getLogger(__name__)

WORTHWHILE = 0.02
"""Gain from which budgeted batches are recommended: a prediction is no better than that, and a fixed size is simpler."""


def with_budget(plan: StagePlan, policy: Policy, lab: Experiment) -> StagePlan:
    """`plan` with the budgeted alternative, where the data's samples differ and it holds."""
    if plan.stage == "smoke_test" or lab.work.stands_for > 1 or not lab.work.differs:
        return plan
    for _ in range(lab.config.probe.certify_rounds):
        # Batches of many sizes may fragment the memory more than those of the certificate did; the law learns from it.
        law = lab.known().bytes_law(plan.choice.knobs, lab.config.stages[plan.stage])
        plan = plan.model_copy(update={"bytes_law": law})
        if law.upper_footprint(lab.work.worst_load(1, law)) > lab.budget_bytes:
            break
        budget = _budget(plan, policy, lab)
        if budget is not None:
            better = "batch_budget" if budget.gain > WORTHWHILE else "batch_size"
            return plan.model_copy(update={"batch_budget": budget, "recommended": better})
    return plan


def _budget(plan: StagePlan, policy: Policy, lab: Experiment) -> BatchBudget | None:
    known, work, choice = lab.known(), lab.work, plan.choice
    late, step_law = is_late(known, known.config.stages[plan.stage], plan.predicted_choice), plan.step_law
    max_step_s = step_law.at(choice.load) if late and step_law is not None and step_law.varies else None
    limits = Limits(
        law=plan.bytes_law,
        budget_bytes=lab.budget_bytes,
        features=work.features,
        max_graphs=known.batch_cap,
        time_law=step_law,
        max_step_s=max_step_s,
    )
    members, sizes = work.shared()
    too_large = (replace(limits, time_law=None, max_step_s=None).shares(sizes) > 1).any(axis=0)
    too_slow = (limits.shares(sizes) > 1).any(axis=0) & ~too_large  # for a step that others share: it has one to itself
    order = np.random.default_rng(lab.config.seed).permutation(np.flatnonzero(~too_large & ~too_slow))
    batches = [*pack(sizes, order, limits), *np.flatnonzero(too_slow)[:, None]]
    n_graphs = sum(map(len, batches))
    loads = np.array([sizes[batch].sum(axis=0) for batch in batches])
    predicted_s = known.costs.step_s(choice.knobs, choice.capacity, loads)
    fills = np.array([limits.law.upper_footprint(work.load(_named(members, batch))) for batch in batches])
    outcome = _certified(plan, policy, lab, [_named(members, batch) for batch in batches], fills, predicted_s)
    if outcome is None or outcome.step is None:
        return None
    # What was timed corrects what the time model has wrong for this model, allocator and size of batch.
    wrong = outcome.step.median_s / predicted_s[_mean_place(predicted_s)]
    predicted = n_graphs / float(predicted_s.sum())
    throughput = predicted / wrong
    # Two timings minutes apart differ by as much as most gains are, so they do not show one alone; nor does the model.
    shown = (
        throughput / plan.measured.throughput,
        predicted * known.step_s(choice.knobs, choice.load) / choice.batch_size,
    )
    return BatchBudget(
        budget_bytes=lab.budget_bytes,
        max_graphs=known.batch_cap,
        max_step_s=max_step_s,
        n_batches=len(batches),
        mean_graphs=n_graphs / len(batches),
        median_fill=float(np.median(fills)) / lab.budget_bytes,
        throughput=throughput,
        gain=min(shown) - 1,
        footprint_bytes=outcome.footprint_bytes or 0,
    )


def _certified(
    plan: StagePlan,
    policy: Policy,
    lab: Experiment,
    batches: Sequence[Batch],
    fills: NDArray[np.float64],
    step_s: NDArray[np.float64],
) -> Outcome | None:
    """The fullest batch, shuffled ones, the fullest again, and one of mean time until it has settled; None if they do not hold."""
    rules, fullest, typical = lab.config.probe, batches[int(fills.argmax())], batches[_mean_place(step_s)]
    lab.tell("certify", f"{policy.stage}: budgeted batches", 0, 1, float(step_s.max()) * 8)
    spec = certificate_probe(
        rules, plan.choice.knobs, (fullest, *batches[: rules.shuffled_batches], fullest),
        step_s=float(step_s.max()), ceiling_bytes=lab.budget_bytes, runtime=plan.runtime,
        timed=None if typical == fullest else typical,
    )  # fmt: skip
    outcome = lab.certify(spec.model_copy(update={"profile": False}))
    if not outcome.ok:
        log.warning("%s: budgeted batches: %s: %s", policy.stage, outcome.status, outcome.detail)
        return None
    return outcome


def _mean_place(step_s: NDArray[np.float64]) -> int:
    """Of the batch that takes the nearest to the mean time."""
    return int(np.abs(step_s - step_s.mean()).argmin())


def _named(members: tuple[str, ...], places: NDArray[np.int64]) -> Batch:
    return Batch(members=tuple((members[i], 1) for i in places))
