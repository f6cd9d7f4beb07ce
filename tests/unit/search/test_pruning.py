import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.records import Knobs, Variant
from compass.search.pruning import Pruned

PLAIN, RECOMPUTING = Variant(), Variant(checkpointing=True)


def knobs(layers, channels, variant=PLAIN):
    return Knobs(layers=layers, channels=channels, variant=variant)


@pytest.mark.parametrize(
    ("other", "is_out"),
    [
        (knobs(4, 64), True), (knobs(5, 64), True), (knobs(4, 80), True), (knobs(6, 96), True),
        (knobs(3, 64), False), (knobs(4, 48), False), (knobs(3, 512), False), (knobs(12, 48), False),
        (knobs(6, 96, RECOMPUTING), False), (knobs(6, 96, Variant(precision="bf16")), False),
    ],
)  # fmt: skip
def test_too_big_rules_out_what_is_at_least_as_large_in_both(other, is_out):
    pruned = Pruned()
    pruned.rule_out(knobs(4, 64), "fast", "too big")
    assert pruned.reason(other, "fast") == ("too big" if is_out else None)
    assert pruned.reason(other, "tight") is None  # wastes less
    assert pruned.broken(other) is None


def test_what_is_broken_says_nothing_of_others():
    pruned = Pruned()
    pruned.set_aside(knobs(4, 64), "crashed")
    assert pruned.reason(knobs(4, 64), "tight") == pruned.broken(knobs(4, 64)) == "crashed"
    assert pruned.reason(knobs(5, 80), "tight") is None


def test_a_variant_can_be_broken_as_a_whole():
    pruned = Pruned()
    pruned.set_aside(RECOMPUTING, "crashed")
    assert pruned.reason(knobs(2, 32, RECOMPUTING), "fast") == "crashed"
    assert pruned.reason(knobs(2, 32), "fast") is None


@st.composite
def monotone_costs(draw):
    """Costs (layers, channels) that rise along both: sums of non-negative increments."""
    grid = draw(st.lists(st.lists(st.integers(0, 9), min_size=6, max_size=6), min_size=5, max_size=5))
    return [[sum(sum(row[: j + 1]) for row in grid[: i + 1]) for j in range(6)] for i in range(5)]


@given(monotone_costs(), st.integers(0, 200), st.permutations([(i, j) for i in range(5) for j in range(6)]))
def test_pruning_never_removes_what_fits(costs, budget, order):
    pruned = Pruned()
    tried = 0
    for i, j in order:
        if pruned.reason(knobs(i + 1, 16 * (j + 1)), "fast") is None:
            tried += 1
            if costs[i][j] > budget:
                pruned.rule_out(knobs(i + 1, 16 * (j + 1)), "fast", "too big")
    left = {(i, j) for i, j in order if pruned.reason(knobs(i + 1, 16 * (j + 1)), "fast") is None}
    assert left == {(i, j) for i, j in order if costs[i][j] <= budget}
    assert tried <= len(order)


def test_an_invalid_model_rules_out_those_at_least_as_large():
    pruned = Pruned()
    pruned.observe(knobs(2, 32), None)
    pruned.observe(knobs(4, 64), "invalid: no kernel")
    assert pruned.broken(knobs(4, 64)) == pruned.broken(knobs(5, 80)) == "invalid: no kernel"
    assert pruned.broken(knobs(3, 80)) is pruned.broken(knobs(5, 48)) is None
    assert pruned.broken(knobs(5, 80, RECOMPUTING)) is None


def test_the_smallest_model_that_is_invalid_says_nothing_of_the_others():
    pruned = Pruned()
    pruned.observe(knobs(3, 16), None)
    pruned.observe(knobs(2, 32), "invalid: no kernel")
    assert pruned.broken(knobs(4, 64)) is None


def test_an_invalid_model_says_nothing_if_one_as_large_ran():
    pruned = Pruned()
    pruned.observe(knobs(2, 32), None)
    pruned.observe(knobs(4, 64), "invalid: no kernel")
    pruned.observe(knobs(5, 192), None)
    assert pruned.broken(knobs(5, 80)) is None


@pytest.mark.parametrize(
    ("ran", "wide", "deep"),
    [
        (((8, 96), (12, 128)), True, False),  # deep models run: it is the width
        (((2, 160), (3, 512)), False, True),  # wide models run: it is the depth
        (((2, 64),), False, False),  # it may be either
    ],
)
def test_two_invalid_models_show_whether_width_or_depth_is_the_cause(ran, wide, deep):
    pruned = Pruned()
    for model in ((2, 32), *ran):
        pruned.observe(knobs(*model), None)
    pruned.observe(knobs(5, 160), "invalid: no kernel")
    pruned.observe(knobs(4, 176), "invalid: no kernel")
    assert (pruned.broken(knobs(2, 160)) is not None) == wide
    assert (pruned.broken(knobs(9, 32)) is not None) == deep
