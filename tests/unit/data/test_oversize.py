"""The largest of a dataset: who they are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.data.oversize import oversize, size_limit


def rows_of(sizes):
    return {f"c{i:03}": (("nodes", float(nodes)), ("edges", float(edges))) for i, (nodes, edges) in enumerate(sizes)}


def test_the_largest_share_is_named_largest_first():
    rows = rows_of([(100 + i, 1000 + i) for i in range(98)] + [(5000, 90_000), (9000, 99_000)])
    assert oversize(rows, 0.02) == ("c099", "c098")
    assert oversize(rows, 0.015) == ("c099",)
    assert size_limit(rows, ("c099", "c098")) == {"nodes": 197.0, "edges": 1097.0}


@pytest.mark.parametrize("share", [0.0, 0.005])
def test_no_share_no_oversize(share):
    assert oversize(rows_of([(100, 1000), (9000, 99_000)]), share) == ()


def test_equals_of_what_stays_are_not_oversize():
    assert oversize(rows_of([(100, 1000)] * 10), 0.2) == ()
    assert oversize(rows_of([(100, 1000)] * 9 + [(200, 2000)]), 0.2) == ("c009",)


def test_many_edges_count_as_much_as_many_atoms():
    rows = rows_of([(100, 1000)] * 98 + [(100, 50_000), (5_000, 5_000)])
    assert set(oversize(rows, 0.02)) == {"c098", "c099"}


@given(st.lists(st.tuples(st.integers(1, 500), st.integers(1, 9000)), min_size=1, max_size=60), st.floats(0, 0.99))
def test_never_more_than_the_share(sizes, share):
    rows = rows_of(sizes)
    found = oversize(rows, share)
    assert len(found) <= share * len(rows)
    assert len(set(found)) == len(found)


def test_a_feature_that_nobody_has_does_not_hide_the_others():
    sizes = {f"c{i}": (("nodes", 10.0 + (1000 if i == 7 else 0)), ("rings", 0.0)) for i in range(20)}
    assert oversize(sizes, 0.05) == ("c7",)
