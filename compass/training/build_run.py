"""Building a run: data, batches, guard and model."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

import torch

from compass.batching.unequal import UnequalBatches
from compass.device import Meter, detect, meter_for, resolve
from compass.records import Batch, BytesLaw, StagePlan, device_kind
from compass.training.checkpoints import Checkpoints
from compass.training.cycle_report import predicted_batch_s
from compass.training.data import TrainingData, open_data, without_left_out
from compass.training.guard import Guard
from compass.training.memory_warmup import largest_batch
from compass.training.module import Module
from compass.training.ranks import Ranks, ranks_of
from compass.training.run_batches import footprint_bound, make_sampler, make_stream
from compass.training.run_spec import RunSpec
from compass.training.schedule import learning_rate
from compass.training.stream import RunSampler, Stream
from compass.workloads.building import build
from compass.workloads.registry import load_workload

if TYPE_CHECKING:
    from compass.workloads.protocol import Workload

log = logging.getLogger(__name__)


@dataclass
class TrainingRun:
    """Everything that one process holds open during a run."""

    spec: RunSpec
    folder: Path
    workload: Workload
    device: str
    meter: Meter
    ranks: Ranks
    data: TrainingData
    sampler: RunSampler
    stream: Stream
    guard: Guard
    module: Module
    checkpoints: Checkpoints
    largest: Batch
    """The batch with the largest predicted memory; it runs before the first one."""
    bound_bytes: int
    """The footprint that no batch should exceed."""
    batch_s: float
    """The predicted time of the mean batch."""
    waiting: list[tuple[Batch, float]] = field(default_factory=list)
    """Samples that an interrupted run had deferred, with their weight in an update."""


def open_run(spec: RunSpec, folder: Path) -> TrainingRun:
    """Everything of a run before its first step.

    Raises:
        InputError: the device, the workload, the data or the kind of batches cannot be used.
    """
    ranks = ranks_of(spec)
    workload = load_workload(spec.workload, spec.config)
    device, meter = _open_device(spec, ranks)
    data = without_left_out(open_data(workload, spec.config), spec.plan, spec.noun)
    law = law_of_rank(spec.plan, ranks.n)
    sampler = make_sampler(spec, data, ranks, law)
    batch_s = _batch_s(spec, sampler)
    stream = make_stream(spec, data, sampler, ranks, batch_s)
    graphs_per_update = sampler.mean_graphs * ranks.n * stream.accumulate
    module = _make_module(spec, workload, data, graphs_per_update, stream.n_updates)
    buffers = [name for name, _ in module.model.named_buffers()]
    largest = largest_batch(data, sampler, law, spec.plan.choice.batch_size if spec.batching == "batch_size" else None)
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
        guard=Guard(law, data.loads, spec.budget_of(ranks.rank), meter.obtainable_bytes, spec.plan.least_batch),
        module=module,
        checkpoints=Checkpoints(folder / "checkpoints", spec.config.training.keep_last, buffers),
        largest=largest,
        bound_bytes=footprint_bound(spec, largest.load(data.loads), law),
        batch_s=batch_s,
    )


def _batch_s(spec: RunSpec, sampler: RunSampler) -> float:
    """The predicted time of the mean batch, in seconds; of unequal ranks the slowest one's."""
    if isinstance(sampler, UnequalBatches):
        return sampler.mean_step_s
    return predicted_batch_s(spec.plan, sampler.mean_load, budgeted=spec.batching == "batch_budget")


def law_of_rank(plan: StagePlan, n_ranks: int) -> BytesLaw:
    """The memory of a process of `n_ranks`; a plan for several devices has their law already."""
    law = plan.bytes_law
    return law.in_ranks(plan.choice.capacity) if n_ranks > 1 and plan.ranks is None else law


def set_dropout(model: torch.nn.Module, share: float | None) -> None:
    """Give every dropout layer of `model` the probability `share`; None leaves them unchanged."""
    if share is None:
        return
    layers = [layer for layer in model.modules() if isinstance(layer, torch.nn.Dropout)]
    if share and not layers:
        log.warning("training.dropout is %s, but this model has no dropout layer", share)
    for layer in layers:
        layer.p = share


def _open_device(spec: RunSpec, ranks: Ranks) -> tuple[str, Meter]:
    """The device of this rank, and its memory meter."""
    device = resolve(spec.device)
    kind = device_kind(device)
    if ranks.n > 1 and kind.has_index:
        first = int(device.partition(":")[2] or 0)
        device = f"{kind.name}:{first + ranks.local}"
    hardware = detect(device, limit_bytes=None, reserve_share=spec.config.memory.reserve_share)
    return device, meter_for(device, hardware)


def _make_module(
    spec: RunSpec, workload: Workload, data: TrainingData, graphs_per_update: float, n_updates: int
) -> Module:
    """The planned model with its initial weights, which depend on the seed alone, and its learning rate."""
    rules, knobs = spec.config.training, spec.plan.choice.knobs
    torch.manual_seed(spec.config.seed)
    model = build(workload, knobs).train()
    _start_at_mean(workload, model, data)
    set_dropout(model, rules.dropout)
    rate = learning_rate(graphs_per_update, rules)
    return Module(workload, model, knobs.variant, rules, learning_rate=rate, n_updates=n_updates)


def _start_at_mean(workload: Workload, model: torch.nn.Module, data: TrainingData) -> None:
    """Let training begin at the mean of the training labels, if there are any and the workload supports it."""
    labels = [data.labels[name].pk for name in data.split.train if name in data.labels]
    if labels and hasattr(workload, "start_at"):
        workload.start_at(model, fmean(labels))
