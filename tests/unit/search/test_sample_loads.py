"""What batches of the data are: held against every batch there is."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.records import Affine, Batch, BytesLaw, Load
from compass.search.sample_loads import make_sample_loads

FEATURES = ("nodes", "edges")


def load(nodes, edges, graphs=1):
    return Load(graphs=graphs, sizes=(("nodes", float(nodes)), ("edges", float(edges))))


def law_of(*segments, baseline=100, ratio=1.1):
    pieces = tuple(
        (f"s{i}", Affine(base=base, per_unit=(("nodes", a), ("edges", b)))) for i, (base, a, b) in enumerate(segments)
    )
    return BytesLaw(segments=pieces, baseline_bytes=baseline, footprint_ratio=ratio, margin_share=0.01)


rates = st.floats(0, 100)
laws = st.lists(st.tuples(st.floats(0, 1000), rates, rates), min_size=1, max_size=3).map(lambda found: law_of(*found))
sizes = st.lists(st.tuples(st.integers(1, 500), st.integers(1, 5000)), min_size=1, max_size=7)


def work_of(sizes, n_complexes=None, **given):
    samples = [(f"c{i}", load(*size)) for i, size in enumerate(sizes)]
    return make_sample_loads(samples, n_complexes or len(samples), **given)


@given(sizes, laws, st.data())
def test_no_batch_holds_more_than_the_worst(sizes, law, data):
    work = work_of(sizes)
    n = data.draw(st.integers(1, len(sizes)))
    every = [
        load(sum(sizes[i][0] for i in chosen), sum(sizes[i][1] for i in chosen), n)
        for chosen in combinations(range(len(sizes)), n)
    ]
    assert law.live(work.worst_load(n, law)) == pytest.approx(max(map(law.live, every)))


@given(sizes, laws, st.integers(1, 3))
def test_upper_footprints_are_those_of_the_worst_batches(sizes, law, stands_for):
    work = work_of(sizes, stands_for * len(sizes))
    upper = work.upper_footprints(len(sizes) * stands_for, law)
    assert list(upper) == sorted(upper)
    expected = [law.upper_footprint(work.worst_load(n + 1, law)) for n in range(len(upper))]
    assert upper == pytest.approx(np.array(expected))


@given(sizes, st.integers(1, 40))
def test_a_batch_has_as_many_graphs_as_asked_for(sizes, n):
    work = work_of(sizes, 50)
    for batch in (work.typical(n), work.worst(n, law_of((0, 1, 1)))):
        assert sum(copies for _, copies in batch.members) == n
    assert work.typical_load(n) == work.load(work.typical(n))
    assert work.typical_sizes(np.array([n]))[0] == pytest.approx(n * work.shared()[1].mean(axis=0))


def test_one_sample_stands_for_all():
    work = work_of([(100, 1000)], 19_000)
    assert not work.differs
    assert work.worst(5, law_of((0, 1, 1))) == work.typical(5) == Batch(members=(("c0", 5),))
    assert work.shuffled(5, 2) == (work.typical(5), work.typical(5))


def test_a_complex_is_in_a_batch_once():
    work = work_of([(10 * i, 100 * i) for i in range(1, 21)])
    for batch in (work.typical(20), work.worst(20, law_of((0, 1, 1))), *work.shuffled(20, 3)):
        assert all(copies == 1 for _, copies in batch.members)


def test_typical_batches_are_near_the_mean():
    rng = np.random.default_rng(0)
    nodes = np.exp(rng.normal(np.log(400), 0.6, 500)).round()
    work = work_of([(n, 25 * n) for n in nodes])
    assert work.typical_load(10)["nodes"] == pytest.approx(10 * nodes.mean(), rel=0.02)


def test_shuffled_batches_differ_and_repeat_by_seed():
    sizes = [(i, i) for i in range(1, 101)]
    first = work_of(sizes, seed=1).shuffled(10, 5)
    assert len(set(first)) == 5
    assert first == work_of(sizes, seed=1).shuffled(10, 5)
    assert first != work_of(sizes, seed=2).shuffled(10, 5)


def test_isolated_samples_share_no_batch():
    work = work_of([(10, 100), (20, 200), (5000, 90_000), (6000, 95_000)], isolated=("c2", "c3"))
    law = law_of((0, 1, 1))
    shared = {
        name for batch in (work.worst(2, law), work.typical(2), *work.shuffled(2, 5)) for name, _ in batch.members
    }
    assert shared == {"c0", "c1"}
    assert work.n_shared == 2
    assert work.shared()[0] == ("c0", "c1")


def test_an_isolated_sample_that_does_not_fit_alone_is_named():
    work = work_of([(10, 100), (5000, 90_000), (6000, 95_000)], isolated=("c1", "c2"))
    law = law_of((0, 1, 1), baseline=0, ratio=1.0)
    assert work.alone(law, 200_000) == (Batch(members=(("c2", 1),)), ())
    assert work.alone(law, 100_000) == (Batch(members=(("c1", 1),)), ("c2",))
    assert work.alone(law, 1_000) == (None, ("c1", "c2"))


def test_a_large_dataset_is_not_sorted_whole():
    rng = np.random.default_rng(0)
    nodes = np.exp(rng.normal(np.log(400), 0.6, 5000)).round()
    work = work_of([(n, round(n * k)) for n, k in zip(nodes, rng.uniform(20, 30, 5000), strict=True)])
    law = law_of((0, 1, 30), (10, 40, 1))
    assert len(work._heavy(50)) < 500
    weights = max(np.sort(nodes * a + e * b)[-50:].sum() for e in [work.sizes[:, 1]] for a, b in ((1, 30), (40, 1)))
    assert law.live(work.worst_load(50, law)) == pytest.approx(weights, rel=1e-3)


@given(st.integers(1, 5), st.integers(1, 40))
def test_where_all_samples_have_the_same_proportions_a_typical_batch_contrasts_as_well(n_samples, n):
    work = work_of([(10 * (i + 1), 90 * (i + 1)) for i in range(n_samples)], 50)
    assert work.contrasting(n) == work.typical(n)


def test_a_contrasting_batch_is_of_the_sample_in_the_least_usual_proportion():
    work = work_of([(100, 900), (80, 700), (3, 6), (120, 1200)])
    assert work.contrasting(3) == Batch(members=(("c2", 3),))


def test_an_isolated_sample_is_no_contrast():
    work = work_of([(100, 900), (110, 1000), (900, 20)], isolated={"c2"})
    assert {name for name, _ in work.contrasting(2).members} <= {"c0", "c1"}


def test_a_contrasting_sample_is_no_larger_than_the_typical_one():
    work = work_of([(100, 900), (90, 800), (110, 1000), (100, 20_000), (90, 500)])
    assert work.contrasting(2) == Batch(members=(("c4", 2),))


@pytest.mark.parametrize(("stands_for", "n_samples"), [(1, 1000), (20, 40)])
def test_typical_batches_are_near_the_mean_in_every_feature(stands_for, n_samples):
    """Where one is convex in the other, samples near the mean of both hold too little of it: 7.5 % of nodes²."""
    rng = np.random.default_rng(0)
    nodes = np.clip(np.exp(rng.normal(np.log(250), 0.5, n_samples)), 60, 1600).round()
    work = work_of([(n, n**2) for n in nodes], n_complexes=stands_for * n_samples)
    for n_graphs in (3, 4, 5, 16, 17, 18, 49):
        load = work.typical_load(n_graphs)
        assert load["nodes"] == pytest.approx(n_graphs * nodes.mean(), rel=0.04)
        assert load["edges"] == pytest.approx(n_graphs * (nodes**2).mean(), rel=0.04)
    assert work.typical_load(1)["nodes"] == pytest.approx(nodes.mean(), rel=0.2)


def test_no_sample_is_typical_more_often_than_it_stands_for():
    work = work_of([(n, n**2) for n in range(1, 41)], n_complexes=120)
    assert max(copies for _, copies in work.typical(120).members) == 3
    assert sum(copies for _, copies in work.typical(130).members) == 130  # the order starts anew
