"""One of two unequal ranks: `python unequal_rank.py FOLDER RANK CEILING_BYTES N_THREADS`; writes its gradients into FOLDER."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import torch
from torch_geometric.data import Batch, Data

from compass.batching.unequal import loss_weight
from compass.device.ceiling import cpu_ceiling
from compass.optimizer_config import TrainingRules
from compass.probe.rank_group import Alone, RankGroup
from compass.probe.ranks import RankPlace
from compass.records import Variant
from compass.workloads.step import UpdatePart, training_step

N_GRAPHS, SHARES = 12, (9, 3)
"""Graphs of the step, and of each rank: the first is three times as fast."""


class Regression:
    """Sums of an atom-wise network, compared with labels."""

    def loss(self, model, batch):
        per_graph = torch.zeros(batch.num_graphs, dtype=batch.x.dtype).index_add_(
            0, batch.batch, model(batch.x).squeeze(1)
        )
        return (per_graph - batch.y).square().mean()


def graphs():
    """Of double precision: sums of single precision in another order differ by as much as what is looked for."""
    generator = torch.Generator().manual_seed(1)
    for place in range(N_GRAPHS):
        n_nodes = 40 + 37 * place
        x, y = torch.randn(n_nodes, 8, generator=generator) / n_nodes**0.5, torch.randn(1, generator=generator)
        yield Data(x=x.double(), y=y.double())


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(8, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1)).double()


def gradients(group, members, weight):
    model, workload = network(), Regression()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    part = UpdatePart(weight, first=True, last=False)  # gradients are kept as they are, unclipped
    training_step(
        group.share(workload, model),
        model,
        optimizer,
        Batch.from_data_list(members),
        Variant(),
        TrainingRules(),
        part=part,
    )
    return [weight.grad.clone() for weight in model.parameters()]


def main(folder, rank, ceiling_bytes, n_threads):
    torch.set_num_threads(n_threads)
    every = list(graphs())
    members = every[: SHARES[0]] if rank == 0 else every[SHARES[0] :]
    ceiling = cpu_ceiling(ceiling_bytes) if ceiling_bytes else nullcontext()
    with ceiling:
        group = RankGroup(RankPlace(rank=rank, n_ranks=2, meeting=Path(folder) / "ranks"), "cpu")
        found = gradients(group, members, loss_weight(len(members), N_GRAPHS, 2))
    torch.save(found, Path(folder) / f"gradients-{rank}.pt")


def gradients_alone():
    return gradients(Alone(), list(graphs()), 1.0)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
