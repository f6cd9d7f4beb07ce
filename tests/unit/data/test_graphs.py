"""Graphs against a brute-force reference, and their laws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compass.data.structures.complexes import Complex
from compass.data.structures.graphs import build_graph, graph_load, synthetic_load_for
from compass.optimizer_config import GraphRules
from compass.records import Load


def complex_at(positions):
    n = len(positions)
    return Complex("test", np.full(n, 6), np.asarray(positions, np.float32), np.arange(n) >= n // 2)


def brute_force(positions, rules):
    """Edges (source, target) by looking at every pair."""
    points = positions.astype(np.float64)
    edges = set()
    for i, target in enumerate(points):
        near = []
        for j, source in enumerate(points):
            squared = ((source - target) ** 2).sum()
            if i != j and squared <= rules.cutoff**2:
                near.append((squared, *source, j))
        edges |= {(entry[-1], i) for entry in sorted(near)[: rules.max_neighbours]} | {(i, i)}
    return edges


def edges_of(graph):
    pairs = list(zip(*graph.edge_index.tolist(), strict=True))
    assert len(set(pairs)) == len(pairs)
    return set(pairs)


@st.composite
def clouds(draw):
    """(n, 3) distinct positions; from a coarse grid half of the time, so that distances tie."""
    n = draw(st.integers(1, 40))
    side = draw(st.sampled_from([3.0, 8.0, 20.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    if draw(st.booleans()):
        cells = rng.choice(4**3, size=n, replace=False)
        points = np.stack(np.unravel_index(cells, (4, 4, 4)), axis=1) * (side / 4)
    else:
        points = rng.uniform(0, side, size=(n, 3))
    return points.astype(np.float32)


rules_ = st.builds(GraphRules, cutoff=st.sampled_from([1.5, 2.0, 5.0]), max_neighbours=st.sampled_from([1, 3, 32]))


@given(clouds(), rules_)
@settings(deadline=None, max_examples=60)
def test_edges_are_the_brute_force_ones(positions, rules):
    assert edges_of(build_graph(complex_at(positions), rules, 0.0)) == brute_force(positions, rules)


@given(clouds(), rules_, st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=60)
def test_the_order_of_atoms_changes_nothing(positions, rules, seed):
    order = np.random.default_rng(seed).permutation(len(positions))
    plain = edges_of(build_graph(complex_at(positions), rules, 0.0))
    mixed = edges_of(build_graph(complex_at(positions[order]), rules, 0.0))
    assert {(order[j], order[i]) for j, i in mixed} == plain


@given(clouds(), rules_)
@settings(deadline=None, max_examples=60)
def test_cap_cutoff_and_self_loops(positions, rules):
    graph = build_graph(complex_at(positions), rules, 0.0)
    source, target = graph.edge_index
    others = source != target
    n = graph.n_nodes
    assert (~others).sum() == n
    assert np.bincount(target[others], minlength=n).max(initial=0) <= rules.max_neighbours
    gaps = np.linalg.norm(positions[source].astype(np.float64) - positions[target], axis=1)
    assert gaps.max() <= rules.cutoff * (1 + 1e-12)
    assert (np.diff(target) >= 0).all()
    same = np.diff(target) == 0
    assert (np.diff(gaps)[same] >= -1e-12).all()  # nearest first


def test_direction_of_edges():
    # A crowd of three and one atom that sees only the nearest of them: the edge towards it has no way back.
    graph = build_graph(complex_at([[0, 0, 0], [1, 0, 0], [2.5, 0, 0]]), GraphRules(cutoff=5.0, max_neighbours=1), 0.0)
    assert edges_of(graph) == {(0, 0), (1, 1), (2, 2), (1, 0), (0, 1), (1, 2)}


def test_graph_carries_the_complex_and_its_load():
    complex_ = complex_at([[0, 0, 0], [1, 0, 0], [40, 0, 0]])
    graph = build_graph(complex_, GraphRules(), 6.5)
    assert (graph.name, graph.label, graph.n_nodes, graph.n_edges) == ("test", 6.5, 3, 5)
    assert graph.edge_index.dtype == np.int64
    assert graph.positions is complex_.positions
    assert graph_load(graph) == Load(graphs=1, sizes=(("nodes", 3), ("edges", 5)))


def check_made_up(graph, nodes, edges):
    assert (graph.n_nodes, graph.n_edges) == (nodes, edges)
    assert len(edges_of(graph)) == edges
    source, target = graph.edge_index
    assert (source == target).sum() == nodes
    degrees = np.bincount(target, minlength=nodes)
    assert degrees.max() - degrees.min() <= 1
    assert set(graph.elements.tolist()) <= {6, 7, 8, 16}
    assert graph.is_ligand.any()
    gaps = np.linalg.norm(graph.positions[source].astype(np.float64) - graph.positions[target], axis=1)
    assert gaps.max() < GraphRules().cutoff
    assert nodes == edges or gaps[source != target].min() > 1e-3


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_made_up_graphs_have_the_size_asked_for(data):
    nodes = data.draw(st.integers(1, 60))
    edges = data.draw(st.integers(nodes, nodes * nodes))
    check_made_up(synthetic_load_for(nodes, edges, data.draw(st.integers(0, 9))), nodes, edges)


@pytest.mark.parametrize(("nodes", "neighbours"), [(100, 8), (300, 8), (300, 32), (1, 0), (5, 4), (6000, 32)])
def test_made_up_graphs_with_so_many_neighbours(nodes, neighbours):
    graph = synthetic_load_for(nodes, nodes * (neighbours + 1), seed=1)
    check_made_up(graph, nodes, nodes * neighbours + nodes)
    assert (np.bincount(graph.edge_index[1]) == neighbours + 1).all()


def test_made_up_graphs_are_the_same_for_the_same_seed():
    one, same, other = (synthetic_load_for(50, 400, seed) for seed in (3, 3, 4))
    for field in ("elements", "positions", "is_ligand", "edge_index", "label"):
        np.testing.assert_array_equal(getattr(one, field), getattr(same, field))
    assert not np.array_equal(one.positions, other.positions)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: synthetic_load_for(5, 4, 0), "edges: got 4; expected 5 to 25 for 5 nodes"),
        (lambda: synthetic_load_for(5, 26, 0), "edges: got 26; expected 5 to 25 for 5 nodes"),
        (lambda: synthetic_load_for(0, 0, 0), "nodes: got 0; expected at least 1"),
    ],
)
def test_impossible_graphs(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the whole text is compared
        make()
    assert str(caught.value) == message
