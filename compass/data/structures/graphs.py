"""Complexes as graphs, and synthetic graphs of an exact size.

Notation: n nodes (atoms), e edges; j is an edge's source, i its target. Row 0 of `edge_index` holds j and row 1 holds
i, PyG's `source_to_target`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from compass.data.structures.affinity import Relation
from compass.optimizer_config import GraphRules
from compass.records import Load

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from compass.data.structures.complexes import Complex


@dataclass(frozen=True, eq=False)
class Graph:
    """A complex as the input of a network, with its label."""

    name: str
    elements: NDArray[np.int64]
    """(n,) atomic numbers."""
    positions: NDArray[np.float32]
    """(n, 3) Å."""
    is_ligand: NDArray[np.bool_]
    """(n,)"""
    edge_index: NDArray[np.int64]
    """(2, e) sources and targets; sorted by target, each target's self-loop first, then its neighbours by distance."""
    label: float
    """−log10 of the molar affinity."""
    relation: Relation = "="
    """Relation of the true affinity to `label`."""

    @property
    def n_nodes(self) -> int:
        """n, the number of atoms."""
        return len(self.elements)

    @property
    def n_edges(self) -> int:
        """e, the number of edges, self-loops included."""
        return int(self.edge_index.shape[1])


def build_graph(complex_: Complex, rules: GraphRules, label: float, relation: Relation = "=") -> Graph:
    """Join every atom to its nearest neighbours within the cutoff, and to itself.

    PyG's ViSNet adds the self-loops in its own `Distance` module; they do not count towards the cap. Where the cap
    must choose between neighbours at the very same distance, the one with the smaller (x, y, z) wins, so that the
    order of the atoms changes nothing.

    Args:
        complex_: n atoms, no two of them at one place.
        rules: cutoff in Å and cap.
        label: −log10 of the molar affinity.
        relation: relation of the true affinity to `label`.
    """
    return Graph(
        name=complex_.name,
        elements=complex_.elements,
        positions=complex_.positions,
        is_ligand=complex_.is_ligand,
        edge_index=_nearest(complex_.positions, rules),
        label=label,
        relation=relation,
    )


def graph_load(graph: Graph) -> Load:
    """The load of a batch of `graph` alone."""
    return Load(graphs=1, sizes=(("nodes", graph.n_nodes), ("edges", graph.n_edges)))


def synthetic_load_for(nodes: int, edges: int, seed: int) -> Graph:
    """A valid graph with exactly this many nodes and edges, self-loops included, the same for the same arguments.

    For calibration, which depends on the size alone: neighbours are spread as evenly as the numbers allow, without regard
    to the geometry, and any two atoms are closer than the default cutoff.

    Raises:
        ValueError: `nodes` is below 1, or `edges` is not between `nodes` (self-loops alone) and `nodes` squared.
    """
    if nodes < 1:
        raise ValueError(f"nodes: got {nodes}; expected at least 1")
    if not nodes <= edges <= nodes * nodes:
        raise ValueError(f"edges: got {edges}; expected {nodes} to {nodes * nodes} for {nodes} nodes")
    rng = np.random.default_rng(seed)
    return Graph(
        name=f"synthetic-{nodes}-{edges}",
        elements=rng.choice(np.array([6, 7, 8, 16]), size=nodes, p=[0.63, 0.17, 0.19, 0.01]),  # as in proteins
        positions=_two_clusters(nodes, rng),
        is_ligand=np.arange(nodes) >= nodes - max(1, nodes // 10),
        edge_index=_across(nodes, edges),
        label=float(rng.normal(6.4, 1.9)),  # the spread of the PDBbind general set, roughly
    )


def _nearest(positions: NDArray[np.float32], rules: GraphRules) -> NDArray[np.int64]:
    """(2, e) edges of atoms at `positions` (n, 3)."""
    from vesin import NeighborList  # late: it imports torch if torch is installed, which readers do not need

    n = len(positions)
    points = positions.astype(np.float64)
    # Slightly wider, then cut here, so that the compared distance does not depend on the order of the atoms.
    finder = NeighborList(cutoff=rules.cutoff * (1 + 1e-6), full_list=True)
    target, source = finder.compute(points, np.zeros((3, 3)), periodic=False, quantities="ij")
    target, source = target.astype(np.int64), source.astype(np.int64)
    squared = np.square(points[source] - points[target]).sum(axis=1)
    near = squared <= rules.cutoff**2
    itself = np.arange(n)
    target = np.concatenate([itself, target[near]])
    source = np.concatenate([itself, source[near]])
    squared = np.concatenate([np.full(n, -1.0), squared[near]])  # below any distance, so that the self-loop comes first
    rank = np.empty(n, np.int64)
    rank[np.lexsort(points.T[::-1])] = np.arange(n)
    order = np.lexsort((rank[source], squared, target))
    target, source = target[order], source[order]
    first = np.searchsorted(target, itself)  # start of each target's list
    place = np.arange(len(target)) - first[target]
    kept = place <= rules.max_neighbours  # the self-loop has place 0
    return np.stack([source[kept], target[kept]])


def _two_clusters(n: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """(n, 3) Å distinct positions: even atoms close together, odd ones just inside the default cutoff from them.

    The edges of `_across` join even with odd as long as there are such pairs. At that distance ViSNet's cosine cutoff
    weighs a message by some per cent, so that dense graphs do not overflow a deep, freshly initialised model.
    """
    per_side = 1
    while per_side**3 < n:
        per_side += 1
    cutoff = GraphRules().cutoff
    spacing = 0.1 * cutoff / np.sqrt(3) / per_side
    cells = np.stack(np.unravel_index(np.arange(n), (per_side,) * 3), axis=1)
    positions = spacing * (cells + rng.uniform(-0.2, 0.2, size=(n, 3)))  # neighbours keep at least 0.6 of a spacing
    positions[1::2, 0] += 0.85 * cutoff
    return np.asarray(positions, dtype=np.float32)


def _across(n: int, e: int) -> NDArray[np.int64]:
    """(2, e) edges: each node to itself, then to nodes of the other parity, then to nodes of its own parity."""
    bounds = (np.arange(n + 1) * e) // n  # shares differ by at most one
    target = np.repeat(np.arange(n), np.diff(bounds))
    place = np.arange(e) - bounds[target]  # place 0 is the self-loop
    parity, rank = target % 2, target // 2
    n_other = np.where(parity == 0, n // 2, (n + 1) // 2)
    n_own = n - n_other
    beyond = place - n_other  # above 0: an edge within its own parity
    other = (rank + place - 1) % np.maximum(n_other, 1) * 2 + (1 - parity)
    own = (rank + beyond) % n_own * 2 + parity
    return np.stack([np.where(place == 0, target, np.where(beyond <= 0, other, own)), target])
