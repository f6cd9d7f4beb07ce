"""What a workload's data are called."""

import pytest

from compass.records import Load
from compass.records.nouns import counted, of_batch, of_data, singular


@pytest.mark.parametrize(
    ("plural", "one"),
    [
        ("graphs", "graph"),
        ("complexes", "complex"),
        ("samples", "sample"),
        ("images", "image"),
        ("batches", "batch"),
        ("meshes", "mesh"),
        ("classes", "class"),
        ("queries", "query"),
        ("protein poses", "protein pose"),
        ("people", "people"),
        ("glass", "glass"),
    ],
)
def test_one_of_many(plural, one):
    assert singular(plural) == one


def test_without_a_noun_complexes_come_in_batches_of_graphs():
    assert (of_data(""), of_batch("")) == ("complexes", "graphs")
    assert (of_data("images"), of_batch("images")) == ("images", "images")


def test_a_number_with_its_noun():
    assert [counted(n, "graphs") for n in (0, 1, 2, 1_200)] == ["0 graphs", "1 graph", "2 graphs", "1,200 graphs"]


def test_a_load_in_words():
    load = Load(graphs=2, sizes=(("nodes", 480.0), ("edges", 9_000.0)))
    assert str(load) == load.in_words() == "2 graphs, 480 nodes, 9,000 edges"
    assert load.in_words("images") == "2 images, 480 nodes, 9,000 edges"
    assert Load(graphs=1, sizes=(("nodes", 480.0),)).in_words() == "1 graph, 480 nodes"


def test_a_size_that_only_counts_the_members_is_not_repeated():
    load = Load(graphs=64, sizes=(("samples", 64.0), ("elements", 640.0)))
    assert load.in_words("samples") == "64 samples, 640 elements"
    assert load.in_words("images") == "64 images, 64 samples, 640 elements"
