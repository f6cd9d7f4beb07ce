"""What model families on protein–ligand complexes have in common: their data, their batches, and the loss.

Ligand atoms have their own range of the element embedding, so that a model can tell them from protein, and the readout is
the mean over the ligand, so that the answer does not grow with the pocket. Edges are precomputed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np
import torch

from compass.data.structures.graphs import Graph, synthetic_load_for
from compass.records import Batch, Load, digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from compass.data.graphs.bench import Bench
    from compass.data.graphs.dataset import Dataset
    from compass.optimizer_config import OptimizerConfig

LOSS_VERSION = 2
"""Raised whenever the batch, the loss or the step changes what was measured."""
N_ELEMENTS = 119
"""Atomic numbers 0 to 118; ligand atoms follow in a second range of as many."""
BOUNDS = {"<": -1.0, ">": 1.0}
"""On which side of a label that is a bound the truth lies; other labels are met from both sides."""


@dataclass(frozen=True)
class GraphBatch:
    """Several graphs as one, disconnected.

    kinds (n,) int64 element, shifted for ligand atoms; positions (n, 3) Å; readout (n,) weight of each atom in its
    graph's mean over the ligand; graph_of (n,) int64; edge_index (2, e) int64, source and target; labels (g,) pK;
    bounds (g,) 1 where the true pK is above the label, −1 where it is below, 0 where it is the label.
    """

    kinds: torch.Tensor
    positions: torch.Tensor
    readout: torch.Tensor
    graph_of: torch.Tensor
    edge_index: torch.Tensor
    labels: torch.Tensor
    bounds: torch.Tensor

    def to(self, device: torch.device | str) -> Self:
        """The same batch on `device`."""
        return type(self)(**{
            name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in vars(self).items()
        })  # fmt: skip


class OnComplexes:
    """The part of the workload protocol that does not depend on the model; a family adds `name`, `build` and `blocks`.

    A family with sizes beside nodes and edges names them in `features` and gives them in `sizes_of`.
    """

    name: str
    version = 1
    """Raised whenever the model changes what was measured."""
    features: tuple[str, ...] = ("nodes", "edges")
    supports_checkpointing = True
    micro_graphs: tuple[tuple[int, int], ...] = ()
    """(atoms, neighbours) of its made-up graphs; empty: the configured ones."""

    def __init__(self, config: OptimizerConfig) -> None:
        self.config = config

    @cached_property
    def _data(self) -> Dataset | Bench:
        if self.config.dataset.catalogue:
            from compass.data.graphs.dataset import Dataset

            return Dataset(self.config)
        from compass.data.graphs.bench import Bench

        return Bench(self.config)

    @property
    def digest(self) -> str:
        """Changes with the graphs and with the model's version."""
        return digest(self.name, self.version, LOSS_VERSION, self.config.graph, self._data.digest)

    def samples(self) -> Mapping[str, Load]:
        """The loads of the complexes at hand."""
        return self._loads

    @cached_property
    def _loads(self) -> Mapping[str, Load]:
        return self._data.loads

    def sizes_of(self, graph: Graph) -> Mapping[str, float]:
        """The sizes of `graph`."""
        return {"nodes": graph.n_nodes, "edges": graph.n_edges}

    def load_of(self, graph: Graph) -> Load:
        """The load of one copy of `graph`."""
        sizes = self.sizes_of(graph)
        return Load(graphs=1, sizes=tuple((name, float(sizes[name])) for name in self.features))

    @property
    def micro_loads(self) -> tuple[Load, ...]:
        """Of the made-up graphs that are calibrated on."""
        shapes = self.micro_graphs or self.config.probe.micro_loads
        return tuple(self.load_of(self._made_up(n, n * (neighbours + 1))) for n, neighbours in shapes)

    def _made_up(self, nodes: float, edges: float) -> Graph:
        return synthetic_load_for(int(nodes), int(edges), self.config.seed)

    def load(self, batch: Batch) -> Load:
        """Nodes and edges, self-loops included."""
        return batch.load(self.samples())

    def collate(self, batch: Batch) -> GraphBatch:
        """The members' graphs, or one made-up graph of the batch's load."""
        if batch.synthetic is not None:
            return self.join([self._made_up(batch.synthetic["nodes"], batch.synthetic["edges"])])
        return self.join([graph for name, copies in batch.members for graph in [self._data.graph(name)] * copies])

    def join(self, graphs: list[Graph]) -> GraphBatch:
        """`graphs` as one batch on the CPU, as the family takes it."""
        return collate(graphs)

    def predict(self, model: torch.nn.Module, batch: GraphBatch) -> torch.Tensor:
        """Predicted pK (g,)."""
        predicted: torch.Tensor = model(batch)
        shift = getattr(model, "shift", None)
        return predicted if shift is None else predicted + shift

    def loss(self, model: torch.nn.Module, batch: GraphBatch) -> torch.Tensor:
        """Mean squared error of the predicted pK; a bound costs only what lies on its wrong side."""
        return censored(self.predict(model, batch) - batch.labels, batch.bounds).square().mean()

    def start_at(self, model: torch.nn.Module, mean_pk: float) -> None:
        """Have a fresh `model` predict about `mean_pk`, which it would else spend its first hundreds of updates to learn."""
        device = next(model.parameters()).device
        model.register_buffer("shift", torch.tensor(mean_pk, dtype=torch.float32, device=device))


def ligand_mean(per_atom: torch.Tensor, batch: GraphBatch) -> torch.Tensor:
    """The mean of `per_atom` (n,) over each graph's ligand (g,), in single precision."""
    return torch.zeros_like(batch.labels).index_add(0, batch.graph_of, per_atom.float() * batch.readout)


def without_self_loops(graph: Graph) -> Graph:
    """`graph` as families have it that join no atom to itself."""
    source, target = graph.edge_index
    return replace(graph, edge_index=graph.edge_index[:, source != target])


def censored(error: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """`error` (g,) of predictions, without what lies on the right side of `bounds` (g,)."""
    return torch.where(error * bounds > 0, torch.zeros_like(error), error)


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
        bounds=torch.tensor([BOUNDS.get(graph.relation, 0.0) for graph in graphs], dtype=torch.float32),
    )
