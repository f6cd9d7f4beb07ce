"""Properties of packing: no sample lost, no limit exceeded, deterministic, never worse than filling in order."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compass.batching.packing import Limits, evened_out, levels, pack
from compass.errors import InputError
from compass.records import Affine, BytesLaw, Load

MIB = 1024**2
ONE = Affine(base=0.0, per_unit=(("nodes", 1.0), ("edges", 0.0)))


def law_of(*segments, **fields):
    """A law from (base, bytes per node, bytes per edge) of each segment."""
    pieces = [
        (f"s{i}", Affine(base=base, per_unit=(("nodes", nodes), ("edges", edges))))
        for i, (base, nodes, edges) in enumerate(segments)
    ]
    return BytesLaw(segments=tuple(pieces), **fields)


def load_of(sizes, batch):
    nodes, edges = sizes[batch].sum(axis=0)
    return Load(graphs=len(batch), sizes=(("nodes", float(nodes)), ("edges", float(edges))))


def pockets(n, seed=0, sigma=0.6):
    """Nodes and edges (n, 2) of pockets, spread like those of PDBbind."""
    rng = np.random.default_rng(seed)
    nodes = np.exp(rng.normal(np.log(420), sigma, n)).round()
    return np.stack([nodes, (nodes * rng.uniform(20, 30, n)).round()], axis=1)


REAL = law_of((50e6, 4e3, 3e3), (30e6, 6e3, 2.9e3), (90e6, 0.0, 0.0), margin_share=0.01, baseline_bytes=450 * MIB,
              footprint_ratio=1.25)  # fmt: skip
"""The forward, backward and optimizer segments of a model of medium size."""


def real_limits(n_mean, **given):
    """Limits whose budget holds `n_mean` mean pockets."""
    mean = Load(graphs=1, sizes=(("nodes", 503.0), ("edges", 12_575.0))) * n_mean
    return Limits(REAL, REAL.upper_footprint(mean), **given)


# -------------------------------------------------------------------------------------------------------- properties

rates = st.floats(-1e3, 1e4).map(lambda rate: round(rate, 3))
segments = st.tuples(st.floats(0, 1e8), rates, rates)


@st.composite
def problems(draw):
    """(sizes, order, limits) with every sample within the limits."""
    sizes = np.array(draw(st.lists(st.tuples(st.floats(0, 3e3), st.floats(0, 9e4)), min_size=1, max_size=80)))
    law = law_of(
        *draw(st.lists(segments, min_size=1, max_size=5)),
        margin_share=draw(st.floats(0, 0.1)),
        baseline_bytes=draw(st.integers(0, 10**9)),
        footprint_ratio=draw(st.floats(1, 3.3)),
    )
    # A negative rate counts as 0, so a sample's own bound may exceed the law's; the budget must hold that bound too.
    pieces = [(piece.base, *(max(0.0, rate) for _, rate in piece.per_unit)) for _, piece in law.segments]
    bare = law_of(*pieces, **law.model_dump(exclude={"segments"}))
    own = max(bare.upper_footprint(load_of(sizes, [i])) for i in range(len(sizes)))
    budget = (own + 1) * draw(st.floats(1.001, 6))
    given = {}
    if draw(st.booleans()):
        given["max_graphs"] = draw(st.integers(1, 9))
    if draw(st.booleans()):
        time_law = Affine(base=draw(st.floats(0, 0.1)), per_unit=(("edges", 1e-6),))
        slowest = max(time_law.at(load_of(sizes, [i])) for i in range(len(sizes)))
        given |= {"time_law": time_law, "max_step_s": (slowest + 1e-3) * draw(st.floats(1.001, 6))}
    order = np.array(draw(st.permutations(range(len(sizes)))))
    return sizes, order, Limits(law, budget, **given)


@given(problems(), st.integers(2, 40))
@settings(deadline=None, max_examples=150)
def test_every_sample_once_and_every_limit_kept(problem, window):
    sizes, order, limits = problem
    batches = pack(sizes, order, limits, window=window)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(sizes)))
    for batch in batches:
        load = load_of(sizes, batch)
        assert limits.law.upper_footprint(load) <= limits.budget_bytes
        assert limits.max_graphs is None or len(batch) <= limits.max_graphs
        assert limits.max_step_s is None or limits.time_law.at(load) <= limits.max_step_s


@given(problems())
@settings(deadline=None, max_examples=60)
def test_any_part_of_a_batch_fits_too(problem):
    sizes, order, limits = problem
    for batch in pack(sizes, order, limits):
        assert limits.law.upper_footprint(load_of(sizes, batch[::2])) <= limits.budget_bytes


@given(problems())
@settings(deadline=None, max_examples=60)
def test_packing_is_deterministic(problem):
    sizes, order, limits = problem
    first, second = pack(sizes, order, limits), pack(sizes, order, limits)
    assert [batch.tolist() for batch in first] == [batch.tolist() for batch in second]


def in_order(sizes, order, limits):
    """The number of batches that filling in order makes, one sample at a time."""
    shares = limits.shares(sizes)
    n_batches, level = 1, np.zeros(len(shares))
    for index in order:
        if (level + shares[:, index] > 1).any():
            n_batches, level = n_batches + 1, np.zeros(len(shares))
        level += shares[:, index]
    return n_batches


@given(problems())
@settings(deadline=None, max_examples=150)
def test_never_more_batches_than_filling_in_order(problem):
    sizes, order, limits = problem
    assert len(pack(sizes, order, limits)) <= in_order(sizes, order, limits)


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
@settings(deadline=None, max_examples=15)
def test_no_sample_is_moved_far(seed, n_mean):
    """A sample moves forward by at most `window` places, and back by a few batches."""
    sizes, limits = pockets(2_000, seed), real_limits(n_mean)
    shares = limits.shares(sizes)
    keep = (shares <= 1).all(axis=0)
    sizes = sizes[keep]
    order = np.random.default_rng(seed).permutation(len(sizes))
    packed = np.concatenate(pack(sizes, order, limits))
    place = np.empty(len(sizes), dtype=int)
    place[order] = np.arange(len(sizes))
    moved = place[packed] - np.arange(len(sizes))
    assert moved.max() <= 80
    assert np.abs(moved).mean() <= 40


# ----------------------------------------------------------------------------------------------------- fill and speed


@pytest.mark.parametrize(("n_mean", "least"), [(4, 0.995), (5, 0.995), (12, 0.998), (60, 0.999)])
def test_batches_are_full(n_mean, least):
    sizes, limits = pockets(5_000), real_limits(n_mean)
    shares = limits.shares(sizes)
    fitting = np.flatnonzero((shares <= 1).all(axis=0))
    full = np.sort(levels(pack(sizes, np.random.default_rng(1).permutation(fitting), limits), shares))[1:]
    assert np.median(full) >= least
    assert np.percentile(full, 5) >= 0.97


def test_twenty_thousand_take_less_than_a_second():
    sizes, limits = pockets(20_000), real_limits(5)
    fitting = np.flatnonzero((limits.shares(sizes) <= 1).all(axis=0))
    order = np.random.default_rng(1).permutation(fitting)
    pack(sizes[:10], np.arange(2), limits)
    started = time.process_time()  # not wall time: other programs may be running
    pack(sizes, order, limits)
    assert time.process_time() - started < 1.0


def test_a_cap_on_graphs_leaves_the_order_alone():
    sizes, limits = pockets(50), real_limits(1_000, max_graphs=8)
    batches = pack(sizes, np.arange(50)[::-1], limits)
    assert [batch.tolist() for batch in batches] == [list(range(49, -1, -1))[i : i + 8] for i in range(0, 50, 8)]


def test_nothing_to_pack():
    assert pack(np.zeros((0, 2)), np.zeros(0, dtype=int), real_limits(4)) == []
    assert pack(pockets(3), np.zeros(0, dtype=int), real_limits(4)) == []


def test_samples_without_any_size_share_one_batch():
    (batch,) = pack(np.zeros((7, 2)), np.arange(7), real_limits(4))
    assert batch.tolist() == list(range(7))


def test_worked_by_hand():
    """The budget holds 10. 6 and 3 fit in order; 3 is put back, and 3 with 1 fills the batch; of the first four, 4 does."""
    sizes = np.array([[6.0, 0], [3.0, 0], [5.0, 0], [4.0, 0], [1.0, 0]])
    limits = Limits(BytesLaw(segments=(("all", ONE),)), 10.0 + 1e-6)
    assert [batch.tolist() for batch in pack(sizes, np.arange(5), limits)] == [[0, 1, 4], [2, 3]]
    assert [batch.tolist() for batch in pack(sizes[:4], np.arange(4), limits)] == [[0, 3], [1, 2]]


def test_implied_limits_are_left_out():
    """The second segment implies the others for the first sample alone, the fourth is needed for the second sample."""
    law = law_of((0, 0.5, 2.0), (0, 1.0, 2.0), (10.0, 0.0, 0.0), (0, 3.0, 0.0))
    sizes = np.array([[1.0, 3.0], [2.0, 0.5]])
    np.testing.assert_allclose(
        Limits(law, 100.0, max_graphs=10**6).shares(sizes), [[0.07, 0.03], [0.03, 0.06]], rtol=1e-6
    )
    np.testing.assert_allclose(Limits(law, 100.0).shares(sizes[:1]), [[0.07]], rtol=1e-6)


def test_a_sample_over_the_limits_is_an_error():
    with pytest.raises(ValueError, match=r"^2 samples exceed the limits by themselves$"):
        pack(np.array([[11.0, 0], [4.0, 0], [12.0, 0]]), np.arange(3), Limits(BytesLaw(segments=(("all", ONE),)), 10.0))


# ------------------------------------------------------------------------------------------------------------ errors


def text_of(**changes):
    given = {"law": REAL, "budget_bytes": 2048 * MIB, **changes}
    with pytest.raises(InputError) as caught:
        Limits(**given)
    return str(caught.value)


def test_a_budget_under_the_models_own_needs():
    assert text_of(budget_bytes=500 * MIB) == (
        "budget_bytes: got 500.00 MiB; expected more than the 558.36 MiB that the model takes without a graph. "
        "Raise the budget or choose a smaller model."
    )


def test_no_graphs_at_all():
    assert text_of(max_graphs=0) == "max_graphs: got 0; expected at least 1. Correct it."


def test_a_time_limit_without_a_law():
    assert text_of(max_step_s=1.0) == (
        "time_law: got none beside max_step_s; expected a law that predicts the seconds of a step. "
        "Give one, or leave max_step_s out."
    )


def test_a_time_limit_under_an_empty_step():
    assert text_of(max_step_s=0.1, time_law=Affine(base=0.12, per_unit=())) == (
        "max_step_s: got 0.1 s; expected more than the 0.12 s that a step takes without a graph. "
        "Raise it or choose a smaller model."
    )


def test_a_law_of_other_features():
    assert text_of(features=("nodes", "angles")) == (
        "features: got nodes, angles; expected edges among them. Name the columns of the sizes as the law does."
    )
    assert text_of(features=(), time_law=Affine(base=0.0, per_unit=(("angles", 1.0),))) == (
        "features: got none; expected angles, edges, nodes among them. Name the columns of the sizes as the law does."
    )


@given(
    counts=st.lists(st.integers(1, 9), min_size=2, max_size=12),
    least=st.integers(1, 3),
    seed=st.integers(0, 99),
)
def test_small_batches_take_from_the_largest(counts, least, seed):
    ends = np.cumsum(counts)
    batches = [np.arange(end - n, end) for n, end in zip(counts, ends, strict=True)]
    shares = np.random.default_rng(seed).uniform(0, 1e-3, (2, ends[-1]))
    found = evened_out(batches, least, shares)
    assert sorted(np.concatenate(found).tolist()) == list(range(ends[-1]))
    assert max(map(len, found)) <= max(*counts, least)
    if sum(counts) >= least * len(counts):
        assert min(map(len, found)) >= least


def test_no_company_beyond_the_budget():
    shares = np.array([[0.95, 0.4, 0.1, 0.3]])
    [alone, rest] = evened_out([np.array([0]), np.array([1, 2, 3])], 2, shares)
    assert (alone.tolist(), rest.tolist()) == ([0], [1, 2, 3])
    [pair, rest] = evened_out([np.array([0]), np.array([1, 2, 3])], 2, shares / 2)
    assert (pair.tolist(), rest.tolist()) == ([0, 2], [1, 3])


def test_nobody_gives_what_it_needs_itself():
    shares = np.full((1, 6), 0.1)
    untouched = [np.array([0]), np.array([1, 2]), np.array([3, 4])]
    assert [batch.tolist() for batch in evened_out(untouched, 2, shares)] == [[0], [1, 2], [3, 4]]
    found = evened_out([np.array([0]), np.array([1, 2]), np.array([3, 4, 5])], 2, shares)
    assert sorted(map(len, found)) == [2, 2, 2]


def test_company_comes_from_the_first_of_the_largest_and_is_its_lightest():
    shares = np.array([[0.1, 0.3, 0.2, 0.4, 0.3, 0.2, 0.1]])
    found = evened_out([np.array([0]), np.array([1, 2, 3]), np.array([4, 5, 6])], 2, shares)
    assert [batch.tolist() for batch in found] == [[0, 2], [1, 3], [4, 5, 6]]


def test_company_may_fill_the_budget_exactly():
    shares = np.array([[0.5, 0.5, 0.75, 0.75]])
    found = evened_out([np.array([0]), np.array([1, 2, 3])], 2, shares)
    assert [batch.tolist() for batch in found] == [[0, 1], [2, 3]]
