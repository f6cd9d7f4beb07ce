"""DimeNet++ (Gasteiger et al., 2020) on protein–ligand graphs, regressing binding affinity.

Messages are on edges and pass along triplets k → j → i. There are a hundred times more triplets than atoms, so they are a
feature of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch_geometric.nn.models.dimenet import (
    BesselBasisLayer,
    EmbeddingBlock,
    InteractionPPBlock,
    OutputPPBlock,
)

from compass.data.structures.graphs import Graph
from compass.records import Knobs, Load
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
from compass.workloads.spherical import SphericalBasis
from compass.workloads.triplets import cached_counts, count_triplets, triplets

_OPTIONS = {
    "basis": range(1, 129),
    "radial": range(1, 65),
    "spherical": range(2, 17),
    "triplet_channels": range(1, 1025),
}
"""Knobs of the family: embedding width of the bases, radial and spherical functions, width of a triplet's message."""
DEFAULTS = {"basis": 8, "radial": 6, "spherical": 7, "triplet_channels": 64}
"""Values of the publication."""


@dataclass(frozen=True)
class TripletBatch(GraphBatch):
    """A batch with its triplets.

    out_of (t,) int64 edge k → j; into (t,) int64 edge j → i.
    """

    out_of: torch.Tensor
    into: torch.Tensor


class DimeNetGeometry(NamedTuple):
    """Geometry of edges and triplets, the same for all layers.

    radial (e, R) and spherical (t, S·R) bases; target (e,) atom of an edge; out_of and into (t,) edges.
    """

    radial: torch.Tensor
    spherical: torch.Tensor
    target: torch.Tensor
    out_of: torch.Tensor
    into: torch.Tensor


class DimeNetLayer(torch.nn.Module):
    """An interaction block of the edges' messages, and an output block that adds them to the atoms."""

    def __init__(self, knobs: Knobs) -> None:
        super().__init__()
        option, act = knobs.variant.option, torch.nn.functional.silu
        self.interaction = InteractionPPBlock(
            knobs.channels,
            option("triplet_channels"),
            option("basis"),
            option("spherical"),
            option("radial"),
            1,
            2,
            act,
        )
        self.output = make_output(knobs)

    def forward(
        self, messages: torch.Tensor, atoms: torch.Tensor, shape: DimeNetGeometry
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Updated messages (e, C), and `atoms` (n, 1) with the layer's output added."""
        messages = self.interaction(messages, shape.radial, shape.spherical, shape.out_of, shape.into)
        return messages, atoms + self.output(messages, shape.radial, shape.target, num_nodes=len(atoms))


class AffinityDimeNet(torch.nn.Module):
    """PyG's DimeNet++ on given edges and triplets, with a mean readout over the ligand; one number for each graph."""

    def __init__(self, knobs: Knobs, *, cutoff: float) -> None:
        super().__init__()
        option, act = knobs.variant.option, torch.nn.functional.silu
        self.radial = BesselBasisLayer(option("radial"), cutoff)
        self.spherical = SphericalBasis(int(option("spherical")), int(option("radial")), cutoff)
        self.embedding = EmbeddingBlock(option("radial"), knobs.channels, act)
        self.embedding.emb = torch.nn.Embedding(2 * N_ELEMENTS, knobs.channels)
        self.output = make_output(knobs)
        layers = torch.nn.ModuleList(DimeNetLayer(knobs) for _ in range(knobs.layers))
        self.layers = checkpointed(layers, random=False) if knobs.variant.checkpointing else layers

    def forward(self, batch: TripletBatch) -> torch.Tensor:
        """Predicted pK (g,)."""
        source, target = batch.edge_index
        vectors = batch.positions[target] - batch.positions[source]
        lengths = torch.linalg.vector_norm(vectors, dim=-1)
        one, other = vectors[batch.into], vectors[batch.out_of]
        cosines = (one * other).sum(dim=-1) / (lengths[batch.into] * lengths[batch.out_of])
        radial = self.radial(lengths)
        spherical = self.spherical(lengths, cosines, batch.out_of)
        messages = self.embedding(batch.kinds, radial, target, source)
        atoms = self.output(messages, radial, target, num_nodes=len(batch.kinds))
        shape = DimeNetGeometry(radial, spherical, target, batch.out_of, batch.into)
        for layer in self.layers:
            messages, atoms = layer(messages, atoms, shape)
        return ligand_mean(atoms.squeeze(-1), batch)


def make_output(knobs: Knobs) -> OutputPPBlock:
    """An output block, from messages to atoms; twice as wide inside, as in the publication."""
    act = torch.nn.functional.silu
    return OutputPPBlock(
        knobs.variant.option("radial"), knobs.channels, 2 * knobs.channels, 1, 3, act, "glorot_orthogonal"
    )


class DimeNetWorkload(OnComplexes):
    """DimeNet++ as a workload."""

    name = "dimenet++"
    features = ("nodes", "edges", "triplets")
    space = {"layers": (3, 8), "channels": (32, 256), "channels_per_layer": (12, 48), "options": DEFAULTS}
    micro_graphs = ((60, 12), (60, 20), (60, 28), (90, 16))

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """A DimeNet++ of `knobs`."""
        check_options(knobs, _OPTIONS)
        return AffinityDimeNet(knobs, cutoff=self.config.graph.cutoff)

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The interaction and the output of each layer, unwrapped."""
        assert isinstance(model, AffinityDimeNet)  # noqa: S101 - tells the type checker what build() returned
        return [half for layer in unwrapped(model.layers) for half in layer.children()]

    def join(self, graphs: list[Graph]) -> TripletBatch:
        """`graphs` as one batch with triplets and without self-loops."""
        joined = collate([without_self_loops(graph) for graph in graphs])
        out_of, into = triplets(joined.edge_index.numpy(), len(joined.kinds))
        return TripletBatch(**vars(joined), out_of=torch.from_numpy(out_of), into=torch.from_numpy(into))

    def sizes_of(self, graph: Graph) -> Mapping[str, float]:
        """Nodes, edges, and the number of triplets."""
        return {**super().sizes_of(graph), "triplets": _count(graph)}

    @cached_property
    def _loads(self) -> Mapping[str, Load]:
        """Loads with triplets. No catalogue holds these, so each graph is built once and its count kept beside the catalogue."""
        data, catalogue = self._data, self.config.dataset.catalogue
        if not catalogue:
            return {name: self.load_of(data.graph(name)) for name in data.loads}
        place = Path(f"{catalogue}.triplets.json")
        counts = cached_counts(place, data.digest, data.loads, lambda name: _count(data.graph(name)))
        return {
            name: Load(graphs=1, sizes=(*load.sizes, ("triplets", float(counts[name]))))
            for name, load in data.loads.items()
        }


def _count(graph: Graph) -> int:
    edges: np.ndarray = without_self_loops(graph).edge_index
    return count_triplets(edges, graph.n_nodes)
