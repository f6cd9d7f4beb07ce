"""Batches for unequal ranks: every sample once, within each rank's memory, in about the same time."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.batching.unequal import UnequalBatches, loss_weight
from compass.errors import InputError
from compass.records import Affine, BytesLaw, RankShare

LAW = BytesLaw(segments=(("step", Affine(base=0.0, per_unit=(("nodes", 1.0),))),))
TIME = Affine(base=5.0, per_unit=(("nodes", 0.1),))


def sizes(n=600, seed=0, low=20, high=600):
    return np.random.default_rng(seed).lognormal(5, 0.7, size=(n, 1)).clip(low, high)


def batches(shares, n=600, **more):
    return UnequalBatches(sizes(n), LAW, TIME, shares, features=("nodes",), **more)


OLD, NEW = RankShare(budget_bytes=2_000, speed=1.0), RankShare(budget_bytes=20_000, speed=3.0)


@given(
    st.lists(st.tuples(st.integers(700, 20_000), st.floats(0.2, 5.0)), min_size=1, max_size=4),
    st.integers(40, 300),
    st.integers(0, 3),
)
def test_every_sample_once_within_each_ranks_memory(ranks, n, epoch):
    shares = [RankShare(budget_bytes=budget, speed=speed) for budget, speed in ranks]
    found = batches(shares, n)
    steps = found.steps(epoch)
    assert len(steps) == found.n_steps
    assert sorted(np.concatenate([batch for step in steps for batch in step])) == list(range(n))
    for step in steps:
        for share, batch in zip(shares, step, strict=True):
            assert len(batch)
            assert found.sizes[batch].sum() <= share.budget_bytes


def test_loads_follow_speed():
    found = batches([OLD, NEW])
    seconds = np.array([found.step_s(step) for step in found.steps(0)])
    waited = seconds.max(axis=1).sum() / seconds.mean(axis=1).sum() - 1
    assert waited < 0.03
    nodes = np.array([[found.sizes[batch].sum() for batch in step] for step in found.steps(0)])
    assert 2.5 < nodes[:, 1].sum() / nodes[:, 0].sum() < 5.5


def test_epochs_have_orders_of_their_own_and_the_same_length():
    found = batches([OLD, NEW])
    first, second = found.steps(0), found.steps(1)
    assert len(first) == len(second)
    assert any((a[0][: len(b[0])] != b[0][: len(a[0])]).any() for a, b in zip(first, second, strict=True))
    again = batches([OLD, NEW]).steps(0)
    assert all((a == b).all() for x, y in zip(first, again, strict=True) for a, b in zip(x, y, strict=True))


def test_large_samples_go_where_they_fit():
    found = UnequalBatches(
        np.array([[5_000.0], [4_000.0], *[[100.0]] * 60]), LAW, TIME, [OLD, NEW], features=("nodes",)
    )
    for step in found.steps(0):
        assert found.sizes[step[0]].max() <= 2_000


def test_most_graphs():
    found = batches([OLD, NEW], max_graphs=3)
    assert max(len(batch) for step in found.steps(0) for batch in step) == 3


def test_weights_make_the_mean_over_ranks_the_mean_over_graphs():
    losses, cuts = np.random.default_rng(0).random(12), [0, 5, 7, 12]
    parts = [losses[a:b] for a, b in pairwise(cuts)]
    weighted = [loss_weight(len(part), 12, 3) * part.mean() for part in parts]
    assert np.mean(weighted) == pytest.approx(losses.mean())


def test_a_sample_that_fits_no_rank():
    with pytest.raises(InputError) as error:
        UnequalBatches(np.array([[30_000.0], [1.0]]), LAW, TIME, [OLD, NEW], features=("nodes",))
    assert str(error.value) == (
        "samples: got 1 that fit no rank, such as 0; expected each within the 19.53 KiB of the largest rank. "
        "Leave them out or crop them."
    )


def test_fewer_samples_than_ranks():
    with pytest.raises(InputError) as error:
        UnequalBatches(np.array([[1.0]]), LAW, TIME, [OLD, NEW], features=("nodes",))
    assert str(error.value) == "samples: got 1; expected at least one for each of 2 ranks. Use fewer ranks."


def test_only_large_samples():
    with pytest.raises(InputError) as error:
        UnequalBatches(np.full((4, 1), 5_000.0), LAW, TIME, [OLD, NEW], features=("nodes",))
    assert str(error.value) == (
        "samples: got 4 that cannot be dealt out to 2 ranks; expected enough small ones for the ranks with the least "
        "memory. Use fewer ranks, or crop the largest samples."
    )


def test_samples_that_fit_no_rank_are_left_out_if_so_asked():
    found = UnequalBatches(
        np.array([[30_000.0], *[[100.0]] * 30]), LAW, TIME, [OLD, NEW], features=("nodes",), leave_out=True
    )
    assert found.left_out == ("0",)
    assert sorted(np.concatenate([batch for step in found.steps(0) for batch in step])) == list(range(1, 31))
    assert found.mean_graphs == 30 / (2 * len(found))


def test_means():
    found = batches([OLD, NEW])
    loads = [found.sizes[batch].sum() for step in found.steps(0) for batch in step]
    assert found.mean_load["nodes"] == pytest.approx(np.mean(loads))
    assert found.mean_step_s == pytest.approx(np.mean([found.step_s(step).max() for step in found.steps(0)]))


def test_a_steps_seconds_by_hand():
    found = UnequalBatches(np.array([[100.0], [100.0], [200.0]]), LAW, TIME, [OLD, NEW], features=("nodes",))
    assert found.step_s([np.array([0]), np.array([1, 2])]).tolist() == pytest.approx([5 + 10, (5 + 30) / 3])


def test_what_a_sample_costs_in_every_feature():
    time_law = Affine(base=0.0, per_unit=(("edges", 0.5), ("nodes", 0.1)))
    found = UnequalBatches(np.array([[10.0, 4.0], [20.0, 6.0]]), LAW, time_law, [OLD, OLD])
    assert found.step_s([np.array([0]), np.array([1])]).tolist() == pytest.approx([3.0, 5.0])


def test_samples_are_named_by_their_ids():
    rows = np.array([[100.0], [30_000.0], [100.0]])
    given = {"features": ("nodes",), "ids": ("a", "b", "c")}
    assert UnequalBatches(rows, LAW, TIME, [OLD, NEW], leave_out=True, **given).left_out == ("b",)
    with pytest.raises(InputError, match="such as b; expected"):
        UnequalBatches(rows, LAW, TIME, [OLD, NEW], **given)


def test_an_order_that_does_not_fit_falls_back_to_the_batches_of_the_first():
    found = batches([OLD, NEW])
    first = sorted(tuple(map(tuple, step)) for step in found.steps(0))
    dealt = found._dealt
    found._dealt = lambda n_steps, epoch, attempt: dealt(n_steps, 0, 0) if epoch == 0 else None
    again = found.steps(3)
    assert sorted(tuple(map(tuple, step)) for step in again) == first
    assert [tuple(map(tuple, step)) for step in again] != [tuple(map(tuple, step)) for step in found.steps(4)]


def test_steps_are_no_more_than_memory_and_speed_ask_for():
    """Equal ranks with room for ten samples each: twenty a step."""
    same = RankShare(budget_bytes=1_001, speed=1.0)
    found = UnequalBatches(np.full((200, 1), 100.0), LAW, TIME, [same, same], features=("nodes",))
    assert found.n_steps == len(found) == len(found.steps(0)) == 10
    assert found.mean_graphs == 10.0
    assert found.mean_load.graphs == 10
    assert found.mean_step_s == pytest.approx(5 + 100)


def test_samples_without_size_are_dealt_out_to_all():
    same = RankShare(budget_bytes=1_001, speed=1.0)
    found = UnequalBatches(
        np.zeros((8, 1)), LAW, Affine(base=0.0, per_unit=()), [same] * 4, features=("nodes",), max_graphs=2
    )
    assert [[len(batch) for batch in step] for step in found.steps(0)] == [[2, 2, 2, 2]]


@given(st.integers(2, 4), st.integers(8, 60), st.integers(0, 3))
def test_every_batch_of_every_rank_has_the_fewest(n_ranks, n, seed):
    shares = [RankShare(budget_bytes=2_000 * (rank + 1), speed=1.0 + rank) for rank in range(n_ranks)]
    rows = sizes(n, seed, high=400)
    found = UnequalBatches(rows, LAW, TIME, shares, features=("nodes",), min_graphs=2, seed=seed)
    steps = found.steps(1)
    assert min(len(batch) for step in steps for batch in step) >= 2
    assert sorted(np.concatenate([batch for step in steps for batch in step])) == list(range(n))


def test_too_few_samples_for_a_model_that_needs_two():
    with pytest.raises(
        InputError, match=r"^samples: got 3; expected at least 2 for each of 2 ranks\. Use fewer ranks\.$"
    ):
        UnequalBatches(np.full((3, 1), 10.0), LAW, TIME, [OLD, NEW], features=("nodes",), min_graphs=2)


def test_ranks_with_room_to_spare_take_equally_long():
    """Memory leaves both the choice; speed alone decides."""
    shares = [RankShare(budget_bytes=60_000, speed=1.0), RankShare(budget_bytes=60_000, speed=3.0)]
    found = batches(shares, 900)
    seconds = np.array([found.step_s(step) for step in found.steps(0)])
    assert (seconds.max(axis=1) / seconds.mean(axis=1) - 1).max() < 0.03
