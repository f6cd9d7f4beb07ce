"""The largest batch, before the first one.

Memory is laid out as the certificate laid it out, largest first: batches of many sizes that come before the largest fragment a heap, so
that it no longer fits where it was certified to. And what does not fit says so in the first minute, not in batch 146.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch

from compass.errors import NonFiniteLoss
from compass.training.checkpoints import random_state, set_random_state
from compass.training.guard import batch_of
from compass.training.stream import Item, Position
from compass.training.updates import Updates
from compass.workloads.step import UpdatePart

if TYPE_CHECKING:
    from compass.batching.sampler import BudgetedBatchSampler
    from compass.records import Batch, BytesLaw
    from compass.training.data import TrainingData


def warm_up_memory(updates: Updates, batch: Batch, device: str) -> bool:
    """Compute the gradients of `batch` and throw them away; nothing that training depends on is changed. Returns whether it fitted.

    An out-of-memory is dealt with as in training. What the guard would cut is not rehearsed, for it will not be run whole.
    """
    if updates.several_processes or updates.guard.parts(batch) != ((batch,), ()):
        return False
    n_before = updates.counts.out_of_memory
    state = random_state(device)
    buffers = [(buffer, buffer.clone()) for buffer in updates.model.buffers()]
    with suppress(NonFiniteLoss):  # training will say so, if it comes to that
        updates.take(Item(batch, UpdatePart(last=False), Position(0, 0)), updates.workload.collate(batch))
    updates.optimizer.zero_grad(set_to_none=False)
    with torch.no_grad():
        for buffer, before in buffers:
            buffer.copy_(before)
    set_random_state(state, device)
    return updates.counts.out_of_memory == n_before


def largest_batch(data: TrainingData, sampler: BudgetedBatchSampler, law: BytesLaw, batch_size: int | None) -> Batch:
    """The batch that takes most: of the first epoch's, or the `batch_size` largest samples, if chance may bring them together."""
    ids = data.split.train

    def needs_bytes(batch: Batch) -> float:
        return law.upper_footprint(batch.load(data.loads))

    found = [batch_of([ids[place] for place in batch]) for step in sampler.steps(0) for batch in step]
    if batch_size is not None:
        apart = {*data.isolated, *sampler.left_out}
        together = sorted((name for name in ids if name not in apart), key=lambda name: needs_bytes(batch_of([name])))
        found.append(batch_of(together[-batch_size:]))
    return max((batch for batch in found if batch.members), key=needs_bytes)
