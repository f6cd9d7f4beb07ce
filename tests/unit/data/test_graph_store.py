"""The store of built graphs: what goes in comes out, and whatever is not whole is as if it were not there."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.data.graphs.graph_store import GraphStore, decode, encode, open_store, write_store
from compass.data.structures.graphs import Graph, synthetic_load_for

DIGEST = "0123456789abcdef"
FIELDS = ("elements", "positions", "is_ligand", "edge_index")


def same(one: Graph, other: Graph) -> None:
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
        assert getattr(one, field).dtype == getattr(other, field).dtype


def graphs(n):
    return [synthetic_load_for(5 + i, 20 + i, seed=i) for i in range(n)]


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "g.graphs"
    write_store(found, DIGEST, 4, ((i, encode(graph)) for i, graph in reversed(list(enumerate(graphs(3))))))
    return found


@given(st.integers(1, 60), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_records(n, share, seed):
    graph = synthetic_load_for(n, n + int(share * n * (n - 1)), seed)
    same(decode(encode(graph)), graph)


def test_more_atoms_than_sixteen_bits_count():
    graph = synthetic_load_for(70_000, 140_000, 0)
    same(decode(encode(graph)), graph)


@given(st.data())
def test_a_record_that_is_not_whole_is_none(data):
    record = encode(synthetic_load_for(7, 30, 0))
    end = data.draw(st.integers(0, len(record) - 1))
    assert decode(record[:end]) is None
    flipped = bytearray(record)
    flipped[end] ^= 1 << data.draw(st.integers(0, 7))
    assert decode(bytes(flipped)) is None


def test_reading_in_any_order(path):
    store = GraphStore(path, DIGEST)
    for number in (2, 0, 1, 0):
        same(store.read(number), graphs(3)[number])
    assert store.read(3) is None  # never written


def test_what_is_read_is_its_own(path):
    store = GraphStore(path, DIGEST)
    graph = store.read(0)
    for field in FIELDS:
        getattr(graph, field)[...] = 0
    same(store.read(0), graphs(3)[0])


def test_it_travels(path):
    again = pickle.loads(pickle.dumps(GraphStore(path, DIGEST)))  # noqa: S301 - our own
    same(again.read(1), graphs(3)[1])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_forks_read_at_once_without_moving_each_others_place(path):
    store = GraphStore(path, DIGEST)
    expected = graphs(3)
    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            ok = all(np.array_equal(store.read(i % 3).positions, expected[i % 3].positions) for i in range(600))
            os._exit(0 if ok else 1)
        children.append(child)
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0, 0, 0]


def test_no_store_where_there_is_none_or_of_another_dataset(path):
    assert open_store(path.with_name("other"), DIGEST) is None
    assert open_store(path, "f" * 16) is None


def test_cut_anywhere_it_is_no_store(path):
    whole = path.read_bytes()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        assert open_store(path, DIGEST) is None


def test_a_flipped_bit_costs_at_most_the_graph_it_is_in(path):
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 4
        path.write_bytes(damaged)
        store = open_store(path, DIGEST)
        if store is None:
            continue
        found = [store.read(i) for i in range(3)]
        assert sum(graph is None for graph in found) <= 1
        for graph, expected in zip(found, graphs(3), strict=True):
            if graph is not None:
                same(graph, expected)


def test_a_writer_that_fails_leaves_what_was_there(path):
    before = path.read_bytes()

    def records():
        yield 0, encode(graphs(1)[0])
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_store(path, DIGEST, 1, records())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_at_once(tmp_path):
    path = tmp_path / "g.graphs"

    def records():
        yield 0, encode(graphs(1)[0])
        write_store(path, DIGEST, 1, [(0, encode(graphs(1)[0]))])
        assert open_store(path, DIGEST) is not None

    write_store(path, DIGEST, 1, records())
    same(GraphStore(path, DIGEST).read(0), graphs(1)[0])
    assert list(tmp_path.iterdir()) == [path]
