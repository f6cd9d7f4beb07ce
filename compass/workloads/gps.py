"""A graph transformer after GPS (Rampášek et al., NeurIPS 2022) on protein–ligand graphs, regressing binding affinity.

Each layer passes messages along the edges, lets each atom attend to all atoms of its graph, and adds both. Memory and time of
attention grow with the square of a graph's atoms, which is a feature of its own. PyG's `GPSConv` pads a batch to its largest
graph. This one does not (see `attention`), so that sizes add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch_geometric.nn import GINEConv
from torch_geometric.nn.models.schnet import GaussianSmearing

from compass.data.structures.graphs import Graph
from compass.records import Knobs, Load
from compass.workloads.attention import attend
from compass.workloads.checkpointing import checkpointed, unwrapped
from compass.workloads.complexes import (
    N_ELEMENTS,
    GraphBatch,
    OnComplexes,
    collate,
    ligand_mean,
    without_self_loops,
)
from compass.workloads.options import check_channels_per_head, check_options

_OPTIONS = {"heads": range(1, 257), "rbf": range(2, 1025)}
"""Knobs of the family: attention heads, and Gaussians that a distance is expanded in."""


@dataclass(frozen=True)
class SizedBatch(GraphBatch):
    """A batch with its graphs' sizes in main memory."""

    sizes: tuple[int, ...]
    """Atoms of each graph, (g,)."""


class Attention(torch.nn.Module):
    """Multi-head attention among the atoms of each graph."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inward = torch.nn.Linear(channels, 3 * channels)
        self.outward = torch.nn.Linear(channels, channels)

    def forward(self, atoms: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        """The attended features (n, C) of `atoms` (n, C)."""
        n_atoms, channels = atoms.shape
        q, k, v = self.inward(atoms).view(n_atoms, 3, self.heads, -1).permute(1, 2, 0, 3).contiguous().unbind(0)
        attended = attend(q, k, v, sizes)
        out: torch.Tensor = self.outward(attended.transpose(0, 1).reshape(n_atoms, channels))
        return out


class Near(torch.nn.Module):
    """Messages along edges."""

    def __init__(self, channels: int, n_rbf: int) -> None:
        super().__init__()
        self.messages = GINEConv(_perceptron(channels, channels), edge_dim=n_rbf)
        self.norm = torch.nn.LayerNorm(channels)

    def forward(self, atoms: torch.Tensor, edge_index: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        """Updated features (n, C) of `atoms` (n, C); `spread` (e, G) holds the edges' lengths in Gaussians."""
        out: torch.Tensor = self.norm(atoms + self.messages(atoms, edge_index, spread))
        return out


class Far(torch.nn.Module):
    """Attention within graphs, and a perceptron on its sum with the messages' result."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(channels, heads)
        self.perceptron = _perceptron(channels, 2 * channels)
        self.norms = torch.nn.ModuleList(torch.nn.LayerNorm(channels) for _ in range(2))

    def forward(self, atoms: torch.Tensor, near: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
        """Updated features (n, C), from the layer's input `atoms` (n, C) and the messages' result `near` (n, C)."""
        both = near + self.norms[0](atoms + self.attention(atoms, sizes))
        out: torch.Tensor = self.norms[1](both + self.perceptron(both))
        return out


class GPSLayer(torch.nn.Module):
    """A layer: messages along edges, then attention within graphs."""

    def __init__(self, channels: int, heads: int, n_rbf: int) -> None:
        super().__init__()
        self.near = Near(channels, n_rbf)
        self.far = Far(channels, heads)

    def forward(
        self, atoms: torch.Tensor, edge_index: torch.Tensor, spread: torch.Tensor, sizes: tuple[int, ...]
    ) -> torch.Tensor:
        """Updated features (n, C) of `atoms` (n, C)."""
        out: torch.Tensor = self.far(atoms, self.near(atoms, edge_index, spread), sizes)
        return out


class AffinityGPS(torch.nn.Module):
    """An embedding, the layers, and a mean readout over the ligand; one number for each graph."""

    def __init__(self, knobs: Knobs, *, cutoff: float) -> None:
        super().__init__()
        heads, n_rbf = int(knobs.variant.option("heads")), int(knobs.variant.option("rbf"))
        self.embedding = torch.nn.Embedding(2 * N_ELEMENTS, knobs.channels)
        self.spread = GaussianSmearing(0.0, cutoff, n_rbf)
        layers = torch.nn.ModuleList(GPSLayer(knobs.channels, heads, n_rbf) for _ in range(knobs.layers))
        self.layers = checkpointed(layers, random=False) if knobs.variant.checkpointing else layers
        self.head = torch.nn.Sequential(
            torch.nn.Linear(knobs.channels, knobs.channels), torch.nn.SiLU(), torch.nn.Linear(knobs.channels, 1)
        )

    def forward(self, batch: SizedBatch) -> torch.Tensor:
        """Predicted pK (g,)."""
        source, target = batch.edge_index
        lengths = torch.linalg.vector_norm(batch.positions[source] - batch.positions[target], dim=-1)
        spread = self.spread(lengths)
        atoms = self.embedding(batch.kinds)
        for layer in self.layers:
            atoms = layer(atoms, batch.edge_index, spread, batch.sizes)
        return ligand_mean(self.head(atoms).squeeze(-1), batch)


class GPSWorkload(OnComplexes):
    """The graph transformer as a workload."""

    name = "gps"
    features = ("nodes", "edges", "nodes_squared")
    space = {"layers": (3, 12), "channels": (32, 384), "options": {"heads": 8, "rbf": 32}}
    micro_graphs = ((60, 8), (60, 24), (120, 8), (240, 8))

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """A graph transformer of `knobs`."""
        check_options(knobs, _OPTIONS)
        check_channels_per_head(knobs)
        return AffinityGPS(knobs, cutoff=self.config.graph.cutoff)

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The two halves of each layer, unwrapped. A graph's size decides which of them holds the peak."""
        assert isinstance(model, AffinityGPS)  # noqa: S101 - tells the type checker what build() returned
        return [half for layer in unwrapped(model.layers) for half in layer.children()]

    def join(self, graphs: list[Graph]) -> SizedBatch:
        """`graphs` as one batch with their sizes and without self-loops."""
        joined = collate([without_self_loops(graph) for graph in graphs])
        return SizedBatch(**vars(joined), sizes=tuple(graph.n_nodes for graph in graphs))

    def sizes_of(self, graph: Graph) -> Mapping[str, float]:
        """Nodes, edges, and the square of the nodes."""
        return {**super().sizes_of(graph), "nodes_squared": graph.n_nodes**2}

    @cached_property
    def _loads(self) -> Mapping[str, Load]:
        return {
            name: Load(graphs=1, sizes=(*load.sizes, ("nodes_squared", load["nodes"] ** 2)))
            for name, load in self._data.loads.items()
        }


def _perceptron(channels: int, inner: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(torch.nn.Linear(channels, inner), torch.nn.SiLU(), torch.nn.Linear(inner, channels))
