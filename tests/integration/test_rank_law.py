"""The law of a rank beside torch's own memory tracker, with a process group that only pretends: any number of ranks, one process."""

import pytest
import torch
from torch.distributed.algorithms.ddp_comm_hooks.debugging_hooks import noop_hook

from compass.records import Affine, BytesLaw

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed training"),
]
WIDTH, N_STEPS = 512, 3
LAW = BytesLaw(segments=(("step", Affine(base=0.0, per_unit=(("rows", 1.0),))),))


def peak_bytes(n_ranks, n_rows):
    """(parameters, torch's count of the peak) of some steps of rank 0 of `n_ranks`."""
    fake = pytest.importorskip("torch.testing._internal.distributed.fake_pg")
    tracking = pytest.importorskip("torch.distributed._tools.mem_tracker")
    torch.manual_seed(0)
    layers = [part for _ in range(4) for part in (torch.nn.Linear(WIDTH, WIDTH), torch.nn.SiLU())]
    model = torch.nn.Sequential(*layers)
    optimizer, rows = torch.optim.AdamW(model.parameters()), torch.randn(n_rows, WIDTH)
    tracker = tracking.MemTracker()
    tracker.track_external(model, optimizer, rows)
    if n_ranks > 1:
        torch.distributed.init_process_group("fake", store=fake.FakeStore(), rank=0, world_size=n_ranks)
    try:
        with tracker:
            _steps(model if n_ranks == 1 else _wrapped(model), optimizer, rows, tracker)
    finally:
        if n_ranks > 1:
            torch.distributed.destroy_process_group()
    [on_cpu] = tracker.get_tracker_snapshot("peak").values()
    return sum(weight.numel() for weight in model.parameters()), on_cpu["Total"]


def _wrapped(model):
    wrapped = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True, broadcast_buffers=False)
    wrapped.register_comm_hook(None, noop_hook)  # the tracker cannot follow a collective of a pretended group
    return wrapped


def _steps(model, optimizer, rows, tracker):
    for _ in range(N_STEPS):
        optimizer.zero_grad(set_to_none=False)
        tracker.reset_mod_stats()
        model(rows).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("n_rows", [64, 2048])
def test_the_law_of_a_rank_bounds_what_torch_counts_at_any_number_of_ranks(n_rows):
    capacity, alone_bytes = peak_bytes(1, n_rows)
    together = {n_ranks: peak_bytes(n_ranks, n_rows)[1] for n_ranks in (2, 8, 64)}
    [[_, piece]] = LAW.in_ranks(capacity).segments
    assert alone_bytes <= max(together.values()) <= alone_bytes + piece.base
    assert len(set(together.values())) == 1  # what a rank holds does not depend on their number
