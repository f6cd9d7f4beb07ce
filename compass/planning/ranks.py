"""Plans for several devices: what a rank costs beyond a process alone, and what another number of devices would buy."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence

from compass.batching.imbalance import predicted_imbalance
from compass.errors import InputError
from compass.planning.calibration import timing_spec
from compass.planning.experiment import Experiment
from compass.planning.prober import Prober
from compass.records import (
    DevicesRow,
    Knobs,
    Outcome,
    ProbeSpec,
    RankCosts,
    RankFigures,
    RankShare,
    RanksPlan,
    StagePlan,
)
from compass.search.knowledge import Knowledge
from compass.units import format_bytes, format_seconds

log = logging.getLogger(__name__)

SHOWN_DEVICES = (1, 2, 4, 8)
"""Numbers of devices that a plan is predicted for, beside its own."""


LIKE_SPEED, LIKE_BUDGET = 0.15, 0.05
"""Ranks count as alike up to these differences: cards of one kind differ by some per cent, and four steps tell their time no better."""


def measure_ranks(experiment: Experiment, prober: Prober) -> None:
    """Probe all ranks once and a single process once, with the same batch of a model in the middle of the space.

    Their difference is what a rank costs: memory of the communication library, waiting for gradients, shared caches. Nothing is
    done for one device.

    Raises:
        InputError: ranks cannot train together here.
    """
    if experiment.n_ranks == 1:
        return
    spec = _trial(experiment)
    together_spec = spec.model_copy(update={"ranks": experiment.n_devices})
    prober.report("calibrate", "one process", 0, 2)
    alone = prober.probe("calibrate", spec, expected=experiment.expected_memory(spec, experiment.costs())).outcome
    prober.report("calibrate", f"{experiment.n_devices} ranks", 1, 2)
    together = prober.probe("calibrate", together_spec).outcome
    for what, outcome in (("one process", alone), (f"{experiment.n_devices} ranks", together)):
        if not outcome.ok:
            raise InputError(
                "--devices",
                got=f"{experiment.n_devices}, whose first probe failed: {what}, {outcome.summary}",
                expected="ranks that train together here",
                fix="Mend that, or plan for one device.",
            )
    experiment.rank_costs = rank_costs(alone, together, experiment.n_devices)
    experiment.shares = () if experiment.on_cpu else unequal_shares(together.ranks) * experiment.n_nodes
    for rank, share in enumerate(experiment.shares):
        log.info("rank %d: %s, %.2f times as fast as the slowest", rank, format_bytes(share.budget_bytes), share.speed)
    costs = experiment.rank_costs
    if experiment.n_nodes > 1:
        log.warning(
            "the ranks of one machine run here; between %d machines gradients travel more slowly, which is not measured",
            experiment.n_nodes,
        )
    log.info(
        "%d ranks: each holds %s more than a process alone, computes for %.0f %% longer and waits %s for gradients",
        costs.n_ranks,
        format_bytes(costs.host_bytes),
        100 * (costs.slowdown - 1),
        format_seconds(costs.sync_s),
    )


def unequal_shares(ranks: Sequence[RankFigures]) -> tuple[RankShare, ...]:
    """What each of `ranks` may hold and how fast it is beside the slowest, whose step is the plan's; empty if they are alike."""
    times, budgets = [one.alone_s for one in ranks if one.alone_s], [one.budget_bytes for one in ranks]
    if len(times) < len(ranks) or not times:
        return ()
    if max(times) <= (1 + LIKE_SPEED) * min(times) and max(budgets) <= (1 + LIKE_BUDGET) * min(budgets):
        return ()
    return tuple(
        RankShare(budget_bytes=size, speed=max(times) / alone_s) for size, alone_s in zip(budgets, times, strict=True)
    )


