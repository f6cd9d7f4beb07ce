"""The largest batch runs before the first one.

The certificate ran its largest batch first. Smaller batches before it may fragment the heap, so that the largest one no longer
fits although it was certified. And a batch that does not fit fails in the first minute, not at batch 146.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from compass.training.checkpoints import random_state, set_random_state
from compass.training.guard import batch_of
from compass.training.stream import Item, Position, RunSampler
from compass.training.updates import Updates
from compass.workloads.step import UpdatePart, has_own_step

if TYPE_CHECKING:
    from compass.records import Batch, BytesLaw
    from compass.training.data import TrainingData


def warm_up_memory(updates: Updates, batch: Batch, device: str) -> bool:
    """Compute the gradients of `batch` and discard them; returns whether it ran and fitted.

    Buffers and random states are restored afterwards, so that training is unaffected. An out-of-memory is handled as in
    training. A batch that the guard would cut is skipped, because training will not run it whole; so is every batch of a workload
    that makes its own updates, because these cannot be discarded.
    """
    if has_own_step(updates.workload):
        return False
    if updates.several_processes or updates.guard.parts(batch) != ((batch,), ()):
        return False
    n_before = updates.counts.out_of_memory
    state = random_state(device)
    buffers = [(buffer, buffer.clone()) for buffer in updates.model.buffers()]
    updates.take(Item(batch, UpdatePart(last=False), Position(0, 0)), updates.workload.collate(batch))
    updates.optimizer.zero_grad(set_to_none=False)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    set_random_state(state, device)
    return updates.counts.out_of_memory == n_before


def largest_batch(data: TrainingData, sampler: RunSampler, law: BytesLaw, batch_size: int | None) -> Batch:
    """The batch with the largest upper footprint: one of the first epoch's or, for fixed batches, the `batch_size` largest samples.

    Args:
        data: the training samples.
        sampler: gives the batches of the first epoch.
        law: predicts memory.
        batch_size: of fixed batches, whose members chance selects; None: budgeted batches.
    """
    ids = data.split.train

    def needs_bytes(batch: Batch) -> float:
        return law.upper_footprint(batch.load(data.loads))

    found = [batch_of([ids[place] for place in batch]) for step in sampler.steps(0) for batch in step]
    if batch_size is not None:
        apart = {*data.isolated, *sampler.left_out}
        together = sorted((name for name in ids if name not in apart), key=lambda name: needs_bytes(batch_of([name])))
        found.append(batch_of(together[-batch_size:]))
    return max((batch for batch in found if batch.members), key=needs_bytes)
