"""Which batch a model gets. 450 steps a cycle; targets are written as seconds of a step."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from compass.records import Knobs

SHAPE = (2, 32)


def step_limits(target, window):
    """A prototyping target and window such that a step may take `target` and up to `target + window` seconds."""
    return [f"stages.prototyping.target_s={450 * target}", f"stages.prototyping.window_s={450 * window}"]


def best(known, step_s, *, target=1.0, window=1.0, changes=(), **given):
    costs = {"capacity": 1000, "graph_bytes": 1.0, "step_s": step_s}
    knowledge = known({SHAPE: costs}, changes=[*step_limits(target, window), *changes], **given)
    (knobs,) = knowledge.capacities
    return knowledge.best_choice(knobs, knowledge.config.stages.prototyping)


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        (lambda n: 0.5 + 0 * n, 100),  # all are on time: as many as memory holds
        (lambda n: 0.1 * n, 10),  # throughput is level, so the largest that is on time; 11 graphs lose 5 %
        (lambda n: 0.1 * n + 0.001 * (n > 7), 10),  # 1 % is level too
        (lambda n: 0.1 * n * (1 + 0.02 * (n > 7)), 7),  # 2 % is not
        (lambda n: 0.9 + 0.011 * n, 76),  # n / step · (1.5 − step / 2) peaks at 68 and is level up to 76
        (lambda n: 3.0 + 0 * n, None),  # never admissible
    ],
)
def test_the_best_softened_throughput_then_the_largest(known, step_s, expected):
    choice = best(known, step_s)
    assert (choice and choice.batch_size) == expected


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        (lambda n: 1.0 * n, 2),  # one graph has twice the worth of two, but two is the minimum
        (lambda n: 1.5 * n, 1),  # two take too long: better one than none
    ],
)
def test_under_the_minimum_only_if_nothing_else_is_admissible(known, step_s, expected):
    assert best(known, step_s).batch_size == expected


@pytest.mark.parametrize(
    ("given", "changes", "expected"),
    [
        ({"dataset_size": 200}, [], 10),  # a twentieth of the training set
        ({"dataset_size": 219}, [], 10),
        ({"dataset_size": 5}, [], 1),
        ({}, ["batch.max_batch=7"], 7),
        ({"budget_bytes": 42}, [], 42),
        ({"budget_bytes": 1}, [], 1),
    ],
)
def test_what_caps_the_batch(known, given, changes, expected):
    assert best(known, lambda n: 0.5 + 0 * n, changes=changes, **given).batch_size == expected


def test_none_fits_memory(known):
    assert best(known, lambda n: 0.5 + 0 * n, budget_bytes=0.5) is None


@given(st.integers(1, 10**6))
def test_a_twentieth_is_never_more(known, twentieth):
    knowledge = known({SHAPE: {"capacity": 1}}, changes=["batch.max_batch=1000000"], dataset_size=20 * twentieth)
    assert knowledge.batch_cap == twentieth


@given(
    st.tuples(st.floats(0.01, 2), st.floats(0.001, 0.5), st.floats(0, 0.01)),
    st.integers(0, 60),
    st.tuples(st.floats(0.1, 3), st.floats(0.01, 3)),
)
def test_it_is_what_trying_them_all_finds(known, costs, budget, limits):
    (floor, each, bent), (target, window) = costs, limits

    def step_s(n):
        return floor + each * n + bent * n**2

    choice = best(known, step_s, target=target, window=window, budget_bytes=budget)
    softened = {}
    for n in range(1, budget + 1):
        late = max(0.0, step_s(n) - target) / window
        assume(abs(late - 1) > 1e-9)
        if late < 1:
            softened[n] = n / step_s(n) * (1 - late / 2)
    enough = {n: value for n, value in softened.items() if n >= 2} or softened
    shares = {n: value / max(enough.values()) for n, value in enough.items()}
    assume(all(abs(share - 0.99) > 1e-9 for share in shares.values()))
    assert (choice and choice.batch_size) == max((n for n, share in shares.items() if share >= 0.99), default=None)


def test_the_numbers_of_a_choice(known):
    knowledge = known({SHAPE: {"capacity": 1000, "graph_bytes": 3.0}})
    (knobs,) = knowledge.capacities
    choice = knowledge.choice(knobs, knowledge.config.stages.prototyping, 5)
    assert (choice.footprint_bound_bytes, choice.live_bytes, choice.load.graphs) == (15, 15, 5)
    assert (choice.step_s, choice.cycle_s, choice.throughput) == pytest.approx((0.5, 225, 10))
    assert choice.score is None  # there is no reference yet
    with_reference = known({SHAPE: {"capacity": 1000}}, reference=choice)
    scores = with_reference.score(1000, 5, np.array([0.5, 1e9]), knowledge.config.stages.prototyping)
    assert scores == [1.0, np.inf]


def test_candidates_are_within_range_and_the_data_cap(known):
    models = {(2, 32): {"capacity": 100}, (3, 48): {"capacity": 200}, (4, 64): {"capacity": 300}}
    knowledge = known(models, data_cap=250)
    rules = knowledge.config.stages.validation
    assert [k.layers for k in knowledge.candidates(rules, 0, 1e9)] == [2, 3]
    assert [k.layers for k in knowledge.candidates(rules, 150, 1e9)] == [3]
    assert [k.layers for k in knowledge.models(rules, 150, 1e9)] == [3, 4]
    knowledge.pruned.rule_out(next(iter(knowledge.capacities)), "fast", "too big")
    assert knowledge.candidates(rules, 0, 1e9) == []
    bf16 = rules.model_copy(update={"precision": ("bf16",)})
    assert knowledge.models(bf16, 0, 1e9) == []
    assert isinstance(next(iter(knowledge.capacities)), Knobs)
