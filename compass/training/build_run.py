"""Opening a run: data, batches, guard and model, and what is announced of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch

from compass.batching.sampler import BudgetedBatchSampler
from compass.device import Meter, detect, meter_for, resolve
from compass.errors import InputError
from compass.records import Batch, BytesLaw, Load, StagePlan, device_kind
from compass.training.checkpoints import Checkpoints
from compass.training.cycle_report import promised_s
from compass.training.data import TrainingData, open_data
from compass.training.guard import Guard, with_buckets
from compass.training.memory_warmup import largest_batch
from compass.training.module import Module
from compass.training.ranks import Ranks, ranks_of
from compass.training.run_spec import RunSpec
from compass.training.schedule import learning_rate
from compass.training.stream import Stream
from compass.units import format_bytes, format_seconds
from compass.workloads.building import build
from compass.workloads.registry import load_workload

if TYPE_CHECKING:
    from compass.workloads.protocol import Workload

log = logging.getLogger(__name__)


MORE_THAN_ENOUGH = 4
"""Times the batches that a given time should take, for the clock ends such a run and not their number."""


@dataclass
class TrainingRun:
    """Everything that one process holds open."""

    spec: RunSpec
    folder: Path
    workload: Workload
    device: str
    meter: Meter
    ranks: Ranks
    data: TrainingData
    sampler: BudgetedBatchSampler
    stream: Stream
    guard: Guard
    module: Module
    checkpoints: Checkpoints
    largest: Batch
    """What is run before the first."""
    bound_bytes: int = 0
    """What no batch of the run should exceed."""
    batch_s: float = 0.0
    """What a batch should take in the mean."""
    waiting: list[tuple[Batch, float]] = field(default_factory=list)
    """Samples that an interrupted run had put off."""


def open_run(spec: RunSpec, folder: Path) -> TrainingRun:
    """Data, batches, guard and model, before anything is trained."""
    rules, plan = spec.config, spec.plan
    ranks = ranks_of(spec)
    workload = load_workload(spec.workload, rules)
    device = resolve(spec.device)
    kind = device_kind(device)
    if ranks.n > 1 and kind.has_index:
        device = f"{kind.name}:{ranks.local}"
    hardware = detect(device, limit_bytes=None, reserve_share=rules.memory.reserve_share)
    meter = meter_for(device, hardware)
    data = trained_on(open_data(workload, rules), plan)
    law = with_buckets(plan.bytes_law, plan.choice.capacity) if ranks.n > 1 else plan.bytes_law
    sampler = make_sampler(spec, data, ranks, law)
    graphs = sampler.mean_graphs * ranks.n
    batch_s = promised_s(plan, sampler.mean_load, budgeted=spec.batching == "batch_budget")
    n_batches = n_batches_of(spec, len(sampler), batch_s)
    stream = Stream(sampler, data.split.train, accumulate_of(spec, graphs, ranks), n_batches, ranks.rank)
    torch.manual_seed(rules.seed)
    model = build(workload, plan.choice.knobs).train()
    start_at_mean(workload, model, data)
    set_dropout(model, rules.training.dropout)
    rate = learning_rate(graphs * stream.accumulate, rules.training)
    fixed = plan.choice.batch_size if spec.batching == "batch_size" else None
    largest = largest_batch(data, sampler, law, fixed)
    return TrainingRun(
        spec=spec,
        folder=folder,
        workload=workload,
        device=device,
        meter=meter,
        ranks=ranks,
        data=data,
        sampler=sampler,
        stream=stream,
        guard=Guard(law, data.loads, spec.budget_bytes, meter.obtainable_bytes),
        module=Module(model, plan.choice.knobs.variant, rules.training, learning_rate=rate, n_updates=stream.n_updates),
        checkpoints=Checkpoints(folder / "checkpoints", rules.training.keep_last),
        largest=largest,
        bound_bytes=bound_of(spec, largest.load(data.loads), law),
        batch_s=batch_s,
    )


def bound_of(spec: RunSpec, largest: Load, law: BytesLaw) -> int:
    """The upper footprint of the plan's certificate, or of the largest batch where that was not certified: a smoke test's, or one of several ranks."""
    held = spec.plan.certificate.footprint_bound_bytes
    if spec.batching == "batch_budget" and spec.plan.batch_budget is not None:
        held = spec.plan.batch_budget.budget_bytes
    return max(held, int(law.upper_footprint(largest)))


def trained_on(data: TrainingData, plan: StagePlan) -> TrainingData:
    """`data` without the training samples that `plan` leaves out, for they do not fit the budget even alone.

    Raises:
        InputError: nothing is left to train on.
    """
    left_out = set(plan.certificate.left_out).intersection(data.split.train)
    if not left_out:
        return data
    ids = tuple(name for name in data.split.train if name not in left_out)
    if not ids:
        raise InputError(f"stage {plan.stage}", got="nothing to train on: no training sample fits the budget, even alone",
                         expected="one that does", fix="Plan anew with more memory, or with dataset.oversize=crop.")  # fmt: skip
    _warn_left_out(sorted(left_out))
    isolated = tuple(name for name in data.isolated if name not in left_out)
    return replace(data, split=data.split.model_copy(update={"train": ids}), isolated=isolated)


def make_sampler(spec: RunSpec, data: TrainingData, ranks: Ranks, law: BytesLaw) -> BudgetedBatchSampler:
    """The plan's batches: so many graphs each, or as many as fill the memory by `law`, which is the guard's."""
    plan, ids = spec.plan, data.split.train
    place = {name: index for index, name in enumerate(ids)}
    sampler = BudgetedBatchSampler(
        data.sizes(ids),
        law,
        features=tuple(name for name, _ in plan.choice.load.sizes),
        ids=ids,
        isolated=[place[name] for name in data.isolated],
        oversize="leave_out",
        seed=spec.config.seed,
        n_ranks=ranks.n,
        rank=ranks.rank,
        **limits_of(spec),
    )
    if sampler.left_out:
        _warn_left_out(sampler.left_out)
    return sampler


def _warn_left_out(ids: Sequence[str]) -> None:
    log.warning("%d complexes do not fit the budget and are left out: %s", len(ids), ", ".join(ids))


def limits_of(spec: RunSpec) -> dict[str, Any]:
    """What a batch may be."""
    plan, budget = spec.plan, spec.plan.batch_budget
    if spec.batching == "batch_size":  # certified as it is, whatever the law says of it
        return {"budget_bytes": math.inf, "max_graphs": plan.choice.batch_size, "time_law": plan.step_law}
    if budget is None:
        raise InputError("--batching", got="batch_budget", expected="a plan that has one", fix="Use batch_size.")
    return {
        "budget_bytes": budget.budget_bytes,
        "max_graphs": budget.max_graphs,
        "time_law": plan.step_law,
        "max_step_s": budget.max_step_s,
    }


def accumulate_of(spec: RunSpec, mean_graphs: float, ranks: Ranks) -> int:
    """Batches an update gathers to reach the effective batch, where the mean batch of all ranks has `mean_graphs`."""
    wanted = spec.config.batch.effective_batch
    if spec.batching == "batch_size":  # as the plan counts, whose last batch of an epoch may be short
        return max(1, math.ceil(wanted / (spec.plan.choice.batch_size * ranks.n)))
    return max(1, round(wanted / mean_graphs))


def n_batches_of(spec: RunSpec, per_epoch: int, batch_s: float) -> int:
    """Batches of the whole training, on each rank."""
    amount, rules = spec.amount, spec.config
    if amount.cycles is not None:
        return max(1, round(amount.cycles * rules.cycle_batches))
    if amount.max_time_s is not None and amount.epochs is None:
        return max(1, math.ceil(MORE_THAN_ENOUGH * amount.max_time_s / batch_s))
    return (amount.epochs or rules.training.epochs) * per_epoch


def start_at_mean(workload: Workload, model: torch.nn.Module, data: TrainingData) -> None:
    """Where the workload can and there are labels, let training begin at their mean."""
    labels = [data.labels[name].pk for name in data.split.train if name in data.labels]
    if labels and hasattr(workload, "start_at"):
        workload.start_at(model, fmean(labels))


def set_dropout(model: torch.nn.Module, share: float | None) -> None:
    """Give every dropout layer of `model` this share; None: leave them."""
    if share is None:
        return
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    if share and not layers:
        log.warning("training.dropout is %s, but this model has no dropout layer", share)
    for layer in layers:
        layer.p = share


def announce(run: TrainingRun) -> None:
    """Say beforehand what will be done and how long it should take."""
    plan, stream, split = run.spec.plan, run.stream, run.data.split
    batch_s, n_cycle = run.batch_s, run.spec.config.cycle_batches
    log.info("%s: %s, %s parameters", plan.stage, plan.choice.knobs, f"{plan.choice.capacity:,}")
    log.info(
        "%s complexes to train on, %s to validate, %s to test: %s",
        len(split.train),
        len(split.val),
        len(split.test),
        split.why,
    )
    log.info(
        "%d batches an epoch%s, %.1f graphs each, %d to an update; learning rate %.2g",
        stream.per_epoch, f" on each of {run.ranks.n} ranks" if run.ranks.n > 1 else "", run.sampler.mean_graphs,
        stream.accumulate, run.module.base_rate,
    )  # fmt: skip
    in_all_s = min(run.spec.amount.max_time_s or math.inf, batch_s * stream.n_batches)
    log.info(
        "expected: %s an epoch, %s a cycle of %d batches, %s in all (%.1f cycles), at most %s of memory%s",
        format_seconds(batch_s * stream.per_epoch), format_seconds(batch_s * n_cycle), n_cycle, format_seconds(in_all_s),
        in_all_s / batch_s / n_cycle, format_bytes(run.spec.budget_bytes), " a process" if run.ranks.n > 1 else "",
    )  # fmt: skip
