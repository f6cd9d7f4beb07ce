"""Numbers worked by hand from the formula and the table of the design."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.optimizer_config import OptimizerConfig
from compass.records import Choice, Knobs, Load
from compass.search.score import score, terms, worth

CONFIG = OptimizerConfig()
STAGES = CONFIG.stages


def reference(throughput=10.0, capacity=1_000_000):
    return Choice(
        knobs=Knobs(layers=6, channels=128), capacity=capacity, batch_size=8, load=Load(graphs=8, sizes=()),
        live_bytes=0, footprint_bound_bytes=0, step_s=8 / throughput, cycle_s=3600 / throughput, throughput=throughput,
    )  # fmt: skip


def scored(throughput, capacity, q):
    return float(score(np.array([throughput]), np.array([capacity]), reference(), q, CONFIG.score)[0])


@pytest.mark.parametrize("q", [0.0, 0.2, 0.3, 1.0])
def test_the_reference_scores_one(q):
    assert scored(10.0, 1_000_000, q) == 1.0


@pytest.mark.parametrize(
    ("throughput", "capacity", "q", "expected"),
    [
        (20.0, 100_000, 0.2, 1.032010),  # 0.8 · 2^−0.26 + 0.2 · 10^0.26 = 0.8 · 0.835088 + 0.2 · 1.819701
        (40.0, 500_000, 0.3, 0.847404),  # 0.7 · 4^−0.26 + 0.3 · 2^0.26 = 0.7 · 0.697372 + 0.3 · 1.197479
        (5.0, 1_000_000, 0.0, 1.197479),
        (5.0, 100_000, 1.0, 1.819701),
        (0.0, 1_000_000, 0.2, np.inf),
    ],
)
def test_scores(throughput, capacity, q, expected):
    assert scored(throughput, capacity, q) == pytest.approx(expected, abs=1e-6)


@given(st.floats(0.1, 100), st.floats(0.1, 100), st.integers(1_000, 10**7), st.floats(0.01, 0.99))
def test_more_throughput_and_more_capacity_score_better(one, other, capacity, q):
    slow, fast = sorted((one, other))
    assert scored(fast, capacity, q) <= scored(slow, capacity, q)
    assert scored(slow, 2 * capacity, q) < scored(slow, capacity, q)


@pytest.mark.parametrize(
    ("stage", "minutes", "expected"),
    [
        ("prototyping", 0.1, 1), ("prototyping", 20, 1), ("prototyping", 25, 0.875), ("prototyping", 30, 0.75),
        ("prototyping", 40, 0.5), ("prototyping", 40.001, 0), ("validation", 90, 1), ("validation", 100, 0.75),
        ("validation", 110, 0.5), ("validation", 110.001, 0), ("production", 10_000, 1), ("smoke_test", 10_000, 1),
    ],
)  # fmt: skip
def test_the_soft_window(stage, minutes, expected):
    assert worth(np.array([60.0 * minutes]), STAGES[stage], CONFIG.score.late_worth) == pytest.approx(expected)


def test_a_window_of_nothing_is_a_hard_limit():
    hard = STAGES.prototyping.model_copy(update={"window_s": 0.0})
    assert list(worth(np.array([1199.0, 1200.0, 1200.1]), hard, 0.5)) == [1, 1, 0]


@given(st.floats(0, 10_000), st.floats(0, 10_000))
def test_worth_never_rises_with_time(one, other):
    early, late = worth(np.array(sorted((one, other))), STAGES.prototyping, 0.5)
    assert early >= late


@given(st.floats(0.1, 100), st.floats(1, 2399), st.integers(1, 10**7))
def test_the_terms_add_up_to_the_score(throughput, cycle_s, capacity):
    rules, stage = OptimizerConfig().score, OptimizerConfig().stages.prototyping
    parts = terms(throughput, cycle_s, capacity, reference(), stage, rules)
    softened = np.array([throughput]) * worth(np.array([cycle_s]), stage, rules.late_worth)
    total = score(softened, np.array([capacity]), reference(), stage.quality_weight, rules)[0]
    assert parts.samples + parts.parameters == pytest.approx(total)
    assert parts.worth == pytest.approx(1 if cycle_s <= 1200 else 1 - 0.5 * (cycle_s - 1200) / 1200)


@pytest.mark.parametrize("quality_weight", [0.0, 0.3, 1.0])
def test_what_is_too_late_never_scores(quality_weight):
    found = score(np.array([0.0, 1.0]), np.array([100, 100]), reference(), quality_weight, CONFIG.score)
    assert np.isinf(found[0])
    assert np.isfinite(found[1])
