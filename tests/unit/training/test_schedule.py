"""The learning rate: its laws, and a few points by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compass.optimizer_config import TrainingRules
from compass.training.schedule import learning_rate, rate_factor, warmup_updates

RULES = st.builds(
    TrainingRules,
    warmup_share=st.floats(0, 1),
    final_share=st.floats(0, 1),
    batch_exponent=st.floats(0, 1),
    learning_rate=st.floats(1e-6, 1.0),
)


def test_by_hand():
    rules = TrainingRules(learning_rate=1e-3, reference_batch=64, batch_exponent=0.5, warmup_share=0.2, final_share=0.1)
    assert learning_rate(64, rules) == 1e-3
    assert learning_rate(16, rules) == pytest.approx(5e-4)
    assert learning_rate(256, rules) == pytest.approx(2e-3)
    factors = [rate_factor(update, 10, rules) for update in range(12)]
    assert factors[:2] == [0.5, 1.0]
    assert factors[5] == pytest.approx(0.55)  # half the cosine's way
    assert factors[9:] == pytest.approx([0.1] * 3)


@given(RULES, st.integers(1, 300))
def test_up_then_down_between_nothing_and_all(rules, n):
    factors = [rate_factor(update, n, rules) for update in range(n)]
    n_warm = warmup_updates(n, rules)
    assert 0 <= n_warm < n
    assert all(0 < factor <= 1 for factor in factors[: n - 1])
    assert factors[:n_warm] == sorted(factors[:n_warm])
    assert factors[n_warm:] == sorted(factors[n_warm:], reverse=True)
    if n_warm:
        assert factors[n_warm - 1] == 1
    assert factors[-1] == pytest.approx(rules.final_share)
    assert rate_factor(n + 7, n, rules) == pytest.approx(rules.final_share)


@given(RULES, st.floats(0.5, 1e4), st.floats(1, 10))
def test_more_graphs_an_update_never_lower_the_rate(rules, graphs, more):
    low, high = learning_rate(graphs, rules), learning_rate(graphs * more, rules)
    assert low <= high * (1 + 1e-12)
    assert high <= low * more * (1 + 1e-12)
    assert learning_rate(rules.reference_batch, rules) == pytest.approx(rules.learning_rate)


def test_what_is_no_update():
    with pytest.raises(ValueError, match=r"update -1 of 5: expected one from 0, of at least 1"):
        rate_factor(-1, 5, TrainingRules())
    with pytest.raises(ValueError, match=r"update 0 of 0: expected one from 0, of at least 1"):
        rate_factor(0, 0, TrainingRules())
    with pytest.raises(ValueError, match=r"graphs_per_update: got 0; expected more than 0"):
        learning_rate(0, TrainingRules())
