"""ViSNet (Wang et al., Nature Communications 2024) on protein–ligand graphs, regressing binding affinity."""

from __future__ import annotations

import torch
from torch_geometric.nn.models.visnet import EquivariantScalar, ViSNetBlock

from compass.optimizer_config import SpaceRules
from compass.records import Knobs
from compass.workloads.checkpointing import checkpointed, unwrapped
from compass.workloads.complexes import N_ELEMENTS, GraphBatch, OnComplexes, ligand_mean
from compass.workloads.options import check_channels_per_head, check_options

VISNET_OPTIONS = {"heads": range(1, 257), "lmax": range(1, 3), "rbf": range(1, 1025)}
"""Knobs of the family with their ranges. PyG has spherical harmonics up to the second degree."""


class GivenEdges(torch.nn.Module):
    """Replaces PyG's neighbour search: takes given edges and measures them.

    Returns the same as PyG's `Distance`: edge_index (2, e), lengths (e,) and vectors (e, 3). The vectors are a new tensor in
    each call, because ViSNet normalises them in place.
    """

    def forward(self, positions: torch.Tensor, edge_index: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`edge_index` takes the place of PyG's batch vector, which the block passes on without using it."""
        vectors = positions[edge_index[0]] - positions[edge_index[1]]
        return edge_index, torch.linalg.vector_norm(vectors, dim=-1), vectors


class AffinityViSNet(torch.nn.Module):
    """ViSNet with a mean readout over the ligand; one number for each graph."""

    def __init__(self, knobs: Knobs, *, cutoff: float, max_neighbours: int) -> None:
        super().__init__()
        self.representation = ViSNetBlock(
            lmax=knobs.variant.option("lmax"),
            num_heads=knobs.variant.option("heads"),
            num_layers=knobs.layers,
            hidden_channels=knobs.channels,
            num_rbf=knobs.variant.option("rbf"),
            max_z=2 * N_ELEMENTS,
            cutoff=cutoff,
            max_num_neighbors=max_neighbours,
        )
        self.representation.distance = GivenEdges()
        if knobs.variant.checkpointing:
            self.representation.vis_mp_layers = checkpointed(self.representation.vis_mp_layers, random=False)
        self.head = EquivariantScalar(hidden_channels=knobs.channels)

    def forward(self, batch: GraphBatch) -> torch.Tensor:
        """Predicted pK (g,)."""
        scalars, vectors = self.representation(batch.kinds, batch.positions, batch.edge_index)
        per_atom = self.head.pre_reduce(scalars, vectors).squeeze(-1)
        return ligand_mean(per_atom, batch)


class ViSNetWorkload(OnComplexes):
    """ViSNet as a workload."""

    name = "visnet"
    space = {"options": SpaceRules().options}

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """A ViSNet of `knobs`."""
        check_options(knobs, VISNET_OPTIONS)
        check_channels_per_head(knobs)
        rules = self.config.graph
        return AffinityViSNet(knobs, cutoff=rules.cutoff, max_neighbours=rules.max_neighbours)

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The message-passing layers, unwrapped."""
        assert isinstance(model, AffinityViSNet)  # noqa: S101 - tells the type checker what build() returned
        return unwrapped(model.representation.vis_mp_layers)
