"""The sampler: the samples of an epoch, the oversize policies, the shares of ranks, and the errors."""

from __future__ import annotations

import logging
from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compass.batching.sampler import BudgetedBatchSampler
from compass.errors import InputError
from compass.records import Affine, BytesLaw

LAW = BytesLaw(segments=(("all", Affine(base=100.0, per_unit=(("nodes", 1.0), ("edges", 2.0)))),))
"""A sample of ten nodes and twenty edges takes 50 bytes; the model itself 100."""
SECONDS = Affine(base=0.0, per_unit=(("edges", 0.01),))


def sizes_of(n, seed=0):
    nodes = np.exp(np.random.default_rng(seed).normal(np.log(100), 0.6, n)).round()
    return np.stack([nodes, 10 * nodes], axis=1)


def sampler_of(sizes=None, budget_bytes=20_100.0, law=LAW, **given):
    return BudgetedBatchSampler(sizes_of(200) if sizes is None else sizes, law, budget_bytes, **given)


def equal(n, **given):
    """A sampler of `n` equal samples, of which a batch holds `per_batch`."""
    per_batch = given.pop("per_batch")
    return sampler_of(np.tile([10.0, 20.0], (n, 1)), 100.0 + 50 * per_batch + 1, **given)


def contents(sampler):
    return sorted(index for batch in sampler for index in batch)


# ---------------------------------------------------------------------------------------------------------- an epoch


def test_an_epoch_has_every_sample_once_within_the_budget():
    sampler = sampler_of()
    for _ in range(4):
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(chain.from_iterable(batches)) == list(range(200))
        assert all(LAW.upper_footprint(sampler.load(batch)) <= 20_100 for batch in batches)
        assert all(type(index) is int for batch in batches for index in batch)


def test_every_pass_is_an_epoch_and_set_epoch_selects_one():
    one, other = sampler_of(seed=3), sampler_of(seed=3)
    first, second = list(one), list(one)
    assert first != second
    other.set_epoch(1)
    assert list(other) == second
    other.set_epoch(0)
    assert list(other) == first
    assert list(sampler_of(seed=4)) != first


def test_an_unused_iterator_is_no_epoch():
    sampler = sampler_of()
    iter(sampler)
    assert sampler.epoch == 0


def test_without_shuffling_every_epoch_is_the_same_and_nearly_in_order():
    sampler = sampler_of(shuffle=False)
    first = list(sampler)
    assert list(sampler) == first
    flat = np.array(list(chain.from_iterable(first)))
    assert np.abs(flat - np.arange(200)).mean() < 30


@given(st.integers(1, 120), st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 6))
@settings(deadline=None, max_examples=60)
def test_every_epoch_of_every_rank_is_as_long_as_the_first(n, seed, n_ranks, max_graphs):
    if n < n_ranks:
        return
    budget_bytes = 100 + 1.2 * 21 * sizes_of(n, seed)[:, 0].max()
    sampler = sampler_of(sizes_of(n, seed), budget_bytes, seed=seed, n_ranks=n_ranks, max_graphs=max_graphs)
    for epoch in range(4):
        steps = sampler.steps(epoch)
        assert len(steps) == len(sampler)
        assert all(len(step) == n_ranks and all(len(batch) for batch in step) for step in steps)
        seen = [sampler._ids[index] for step in steps for batch in step for index in batch]
        idle = sampler.sitting_out(epoch)
        assert len(idle) < n_ranks
        assert sorted([*seen, *idle]) == sorted(sampler._ids)
        assert all(len(batch) <= max_graphs for step in steps for batch in step)
        assert all(LAW.upper_footprint(sampler.load(batch)) <= budget_bytes for step in steps for batch in step)


def test_an_order_that_needs_more_batches_falls_back_to_the_first_epochs():
    sampler = sampler_of()
    first = {tuple(sorted(batch)) for batch in sampler}
    sampler._most = sampler._n_batches = len(first)
    pack = sampler._pack
    sampler._pack = lambda epoch, attempt: pack(0, 0) if (epoch, attempt) == (0, 0) else [np.array([0])] * 300
    again = list(sampler)
    assert {tuple(sorted(batch)) for batch in again} == first
    assert sampler.epoch == 2


def test_mean_graphs_and_loads():
    sampler = equal(12, per_batch=4)
    assert (len(sampler), sampler.mean_graphs, str(sampler.mean_load)) == (3, 4.0, "4 graphs, 40 nodes, 80 edges")
    assert str(sampler.load([0, 5])) == "2 graphs, 20 nodes, 40 edges"


# ------------------------------------------------------------------------------------------------------------ ranks


def test_ranks_share_an_epoch_without_communication():
    ranks = [sampler_of(n_ranks=4, rank=rank, seed=9) for rank in range(4)]
    per_rank = [list(sampler) for sampler in ranks]
    assert {len(batches) for batches in per_rank} == {len(ranks[0])}
    assert sorted(index for batches in per_rank for batch in batches for index in batch) == list(range(200))