def rank_costs(alone: Outcome, together: Outcome, n_ranks: int) -> RankCosts:
    """What ranks cost, from the same steps in one process and in `n_ranks`."""
    assert alone.step is not None  # noqa: S101 - both ran
    assert together.step is not None  # noqa: S101
    sync_s = together.sync_s or 0.0
    return RankCosts(
        n_ranks=n_ranks,
        host_bytes=together.joined_bytes or 0,
        slowdown=max(1.0, (together.step.median_s - sync_s) / alone.step.median_s),
        sync_s=sync_s,
        latency_s=min(sync_s, together.latency_s or 0.0),
        capacity=together.parameters or 1,
    )


def _trial(experiment: Experiment) -> ProbeSpec:
    """The steps that are made by one process and by several: of the model of median capacity, in a fresh process."""
    runnable = [knobs for knobs in experiment.capacities if experiment.costs().time.knows(knobs.variant)]
    by_capacity = sorted(runnable, key=lambda knobs: (experiment.capacities[knobs], str(knobs)))
    spec = next(
        filter(None, (timing_spec(experiment, knobs, profile=True) for knobs in _from_middle(by_capacity))), None
    )
    if spec is None:
        raise InputError(
            "memory limit",
            got=f"{format_bytes(experiment.budget_bytes)} for each of {experiment.n_devices} ranks",
            expected="enough for a batch of one of the models",
            fix="Raise --memory-limit or use fewer --devices.",
        )
    return spec.model_copy(update={"fresh": True})


def _from_middle(models: list[Knobs]) -> Iterable[Knobs]:
    """Those from the middle down, which need less and less memory."""
    return reversed(models[: len(models) // 2 + 1])


def with_ranks(plan: StagePlan, experiment: Experiment) -> StagePlan:
    """`plan` with what all its ranks do together; unchanged for one device."""
    costs = experiment.rank_costs
    if costs is None:
        return plan
    numbers = sorted({*SHOWN_DEVICES, experiment.n_ranks})
    rows = tuple(_row(plan, experiment, costs, n_devices) for n_devices in numbers)
    own = next(row for row in rows if row.n_devices == experiment.n_ranks)
    return plan.model_copy(
        update={
            "accumulate": own.accumulate,
            "ranks": RanksPlan(
                n_devices=experiment.n_devices,
                n_nodes=experiment.n_nodes,
                global_batch=own.global_batch,
                efficiency=own.efficiency,
                imbalance=own.imbalance,
                costs=costs,
                devices=rows,
            ),
        }
    )


def _row(plan: StagePlan, experiment: Experiment, costs: RankCosts, n_devices: int) -> DevicesRow:
    """What `n_devices` buy, from the measured step of the plan's own ranks."""
    known = experiment.known()
    choice, measured_s = plan.choice, plan.measured.step.median_s
    alone_s = costs.alone_s(measured_s, choice.capacity)
    is_own = n_devices == experiment.n_devices
    step_s = measured_s if is_own else costs.step_s(alone_s, choice.capacity, n_devices)
    unevenness = imbalance_of(plan, known, n_devices)
    throughput = n_devices * choice.batch_size / (step_s * (1 + (unevenness or 0.0)))
    global_batch = n_devices * choice.batch_size
    return DevicesRow(
        n_devices=n_devices,
        batch_size=choice.batch_size,
        global_batch=global_batch,
        accumulate=max(1, math.ceil(known.config.batch.effective_batch / global_batch)),
        step_s=step_s,
        throughput=throughput,
        epoch_s=known.dataset_size / throughput,
        efficiency=throughput * alone_s / (n_devices * choice.batch_size),
        imbalance=unevenness,
        is_measured=is_own,
    )


def imbalance_of(plan: StagePlan, known: Knowledge, n_devices: int) -> float | None:
    """The predicted imbalance of ranks, as a share; None where one complex stands in for the data."""
    if n_devices == 1:
        return 0.0
    _, sizes = known.work.shared()
    if known.work.stands_for > 1 or plan.step_law is None or len(sizes) < n_devices * plan.choice.batch_size:
        return None
    return predicted_imbalance(
        sizes,
        plan.bytes_law,
        plan.step_law,
        known.work.features,
        batch_size=plan.choice.batch_size,
        n_ranks=n_devices,
        seed=known.config.seed,
    )
