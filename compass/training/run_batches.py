"""The batches of a run: their limits, their number, and how many make a weight update."""

from __future__ import annotations

import math
from typing import Any

from compass.batching.sampler import BudgetedBatchSampler
from compass.batching.unequal import UnequalBatches
from compass.errors import InputError
from compass.records import BytesLaw, Load
from compass.training.data import TrainingData, warn_left_out
from compass.training.ranks import Ranks
from compass.training.run_spec import RunSpec
from compass.training.stream import RunSampler, Stream

MORE_THAN_ENOUGH = 4
"""Factor on the batches that fit into a given time: the clock ends such a run, not the number of batches."""


def make_sampler(spec: RunSpec, data: TrainingData, ranks: Ranks, law: BytesLaw) -> RunSampler:
    """The plan's batches: a fixed number of graphs, or as many as fill the memory by `law`, which the guard uses too.

    Unequal ranks have loads in proportion to their speeds, each within its own memory.
    """
    if spec.shares:
        return _unequal(spec, data, law)
    ids = data.split.train
    place = {name: index for index, name in enumerate(ids)}
    sampler = BudgetedBatchSampler(
        data.sizes(ids),
        law,
        features=tuple(name for name, _ in spec.plan.choice.load.sizes),
        padded=spec.plan.choice.load.padded,
        ids=ids,
        isolated=[place[name] for name in data.isolated],
        oversize="leave_out",
        min_graphs=spec.plan.least_batch,
        seed=spec.config.seed,
        n_ranks=ranks.n,
        rank=ranks.rank,
        **_sampler_limits(spec),
    )
    warn_left_out(sampler.left_out, spec.noun)
    return sampler


def _unequal(spec: RunSpec, data: TrainingData, law: BytesLaw) -> UnequalBatches:
    """The batches of unequal ranks.

    Raises:
        InputError: the plan does not tell how a step's time depends on its batch.
    """
    plan, ids = spec.plan, data.split.train
    if plan.choice.load.padded:
        raise InputError(
            "--rank-speed",
            got=f"a workload whose batches are padded ({', '.join(plan.choice.load.padded)})",
            expected="one whose loads are sums",
            fix="Leave it out: all ranks then get the same batch.",
        )
    if plan.step_law is None:
        raise InputError(
            "--rank-speed",
            got="a plan without a law of step times",
            expected="one that tells how long a batch takes",
            fix=f"Plan anew: `{spec.again}`.",
        )
    sampler = UnequalBatches(
        data.sizes(ids),
        law,
        plan.step_law,
        spec.shares,
        features=tuple(name for name, _ in plan.choice.load.sizes),
        ids=ids,
        max_graphs=max(spec.config.batch.cap(len(ids)), plan.choice.batch_size),
        min_graphs=plan.least_batch,
        leave_out=True,
        seed=spec.config.seed,
    )
    warn_left_out(sampler.left_out, spec.noun)
    return sampler


def make_stream(spec: RunSpec, data: TrainingData, sampler: RunSampler, ranks: Ranks, batch_s: float) -> Stream:
    """The batches of the whole training; `batch_s` is the predicted time of the mean batch."""
    accumulate = accumulated_batches(spec, sampler.mean_graphs * ranks.n, ranks)
    return Stream(sampler, data.split.train, accumulate, total_batches(spec, len(sampler), batch_s), ranks.rank)


def accumulated_batches(spec: RunSpec, mean_graphs: float, ranks: Ranks) -> int:
    """Batches in a weight update, so that it has the configured effective batch.

    `mean_graphs` is the number of graphs in the mean batch, summed over all ranks.
    """
    effective_batch = spec.config.batch.effective_batch
    if spec.batching == "batch_size":  # as the plan counts: the last batch of an epoch, which may be short, is ignored
        return max(1, math.ceil(effective_batch / (spec.plan.choice.batch_size * ranks.n)))
    return max(1, round(effective_batch / mean_graphs))


def total_batches(spec: RunSpec, per_epoch: int, batch_s: float) -> int:
    """Batches of each rank in the whole training."""
    amount, config = spec.amount, spec.config
    if amount.cycles is not None:
        return max(1, round(amount.cycles * config.cycle_batches))
    if amount.max_time_s is not None and amount.epochs is None:
        return max(1, math.ceil(MORE_THAN_ENOUGH * amount.max_time_s / batch_s))
    return (amount.epochs or config.training.epochs) * per_epoch


def footprint_bound(spec: RunSpec, largest: Load, law: BytesLaw) -> int:
    """The footprint in bytes that no batch should exceed.

    It is the certificate's bound, or the one at the run's `largest` load where that was not certified: in a smoke test, and
    with several ranks.
    """
    bound_bytes = spec.plan.certificate.footprint_bound_bytes
    if spec.batching == "batch_budget" and spec.plan.batch_budget is not None:
        bound_bytes = spec.plan.batch_budget.budget_bytes
    return max(bound_bytes, int(law.upper_footprint(largest)))


def _sampler_limits(spec: RunSpec) -> dict[str, Any]:
    """The sampler's arguments that limit a batch.

    Raises:
        InputError: budgeted batches are asked for, and the plan has none.
    """
    plan, budget = spec.plan, spec.plan.batch_budget
    if spec.batching == "batch_size":  # the certificate allows this number of graphs, whatever the law predicts
        return {"budget_bytes": math.inf, "max_graphs": plan.choice.batch_size, "time_law": plan.step_law}
    if budget is None:
        raise InputError(
            "--batching", got="batch_budget", expected="batch_size: the plan has no batch budget", fix="Use batch_size."
        )
    return {
        "budget_bytes": budget.budget_bytes,
        "max_graphs": budget.max_graphs,
        "time_law": plan.step_law,
        "max_step_s": budget.max_step_s,
    }
