"""The common part of model families on protein–ligand complexes: data, batches and loss.

Ligand atoms have their own range of the element embedding, so that a model can tell them from the protein. The readout is the
mean over the ligand, so that the prediction does not grow with the pocket. Edges are precomputed.
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
"""Part of the digest. Raised if a change of the batch or the loss invalidates earlier measurements."""
N_ELEMENTS = 119
"""Atomic numbers 0 to 118. Ligand atoms have a second range of the same length."""
BOUNDS = {"<": -1.0, ">": 1.0}
"""The side of a label on which the true value lies, if the label is a bound."""


@dataclass(frozen=True)
class GraphBatch:
    """Several graphs as one, disconnected.

    kinds (n,) int64 element, shifted for ligand atoms; positions (n, 3) Å; readout (n,) weight of each atom in the mean
    over its graph's ligand; graph_of (n,) int64; edge_index (2, e) int64, source and target; labels (g,) pK; bounds (g,)
    1 where the true pK is above the label, −1 where it is below, 0 where it equals the label.
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
        return type(self)(
            **{
                name: value.to(device) if isinstance(value, torch.Tensor) else value
                for name, value in vars(self).items()
            }
        )


class OnComplexes:
    """The part of the workload protocol that does not depend on the model; a family adds `name`, `build` and `blocks`.

    A family with sizes beside nodes and edges names them in `features` and returns them from `sizes_of`.
    """

    name: str
    version = 1
    """Part of the digest. Raised if a change of the model invalidates earlier measurements."""
    features: tuple[str, ...] = ("nodes", "edges")
    supports_checkpointing = True
    noun = ""
    """Complexes, in batches of graphs."""
    micro_graphs: tuple[tuple[int, int], ...] = ()
    """(atoms, neighbours) of the synthetic graphs for calibration; empty: the configured ones."""

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
        """Changes with the graphs, the loss and the model's version."""
        return digest(self.name, self.version, LOSS_VERSION, self.config.graph, self._data.digest)

    def samples(self) -> Mapping[str, Load]:
        """The load of each complex, by id."""
        return self._loads

    @cached_property
    def _loads(self) -> Mapping[str, Load]:
        return self._data.loads

    def sizes_of(self, graph: Graph) -> Mapping[str, float]:
        """The sizes of `graph`, by feature."""
        return {"nodes": graph.n_nodes, "edges": graph.n_edges}

    def load_of(self, graph: Graph) -> Load:
        """The load of one copy of `graph`."""
        sizes = self.sizes_of(graph)
        return Load(graphs=1, sizes=tuple((name, float(sizes[name])) for name in self.features))

    @property
    def micro_loads(self) -> tuple[Load, ...]:
        """Loads of the synthetic graphs for calibration."""
        shapes = self.micro_graphs or self.config.probe.micro_loads
        return tuple(self.load_of(self._synthetic(n, n * (neighbours + 1))) for n, neighbours in shapes)

    def _synthetic(self, nodes: float, edges: float) -> Graph:
        return synthetic_load_for(int(nodes), int(edges), self.config.seed)

    def load(self, batch: Batch) -> Load:
        """The sum of the members' loads; self-loops count as edges."""
        return batch.load(self.samples())

    def collate(self, batch: Batch) -> GraphBatch:
        """The members' graphs, or one synthetic graph of the batch's load."""
        if batch.synthetic is not None:
            return self.join([self._synthetic(batch.synthetic["nodes"], batch.synthetic["edges"])])
        return self.join([graph for name, copies in batch.members for graph in [self._data.graph(name)] * copies])

    def join(self, graphs: list[Graph]) -> GraphBatch:
        """`graphs` as one batch on the CPU, in the form that the family's model takes."""
        return collate(graphs)

    def predict(self, model: torch.nn.Module, batch: GraphBatch) -> torch.Tensor:
        """Predicted pK (g,)."""
        predicted: torch.Tensor = model(batch)
        shift = getattr(model, "shift", None)
        return predicted if shift is None else predicted + shift

    def loss(self, model: torch.nn.Module, batch: GraphBatch) -> torch.Tensor:
        """Mean squared error of the predicted pK. A prediction on the right side of a bound has no error."""
        return censored(self.predict(model, batch) - batch.labels, batch.bounds).square().mean()

    def start_at(self, model: torch.nn.Module, mean_pk: float) -> None:
        """Make a new `model` predict about `mean_pk`, which saves the hundreds of updates that learning it would take."""
        device = next(model.parameters()).device
        model.register_buffer("shift", torch.tensor(mean_pk, dtype=torch.float32, device=device))


def ligand_mean(per_atom: torch.Tensor, batch: GraphBatch) -> torch.Tensor:
    """The mean of `per_atom` (n,) over each graph's ligand (g,), in single precision."""
    return torch.zeros_like(batch.labels).index_add(0, batch.graph_of, per_atom.float() * batch.readout)


def without_self_loops(graph: Graph) -> Graph:
    """`graph` without edges from an atom to itself, for families that have none."""
    source, target = graph.edge_index
    return replace(graph, edge_index=graph.edge_index[:, source != target])


def censored(error: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """`error` (g,) of predictions, set to zero where it is on the right side of `bounds` (g,)."""
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
