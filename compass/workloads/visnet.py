"""ViSNet (Wang et al., Nature Communications 2024) on protein–ligand graphs, regressing binding affinity.

PyG's ViSNet sees elements and positions only. Here ligand atoms have their own range of the element embedding, so that
the model can tell them from protein, and the readout is the mean over the ligand, so that the answer does not grow with
the pocket. Edges are precomputed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint
from torch_geometric.nn.models.visnet import EquivariantScalar, ViSNetBlock

from compass.data.graphs import Graph, made_up_for
from compass.errors import InputError
from compass.records import Batch, Knobs, Load, Scalar, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compass.data.bench import Bench
    from compass.data.dataset import Dataset
    from compass.optimizer_config import OptimizerConfig

N_ELEMENTS = 119
"""Atomic numbers 0 to 118; ligand atoms follow in a second range of as many."""
MODEL_VERSION = 1
"""Raised whenever the model, the loss or the step changes what was measured."""
OPTIONS = {"heads": range(1, 257), "lmax": range(1, 3), "rbf": range(1, 1025)}
"""The family's own knobs, and what they may be; PyG has spherical harmonics up to the second degree."""


@dataclass(frozen=True)
class GraphBatch:
    """Several graphs as one, disconnected.

    kinds (n,) int64 element, shifted for ligand atoms; positions (n, 3) Å; readout (n,) weight of each atom in its
    graph's mean over the ligand; graph_of (n,) int64; edge_index (2, e) int64, source and target; labels (g,) pK.
    """

    kinds: torch.Tensor
    positions: torch.Tensor
    readout: torch.Tensor
    graph_of: torch.Tensor
    edge_index: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device | str) -> GraphBatch:
        """The same batch on `device`."""
        return GraphBatch(**{name: tensor.to(device) for name, tensor in vars(self).items()})


class GivenEdges(torch.nn.Module):
    """Stands in for PyG's neighbour search: takes the edges it is handed and measures them.

    Returns what PyG's `Distance` does: edge_index (2, e), lengths (e,) and vectors (e, 3). The vectors are new every
    time, because ViSNet normalises them in place.
    """

    def forward(self, positions: torch.Tensor, edge_index: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """`edge_index` arrives where PyG passes its batch vector, which the block uses for nothing else."""
        vectors = positions[edge_index[0]] - positions[edge_index[1]]
        return edge_index, torch.linalg.vector_norm(vectors, dim=-1), vectors


class Checkpointed(torch.nn.Module):
    """A layer whose activations are recomputed in the backward pass instead of kept."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: torch.Tensor) -> Any:
        """What `layer` returns."""
        # No dropout inside, so no random state to save: saving it costs a copy per layer.
        return checkpoint(self.layer, *inputs, use_reentrant=False, preserve_rng_state=False)


class AffinityViSNet(torch.nn.Module):
    """ViSNet with a mean readout over the ligand; one number a graph."""

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
            layers = self.representation.vis_mp_layers
            self.representation.vis_mp_layers = torch.nn.ModuleList(Checkpointed(layer) for layer in layers)
        self.head = EquivariantScalar(hidden_channels=knobs.channels)

    def forward(self, batch: GraphBatch) -> torch.Tensor:
        """Predicted pK (g,)."""
        scalars, vectors = self.representation(batch.kinds, batch.positions, batch.edge_index)
        per_atom = self.head.pre_reduce(scalars, vectors).squeeze(-1)
        weighted = per_atom.float() * batch.readout
        return torch.zeros_like(batch.labels).index_add(0, batch.graph_of, weighted)


class ViSNetWorkload:
    """The family behind Compass's protocol."""

    name = "visnet"
    features = ("nodes", "edges")

    def __init__(self, config: OptimizerConfig) -> None:
        self._config = config

    @cached_property
    def _data(self) -> Dataset | Bench:
        if self._config.dataset.catalogue:
            from compass.data.dataset import Dataset

            return Dataset(self._config)
        from compass.data.bench import Bench

        return Bench(self._config)

    @property
    def digest(self) -> str:
        """Changes with the graphs and with the model's version."""
        return digest(self.name, MODEL_VERSION, self._config.graph, self._data.digest)

    def samples(self) -> Mapping[str, Load]:
        """The loads of the complexes at hand."""
        return self._data.loads

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """A ViSNet of `knobs`."""
        _check_options(dict(knobs.variant.options))
        heads = knobs.variant.option("heads")
        if knobs.channels % int(heads):
            raise InputError(
                "channels", got=str(knobs.channels), expected=f"a multiple of the {heads} attention heads",
                fix="Change space.channel_step or the number of heads.",
            )  # fmt: skip
        rules = self._config.graph
        return AffinityViSNet(knobs, cutoff=rules.cutoff, max_neighbours=rules.max_neighbours)

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The message-passing layers, without their checkpointing."""
        assert isinstance(model, AffinityViSNet)  # noqa: S101 - tells the type checker what build() returned
        return [getattr(layer, "layer", layer) for layer in model.representation.vis_mp_layers]

    def load(self, batch: Batch) -> Load:
        """Nodes and edges, self-loops included."""
        if batch.synthetic is not None:
            return batch.synthetic
        loads = [self._data.loads[name] * copies for name, copies in batch.members]
        return sum(loads[1:], loads[0])

    def collate(self, batch: Batch) -> GraphBatch:
        """The members' graphs, or one made-up graph of the batch's load."""
        if batch.synthetic is not None:
            load = batch.synthetic
            return collate([made_up_for(int(load["nodes"]), int(load["edges"]), self._config.seed)])
        return collate([graph for name, copies in batch.members for graph in [self._data.graph(name)] * copies])

    def loss(self, model: torch.nn.Module, batch: GraphBatch) -> torch.Tensor:
        """Mean squared error of the predicted pK."""
        return torch.nn.functional.mse_loss(model(batch), batch.labels)


def _check_options(options: dict[str, Scalar]) -> None:
    for name in sorted(OPTIONS | options):
        value = options.get(name, "nothing")
        if name not in OPTIONS:
            raise InputError(f"space.options.{name}", got=str(value), expected=f"only {', '.join(OPTIONS)}",
                             fix="Remove it, or choose another workload.")  # fmt: skip
        if type(value) is not int or value not in OPTIONS[name]:
            raise InputError(f"space.options.{name}", got=str(value), fix="Correct it.",
                             expected=f"a whole number from {OPTIONS[name][0]} to {OPTIONS[name][-1]}")  # fmt: skip


def collate(graphs: list[Graph]) -> GraphBatch:
    """`graphs` as one disconnected batch on the CPU."""
    sizes = np.array([graph.n_nodes for graph in graphs])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    edges = [graph.edge_index + start for graph, start in zip(graphs, starts, strict=True)]
    kinds = [graph.elements + N_ELEMENTS * graph.is_ligand for graph in graphs]
    readout = [graph.is_ligand / max(1, graph.is_ligand.sum()) for graph in graphs]
    return GraphBatch(
        kinds=torch.from_numpy(np.concatenate(kinds).astype(np.int64)),
        positions=torch.from_numpy(np.concatenate([graph.positions for graph in graphs]).astype(np.float32)),
        readout=torch.from_numpy(np.concatenate(readout).astype(np.float32)),
        graph_of=torch.from_numpy(np.repeat(np.arange(len(graphs)), sizes)),
        edge_index=torch.from_numpy(np.concatenate(edges, axis=1)),
        labels=torch.tensor([graph.label for graph in graphs], dtype=torch.float32),
    )
