"""Batches whose members are padded to the longest."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.batching import BudgetedBatchSampler, Limits, pack
from compass.records import Affine, BytesLaw, Load
from compass.search.sample_loads import make_sample_loads

LAW = BytesLaw(segments=(("step", Affine(base=5.0, per_unit=(("tokens", 1.0), ("ions", 2.0)))),))
FEATURES = ("tokens", "ions")
SIZES = st.lists(st.tuples(st.integers(1, 300), st.integers(0, 20)), min_size=1, max_size=60).map(
    lambda rows: np.array(rows, dtype=float)
)


def load(tokens, ions, graphs=1):
    return Load(graphs=graphs, sizes=(("tokens", float(tokens)), ("ions", float(ions))), padded=("tokens",))


def padded_live(rows):
    return 5.0 + len(rows) * rows[:, 0].max() + 2 * rows[:, 1].sum()


def test_a_padded_batch_holds_the_longest_times_its_members():
    total = Load.total([(load(10, 1), 2), (load(30, 2), 1)])
    assert (total.graphs, total["tokens"], total["ions"]) == (3, 90, 4)
    assert total == load(10, 1) * 2 + load(30, 2) == load(30, 2) + load(10, 1) + load(10, 1)
    assert repr(Load(graphs=1, sizes=(("nodes", 3.0),))) == "Load(graphs=1, sizes=(('nodes', 3.0),))"  # its digest


@given(SIZES, st.integers(0, 5))
def test_every_sample_is_in_one_batch_and_no_padded_batch_exceeds_the_budget(sizes, seed):
    order = np.random.default_rng(seed).permutation(len(sizes))
    batches = pack(sizes, order, Limits(LAW, 1000.0, FEATURES, max_graphs=7, padded=("tokens",)))
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(sizes)))
    for batch in batches:
        assert len(batch) <= 7
        assert padded_live(sizes[batch]) <= 1000


@given(SIZES.filter(lambda sizes: 3 < len(sizes) < 20), st.integers(0, 5))
def test_company_for_a_sample_alone_never_exceeds_the_budget_padded(sizes, seed):
    """Of a sample of over half the budget, a short one takes as much again."""
    sampler = BudgetedBatchSampler(
        sizes, LAW, 400.0, features=FEATURES, padded=("tokens",), min_graphs=2, oversize="leave_out", seed=seed
    )
    batches = [np.array(batch) for batch in sampler]
    missing = map(int, (*sampler.sitting_out(0), *sampler.left_out))
    assert sorted([*np.concatenate(batches).tolist(), *missing]) == list(range(len(sizes)))
    assert all(padded_live(sizes[batch]) <= 400 for batch in batches)


def test_a_short_sample_gets_company_from_a_longer_batch():
    sizes = np.array([[10.0, 0.0], *[[100.0, 0.0]] * 4])
    sampler = BudgetedBatchSampler(
        sizes, LAW, 1000.0, features=FEATURES, padded=("tokens",), min_graphs=2, max_graphs=4
    )
    assert sorted(map(len, sampler)) == [2, 3]


@given(SIZES, st.integers(0, 5))
def test_the_worst_batch_bounds_every_batch(sizes, seed):
    samples = tuple((str(i), load(*row)) for i, row in enumerate(sizes))
    work = make_sample_loads(samples, len(samples))
    bounds = work.upper_footprints(len(samples), LAW)
    rng = np.random.default_rng(seed)
    for n_graphs in range(1, len(samples) + 1):
        drawn = sizes[rng.choice(len(sizes), n_graphs, replace=False)]
        assert padded_live(drawn) <= bounds[n_graphs - 1] * (1 + 1e-9)
        assert LAW.live(work.worst_load(n_graphs, LAW)) <= bounds[n_graphs - 1] * (1 + 1e-9)


def test_training_and_its_certificate_batch_samples_of_like_length():
    rng = np.random.default_rng(0)
    sizes = np.column_stack([rng.integers(10, 500, 400), np.ones(400)]).astype(float)
    sampler = BudgetedBatchSampler(sizes, LAW, 4000.0, features=FEATURES, padded=("tokens",), seed=1)
    rows = [sizes[batch, 0] for batch in sampler]
    waste = 1 - sizes[:, 0].sum() / sum(len(row) * row.max() for row in rows)
    assert waste < 0.1  # at random it is a half
    assert sampler.load([0, 1])["tokens"] == 2 * sizes[:2, 0].max()
    work = make_sample_loads(tuple((str(i), load(*row)) for i, row in enumerate(sizes)), 400)
    for batch in (*work.shuffled(8, 20), work.typical(8)):
        lengths = [sizes[int(name), 0] for name, _ in batch.members]
        assert max(lengths) - min(lengths) < 60
    mean = sizes[:, 0].mean()
    assert work.typical_load(8)["tokens"] == pytest.approx(8 * mean, rel=0.05)


def test_copies_of_a_sample_get_its_neighbour_in_length():
    """An LSTM over packed sequences holds twice as much for a batch of one length; a much shorter neighbour would hold less itself."""
    samples = tuple((f"of {n}", load(n, 1)) for n in (30, 60, 90, 150))
    work = make_sample_loads(samples, 400)
    assert [dict(work.typical(n).members) for n in (1, 4)] == [{"of 90": 1}, {"of 60": 1, "of 90": 3}]
    assert dict(work.worst(4, LAW).members) == {"of 90": 1, "of 150": 3}
    assert dict(work.contrasting(4).members) == {"of 30": 1, "of 60": 3}  # not of the shortest, which has none below it


def test_the_batch_of_one_length_that_the_data_can_form():
    lengths = (30, 30, 30, 60, 60, 90)
    work = make_sample_loads([(f"{place}: {n}", load(n, 1)) for place, n in enumerate(lengths)], 6)
    assert [work.of_one_length(n) and work.of_one_length(n).members for n in (1, 2, 3, 4)] == [
        None,
        (("3: 60", 1), ("4: 60", 1)),
        (("0: 30", 1), ("1: 30", 1), ("2: 30", 1)),
        None,
    ]
    each_for_ten = make_sample_loads([("short", load(30, 1)), ("long", load(90, 1))], 20)
    assert each_for_ten.of_one_length(8).members == (("long", 8),)


def test_a_batch_of_one_length_gets_a_shorter_member():
    """A model may take another path, which holds less, where nothing is padded."""
    samples = (("long", load(90, 1)), ("short", load(30, 1)))
    work = make_sample_loads(samples, 200)  # each stands for a hundred
    for batch in (work.worst(8, LAW), work.typical(8), *work.shuffled(8, 5)):
        if dict(batch.members).get("long"):
            assert "short" in dict(batch.members)
    assert work.worst(1, LAW).members == (("long", 1),)
    assert work.worst_load(8, LAW)["tokens"] == 8 * 90