@pytest.mark.parametrize("time_law", [None, SECONDS])
def test_batches_of_one_step_cost_about_the_same(time_law):
    rng = np.random.default_rng(0)
    sampler = sampler_of(sizes_of(2_000) * rng.uniform(0.8, 1, (2_000, 2)), n_ranks=4, time_law=time_law)
    costs = np.array([[sampler.load(batch)["edges"] for batch in step] for step in sampler.steps(0)])
    waiting = 1 - costs.mean(axis=1) / costs.max(axis=1)
    assert np.mean(waiting) < 0.01
    first = costs.argmax(axis=1)
    assert np.bincount(first, minlength=4).min() > 0.15 * len(first)  # no rank always gets the largest


def test_the_fullest_batches_are_split_until_ranks_have_as_many():
    sampler = equal(11, per_batch=4, n_ranks=4)
    assert sorted(len(batch) for batch in sampler.steps(0)[0]) == [2, 2, 3, 4]
    sampler = equal(4, per_batch=4, n_ranks=3)
    assert sorted(len(batch) for batch in sampler.steps(0)[0]) == [1, 1, 2]


def test_singles_that_ranks_cannot_share_take_turns(caplog):
    with caplog.at_level(logging.WARNING):
        sampler = equal(10, per_batch=1, n_ranks=4)
    assert caplog.messages == [
        "up to 2 of 10 samples sit out each epoch, different ones each time: nearly every batch is a single sample, and "
        "4 ranks do not divide them"
    ]
    assert len(sampler) == 2
    idle = [sampler.sitting_out(epoch) for epoch in range(5)]
    assert sorted(chain.from_iterable(idle)) == [str(i) for i in range(10)]


# --------------------------------------------------------------------------------------------------------- oversize

LARGE = np.array([[10.0, 20.0], [400.0, 0.0], [10.0, 20.0], [500.0, 0.0], [10.0, 20.0]])
"""Room for 300: samples 1 and 3 are too large."""
NAMES = ("a", "b", "c", "d", "e")


def large(**given):
    return sampler_of(LARGE, 400.5, ids=NAMES, **given)


def text_of(make, **given):
    with pytest.raises(InputError) as caught:
        make(**given)
    return str(caught.value)


def test_refused_by_name():
    assert text_of(large) == (
        "samples: got 2 too large by themselves: b, d; expected each within 400 B. "
        "Choose another policy: oversize='isolate', 'crop' or 'leave_out'."
    )
    assert text_of(sampler_of, sizes=np.tile([2e4, 0.0], (8, 1)), max_step_s=0.5, time_law=SECONDS) == (
        "samples: got 8 too large by themselves: 0, 1, 2, 3, 4 and 3 more; expected each within 19.63 KiB and 500 ms per step. "
        "Choose another policy: oversize='isolate', 'crop' or 'leave_out'."
    )


def test_left_out_by_name():
    sampler = large(oversize="leave_out", isolated=[1, 2])
    assert sampler.left_out == ("b", "d")
    assert sorted(map(sorted, sampler)) == [[0, 4], [2]]


def test_cropped():
    asked = []

    def crop(index, budget_bytes):
        asked.append((index, budget_bytes))
        return [100.0, 50.0]

    sampler = large(oversize="crop", crop=crop)
    assert asked == [(1, 400.5), (3, 400.5)]
    assert sampler.cropped == ("b", "d")
    assert sampler.sizes[3].tolist() == [100.0, 50.0]
    assert LARGE[3].tolist() == [500.0, 0.0]
    assert contents(sampler) == [0, 1, 2, 3, 4]


def test_cropped_too_little():
    assert text_of(large, oversize="crop", crop=lambda index, _: [200.0 * index, 0.0]) == (
        "samples: got 1 too large even cropped: d; expected each within 400 B. "
        "Crop them further or leave them out (oversize='leave_out')."
    )


def test_cropping_without_a_function():
    assert text_of(large, oversize="crop") == (
        "crop: got none beside oversize='crop'; expected a function that crops a sample. "
        "Give one, or choose another policy."
    )


def test_a_batch_of_its_own_cannot_be_larger_than_the_budget():
    assert text_of(large, oversize="isolate") == (
        "samples: got 2 too large by themselves: b, d; expected each within 400 B. "
        "Crop them (oversize='crop') or leave them out ('leave_out')."
    )


def test_a_batch_of_its_own_may_be_slower_than_the_others():
    sizes = np.array([[0.0, 100.0], [0.0, 30.0], [0.0, 20.0], [0.0, 10.0]])
    sampler = sampler_of(sizes, 1e6, time_law=SECONDS, max_step_s=0.5001, oversize="isolate")
    batches = list(sampler)
    assert [0] in batches
    assert (len(batches), len(batches[0]) + len(batches[1]) + len(batches[2])) == (3, 4)


