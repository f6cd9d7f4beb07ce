"""SchNet (Schütt et al., JCP 2018) on protein–ligand graphs, regressing binding affinity."""

from __future__ import annotations

import torch
from torch_geometric.nn.models import SchNet

from compass.data.structures.graphs import Graph
from compass.records import Knobs
from compass.workloads.checkpointing import checkpointed, unwrapped
from compass.workloads.complexes import (
    N_ELEMENTS,
    GraphBatch,
    OnComplexes,
    collate,
    ligand_mean,
    without_self_loops,
)
from compass.workloads.options import check_options

_OPTIONS = {"gaussians": range(2, 1025)}
"""Knob of the family: Gaussians that a distance is expanded in."""


class AffinitySchNet(torch.nn.Module):
    """PyG's SchNet on given edges, with a mean readout over the ligand; one number for each graph.

    As in the publication, filters are as wide as the atoms' features.
    """

    def __init__(self, knobs: Knobs, *, cutoff: float) -> None:
        super().__init__()
        self.net = SchNet(
            hidden_channels=knobs.channels,
            num_filters=knobs.channels,
            num_interactions=knobs.layers,
            num_gaussians=knobs.variant.option("gaussians"),
            cutoff=cutoff,
        )
        self.net.embedding = torch.nn.Embedding(2 * N_ELEMENTS, knobs.channels)
        if knobs.variant.checkpointing:
            self.net.interactions = checkpointed(self.net.interactions, random=False)

    def forward(self, batch: GraphBatch) -> torch.Tensor:
        """Predicted pK (g,)."""
        net, (source, target) = self.net, batch.edge_index
        lengths = torch.linalg.vector_norm(batch.positions[source] - batch.positions[target], dim=-1)
        spread = net.distance_expansion(lengths)
        features = net.embedding(batch.kinds)
        for interaction in net.interactions:
            features = features + interaction(features, batch.edge_index, lengths, spread)
        per_atom = net.lin2(net.act(net.lin1(features))).squeeze(-1)
        return ligand_mean(per_atom, batch)


class SchNetWorkload(OnComplexes):
    """SchNet as a workload."""

    name = "schnet"
    space = {"layers": (2, 10), "channels": (32, 512), "options": {"gaussians": 50}}

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """A SchNet of `knobs`."""
        check_options(knobs, _OPTIONS)
        return AffinitySchNet(knobs, cutoff=self.config.graph.cutoff)

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The interaction blocks, unwrapped."""
        assert isinstance(model, AffinitySchNet)  # noqa: S101 - tells the type checker what build() returned
        return unwrapped(model.net.interactions)

    def join(self, graphs: list[Graph]) -> GraphBatch:
        """`graphs` as one batch without self-loops, which SchNet does not use."""
        return collate([without_self_loops(graph) for graph in graphs])
