"""The sizes of a dataset's items, on which memory and time depend: nodes and edges of graphs, or elements of tensors."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from scipy.spatial import cKDTree

N_ALIKE = 64
"""If so many items, evenly spaced, are of one size, all are taken to be."""
N_SIZED = 2_000
"""Most items whose sizes are read, evenly spaced: reading a million images would take longer than planning."""
CUTOFF_NAMES = ("cutoff", "cutoff_upper", "r_max", "radius")
"""Attributes under which graph networks that make their edges themselves keep the distance within which nodes are joined."""


def sizes_of(items: Any, cutoff: float | None = None) -> dict[str, dict[str, float]]:
    """The size of each item, by its index: of all, if some are alike, else of those that are read.

    `cutoff` is the distance up to which nodes are joined where graphs have positions and no edges.
    """
    few = [_size(items[i], cutoff) for i in _spread(len(items), N_ALIKE)]
    if all(size == few[0] for size in few):
        sizes = {str(i): few[0] for i in range(min(len(items), N_SIZED))}
    else:
        sizes = {str(i): _size(items[i], cutoff) for i in _spread(len(items), N_SIZED)}
    if not any(size.get("edges") for size in sizes.values()):
        sizes = {name: _without(size, "edges") for name, size in sizes.items()}
    varies = len({size["elements"] for size in sizes.values()}) > 1
    return sizes if varies else {name: _without(size, "elements") for name, size in sizes.items()}


def cutoff_of(module: torch.nn.Module) -> float | None:
    """The distance within which `module` joins nodes, if its parts have one that is named as usual; None if there is none, or several."""
    found = {getattr(part, name) for part in module.modules() for name in CUTOFF_NAMES if _is_length(part, name)}
    return found.pop() if len(found) == 1 else None


def _without(size: dict[str, float], left_out: str) -> dict[str, float]:
    return {name: amount for name, amount in size.items() if name != left_out}


def _spread(n: int, most: int) -> list[int]:
    return [int(i) for i in np.unique(np.linspace(0, n - 1, min(n, most)).round())]


def _size(item: Any, cutoff: float | None) -> dict[str, float]:
    """The nodes and edges of all graphs in an item, or that it is one sample; and the elements of its other tensors."""
    graphs = [part for part in _parts(item) if _is_graph(part)]
    if not graphs:
        return {"samples": 1.0, "elements": float(n_elements(item))}
    n_edges = _sum_of(graphs, "num_edges")
    if not n_edges and cutoff is not None:
        n_edges = float(sum(_n_within(graph, cutoff) for graph in graphs))
    return {"nodes": _sum_of(graphs, "num_nodes"), "edges": n_edges, "elements": float(n_elements(item))}


def _n_within(graph: Any, cutoff: float) -> int:
    """Ordered pairs of nodes of `graph` that are no farther apart than `cutoff`; 0 if it has no positions."""
    places = getattr(graph, "pos", None)
    if not isinstance(places, torch.Tensor) or places.dim() != 2:
        return 0
    tree = cKDTree(places.detach().cpu().numpy())
    return int(tree.count_neighbors(tree, cutoff)) - len(places)


def _sum_of(graphs: Iterable[Any], name: str) -> float:
    """The sum over `graphs` of what is a property of PyG's, and a method of DGL's."""
    counts = (getattr(graph, name) for graph in graphs)
    return float(sum(count() if callable(count) else count for count in counts))


def _is_length(part: torch.nn.Module, name: str) -> bool:
    value = getattr(part, name, None)
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_graph(part: Any) -> bool:
    return getattr(part, "num_nodes", None) is not None and getattr(part, "num_edges", None) is not None


def n_elements(tree: Any) -> int:
    """Elements of all tensors in a tree; those of graphs do not count."""
    return sum(int(np.prod(part.shape)) for part in _parts(tree) if isinstance(part, torch.Tensor | np.ndarray))


def _parts(tree: Any) -> Iterable[Any]:
    """What a tree of mappings, sequences and dataclasses holds; graphs are not opened."""
    if _is_graph(tree):
        yield tree
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from _parts(part)
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from _parts(part)
    elif dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        for field in dataclasses.fields(tree):
            yield from _parts(getattr(tree, field.name))
    else:
        yield tree