def test_isolated_samples_never_share():
    sampler = sampler_of(isolated={3, 7})
    for _ in range(3):
        batches = list(sampler)
        assert [3] in batches
        assert [7] in batches
        assert len(batches) == len(sampler)
        assert sorted(chain.from_iterable(batches)) == list(range(200))


def test_an_unknown_policy():
    assert text_of(large, oversize="hope") == (
        "oversize: got 'hope'; expected one of refuse, isolate, crop, leave_out. Correct it."
    )


# ------------------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"sizes": [1.0, 2.0]},
            "sizes: got an array of shape (2,); expected (n, 2) for nodes, edges. Give one row for each sample and one column for each feature.",
        ),
        (
            {"sizes": [[1.0, 2.0], [3.0, np.nan]]},
            "sizes: got [3.0, nan] in row 1; expected finite sizes, not negative. Correct it or leave the sample out.",
        ),
        (
            {"sizes": [[-1.0, 2.0]]},
            "sizes: got [-1.0, 2.0] in row 0; expected finite sizes, not negative. Correct it or leave the sample out.",
        ),
        ({"ids": ["a"]}, "ids: got 1; expected 200, one for each sample. Give as many ids as rows of sizes."),
        ({"isolated": [200]}, "isolated: got 200; expected indices from 0 to 199. Correct it."),
        ({"rank": 2, "n_ranks": 2}, "rank: got 2 of 2; expected a rank from 0 to n_ranks − 1. Correct it."),
        ({"sizes": np.zeros((0, 2))}, "samples: got 0; expected at least 1, one for each rank. Give more samples or use fewer ranks."),
        (
            {"sizes": [[1.0, 2.0]], "n_ranks": 2},
            "samples: got 1; expected at least 2, one for each rank. Give more samples or use fewer ranks.",
        ),
    ],
)  # fmt: skip
def test_errors_of_arguments(given, message):
    assert text_of(sampler_of, **given) == message


# ------------------------------------------------------------------------------------------------- the fewest in a batch


def lengths(sampler, epoch=0):
    return sorted(len(batch) for step in sampler.steps(epoch) for batch in step)


def test_a_small_batch_gets_company():
    assert lengths(equal(9, per_batch=4)) == [1, 4, 4]
    sampler = equal(9, per_batch=4, min_graphs=2)
    assert lengths(sampler) == [2, 3, 4]
    assert contents(sampler) == list(range(9))
    assert lengths(equal(10, per_batch=4, min_graphs=2)) == [2, 4, 4]


def test_an_isolated_sample_is_made_company_where_one_is_too_few():
    assert lengths(equal(5, per_batch=4, isolated=[0])) == [1, 4]
    assert lengths(equal(6, per_batch=4, isolated=[0], min_graphs=2)) == [2, 4]
    sampler = equal(5, per_batch=4, isolated=[0], min_graphs=2)
    assert lengths(sampler) == [2, 3]
    assert contents(sampler) == list(range(5))


@pytest.mark.parametrize(("n", "expected"), [(8, [2, 2, 2, 2]), (9, [2, 2, 2, 3]), (17, [2, 4, 4, 7])])
def test_every_rank_has_the_fewest_too(n, expected):
    sampler = equal(n, per_batch=8, n_ranks=4, min_graphs=2)
    for epoch in range(3):
        assert lengths(sampler, epoch) == expected


def test_too_few_samples_for_the_ranks():
    assert text_of(equal, n=7, per_batch=8, n_ranks=4, min_graphs=2) == (
        "samples: got 7; expected at least 8, 2 for each rank. Give more samples or use fewer ranks."
    )
    assert lengths(equal(8, per_batch=8, n_ranks=4, min_graphs=2)) == [2, 2, 2, 2]
    assert text_of(equal, n=3, per_batch=8, n_ranks=4) == (
        "samples: got 3; expected at least 4, one for each rank. Give more samples or use fewer ranks."
    )


def test_every_epoch_has_batches_of_its_own():
    sampler = equal(40, per_batch=4)
    first, second = ({tuple(sorted(batch)) for step in sampler.steps(epoch) for batch in step} for epoch in (0, 1))
    assert len(first) == len(second) == 10
    assert first != second


def test_one_batch_in_a_thousand_is_in_reserve():
    assert len(equal(3_998, per_batch=2)) == 1_999 + 1
    assert len(equal(1_998, per_batch=2)) == 999


def test_nobody_is_said_to_sit_out_where_ranks_divide_the_batches(caplog):
    assert equal(8, per_batch=1, n_ranks=4).sitting_out(0) == ()
    assert equal(12, per_batch=4).sitting_out(0) == ()
    assert caplog.messages == []
