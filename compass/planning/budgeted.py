"""The alternative to a fixed batch size: batches of many sizes that fill the memory; packed, predicted and certified."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compass.batching.packing import Limits, pack
from compass.planning.experiment import Experiment
from compass.planning.prober import Prober
from compass.probe.requests import certificate_probe
from compass.records import Batch, BatchBudget, Outcome, StagePlan, StepTime
from compass.search.knowledge import Knowledge
from compass.stages.policy import Policy, is_late

log = logging.getLogger(__name__)

WORTHWHILE = 0.02
"""Gain above which budgeted batches are recommended. Predictions are no better than that, and a fixed size is simpler."""


@dataclass(frozen=True)
class PackedEpoch:
    """The training set in budgeted batches, as one epoch would meet it."""

    batches: tuple[Batch, ...]
    n_graphs: int
    footprint_bound_bytes: NDArray[np.float64]
    """(len(batches),) upper bounds."""
    step_s: NDArray[np.float64]
    """(len(batches),) predicted step times."""
    max_graphs: int
    """Most graphs in a batch."""
    max_step_s: float | None
    """The longest step that was allowed, in seconds; None: no limit."""
    budget_bytes: int
    """The largest upper bound that was allowed."""

    @property
    def fullest(self) -> Batch:
        """The batch with the largest upper bound."""
        return self.batches[int(self.footprint_bound_bytes.argmax())]

    @property
    def mean_place(self) -> int:
        """Index of the batch whose predicted step is nearest to the mean."""
        return int(np.abs(self.step_s - self.step_s.mean()).argmin())

    @property
    def throughput(self) -> float:
        """Predicted graphs per second."""
        return self.n_graphs / float(self.step_s.sum())


def with_budget(plan: StagePlan, policy: Policy, experiment: Experiment, prober: Prober) -> StagePlan:
    """`plan` with the budgeted alternative, if the samples differ in size and its certificate holds."""
    loads = experiment.sample_loads
    if not policy.certified or loads.stands_for > 1 or not loads.differs:
        return plan
    for _ in range(experiment.config.probe.certify_rounds):
        known, law = experiment.known(), plan.bytes_law
        budget_bytes = packing_budget(plan, known)
        if law.upper_footprint(loads.worst_load(1, law)) > budget_bytes:
            break
        epoch = pack_epoch(plan, known, budget_bytes)
        outcome = _certified(plan, epoch, experiment, prober)
        if outcome is not None and outcome.step is not None:
            budget = _batch_budget(plan, known, epoch, outcome, outcome.step)
            is_better = budget.gain > WORTHWHILE and not plan.discouraged  # the law alone bounds most of these batches
            better = "batch_budget" if is_better else "batch_size"
            return plan.model_copy(update={"batch_budget": budget, "recommended": better})
    return plan


def packing_budget(plan: StagePlan, known: Knowledge) -> int:
    """The budget of batches of many sizes, whose bounds the plan's law gives.

    They may fragment memory more than the plan's certificate did, and the models learn from a failure. The plan's law then stays,
    and the budget shrinks by as much as the models' law has grown.
    """
    law, learned = plan.bytes_law, known.costs.bytes_law(plan.choice.knobs, plan.choice.allocator)
    most_live = (known.budget_bytes - learned.baseline_bytes) / learned.footprint_ratio / (1 + learned.margin_share)
    allowed = law.baseline_bytes + law.footprint_ratio * (1 + law.margin_share) * most_live
    return min(known.budget_bytes, round(allowed))


def pack_epoch(plan: StagePlan, known: Knowledge, budget_bytes: int) -> PackedEpoch:
    """The training set packed up to the memory budget and, if the stage is short of time, to the plan's step time.

    Samples that exceed the step time by themselves get a batch each. Samples that exceed the memory are left out.
    """
    limits = _limits(plan, known, budget_bytes)
    members, sizes = known.work.shared()
    too_large = (replace(limits, time_law=None, max_step_s=None).shares(sizes) > 1).any(axis=0)
    too_slow = (limits.shares(sizes) > 1).any(axis=0) & ~too_large
    order = np.random.default_rng(known.config.seed).permutation(np.flatnonzero(~too_large & ~too_slow))
    places = [*pack(sizes, order, limits), *np.flatnonzero(too_slow)[:, None]]
    batches = tuple(_batch(members, one) for one in places)
    loads = np.array([[size for _, size in known.work.load(batch).sizes] for batch in batches])
    return PackedEpoch(
        batches=batches,
        n_graphs=sum(map(len, places)),
        footprint_bound_bytes=np.array([limits.law.upper_footprint(known.work.load(batch)) for batch in batches]),
        step_s=known.costs.step_s(plan.choice.knobs, plan.choice.capacity, loads, plan.choice.allocator),
        max_graphs=known.batch_cap,
        max_step_s=limits.max_step_s,
        budget_bytes=budget_bytes,
    )


def _limits(plan: StagePlan, known: Knowledge, budget_bytes: int) -> Limits:
    law, late = plan.step_law, is_late(known, known.config.stages[plan.stage], plan.predicted_choice)
    return Limits(
        law=plan.bytes_law,
        budget_bytes=budget_bytes,
        features=known.work.features,
        max_graphs=known.batch_cap,
        padded=known.work.padded,
        time_law=law,
        max_step_s=law.at(plan.choice.load) if late and law is not None and law.varies else None,
    )


def _batch(members: tuple[str, ...], places: NDArray[np.int64]) -> Batch:
    return Batch(members=tuple((members[i], 1) for i in places))


def _certified(plan: StagePlan, epoch: PackedEpoch, experiment: Experiment, prober: Prober) -> Outcome | None:
    """The certificate of the fullest batch, others, and the fullest again, timed on one of mean step time; None if it fails."""
    rules, longest_s = experiment.config.probe, float(epoch.step_s.max())
    fullest, typical = epoch.fullest, epoch.batches[epoch.mean_place]
    spec = certificate_probe(
        rules,
        plan.choice.knobs,
        (fullest, *epoch.batches[: rules.shuffled_batches], fullest),
        step_s=longest_s,
        ceiling_bytes=experiment.budget_bytes,
        runtime=plan.runtime,
        timed=None if typical == fullest else typical,
        ranks=experiment.n_devices,
    ).model_copy(update={"profile": False})
    prober.report("certify", "budgeted batches", 0, 1, stage=plan.stage)
    outcome = prober.certify(spec, stage=plan.stage, expected=experiment.expected(spec)).outcome
    if not outcome.ok:
        log.warning("%s: certificate of budgeted batches failed: %s", plan.stage, outcome.summary)
        return None
    return outcome


def _batch_budget(
    plan: StagePlan, known: Knowledge, epoch: PackedEpoch, outcome: Outcome, step: StepTime
) -> BatchBudget:
    """The budgeted alternative with its gain in throughput over the plan.

    The timed batch corrects the error of the time model for this model, allocator and batch size. Two timings minutes apart
    differ by as much as most gains, and the time model errs by as much, so the smaller of the measured and the predicted
    gain counts.
    """
    choice = plan.choice
    error = step.median_s / epoch.step_s[epoch.mean_place]
    throughput = epoch.throughput / error
    measured = throughput / plan.measured.throughput
    predicted = epoch.throughput * known.step_s(choice.knobs, choice.load, choice.allocator) / choice.batch_size
    return BatchBudget(
        budget_bytes=epoch.budget_bytes,
        max_graphs=epoch.max_graphs,
        max_step_s=epoch.max_step_s,
        n_batches=len(epoch.batches),
        mean_graphs=epoch.n_graphs / len(epoch.batches),
        median_fill=float(np.median(epoch.footprint_bound_bytes)) / epoch.budget_bytes,
        throughput=throughput,
        gain=min(measured, predicted) - 1,
        footprint_bytes=outcome.footprint_bytes or 0,
    )
