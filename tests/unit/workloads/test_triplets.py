import json
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.workloads.triplets import cached_counts, count_triplets, triplets


def brute_force(edges):
    pairs = list(zip(*edges, strict=True))
    return {(f, e) for e, (j, i) in enumerate(pairs) for f, (k, to) in enumerate(pairs) if to == j and k != i}


@st.composite
def graphs(draw):
    n = draw(st.integers(2, 7))
    pairs = draw(st.sets(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=20))
    pairs = sorted((pair for pair in pairs if pair[0] != pair[1]), key=lambda pair: (pair[1], pair[0]))
    return np.array(pairs, dtype=np.int64).reshape(-1, 2).T, n


@given(graphs())
def test_every_pair_of_edges_that_meet_once_and_not_back(graph):
    edges, n_nodes = graph
    out_of, into = triplets(edges, n_nodes)
    found = set(zip(out_of.tolist(), into.tolist(), strict=True))
    assert found == brute_force(edges)
    assert len(found) == len(out_of) == count_triplets(edges, n_nodes)


def test_counts_are_kept(tmp_path):
    place, asked = tmp_path / "counts.json", []

    def count(name):
        asked.append(name)
        return len(name)

    assert cached_counts(place, "d1", ["a", "bb"], count) == {"a": 1, "bb": 2}
    assert cached_counts(place, "d1", ["bb", "ccc"], count) == {"bb": 2, "ccc": 3}
    assert asked == ["a", "bb", "ccc"]
    assert cached_counts(place, "d2", ["a"], count) == {"a": 1}  # of other data
    assert asked[3:] == ["a"]
    assert json.loads(place.read_text()) == {"digest": "d2", "counts": {"a": 1}}
    assert [path.name for path in tmp_path.iterdir()] == ["counts.json"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": "d1"}', '{"digest": "d1", "counts": 3}'])
def test_a_damaged_file_is_counted_anew(tmp_path, text):
    place = tmp_path / "counts.json"
    place.write_text(text)
    assert cached_counts(place, "d1", ["a"], len) == {"a": 1}


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_not_missed(tmp_path):
    tmp_path.chmod(0o500)
    assert cached_counts(tmp_path / "counts.json", "d1", ["a"], len) == {"a": 1}
    tmp_path.chmod(0o700)


def test_a_folder_that_is_not_there_is_not_missed(tmp_path):
    assert cached_counts(tmp_path / "no" / "counts.json", "d1", ["a"], len) == {"a": 1}
