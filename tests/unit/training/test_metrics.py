"""Metrics against hand-computed figures and SciPy; no result is nan, and no warning is raised."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from compass.data.scan.rows import Label
from compass.records import Metrics
from compass.training.metrics import metrics_of

NUMBERS = st.floats(-20, 20, allow_nan=False).map(lambda value: round(value, 3))


def labels(*values, relation="="):
    return [Label(pk=value, relation=relation) for value in values]


def test_by_hand():
    found = metrics_of([1.0, 2.0, 6.0], labels(1.0, 3.0, 4.0))
    assert (found.n, found.n_bounds, found.bounds_kept) == (3, 0, None)
    assert found.rmse == pytest.approx(math.sqrt(5 / 3))
    assert found.mae == pytest.approx(1.0)
    assert found.pearson == pytest.approx(0.866025, abs=1e-6)
    assert found.spearman == pytest.approx(1.0)
    assert str(found) == "RMSE 1.29, MAE 1.00, Pearson 0.87, Spearman 1.00, n = 3"


def test_bounds_count_only_the_side():
    bounds = [*labels(5.0, 5.0, relation=">"), *labels(5.0, relation="<"), *labels(5.0, relation="~")]
    found = metrics_of([9.0, 4.0, 4.0, 6.0], bounds)
    assert (found.n, found.rmse, found.pearson) == (1, 1.0, None)
    assert (found.n_bounds, found.bounds_kept) == (3, pytest.approx(2 / 3))
    assert str(found) == "RMSE 1.00, MAE 1.00, n = 1, 67% of 3 bounds kept"


@pytest.mark.parametrize(
    ("predicted", "truth"),
    [([], []), ([1.0], [2.0]), ([3.0, 3.0], [1.0, 2.0]), ([1.0, 2.0], [7.1, 7.1]), ([0.1 + 0.2, 0.3], [1.0, 2.0])],
)
def test_no_correlation_without_variation(predicted, truth):
    found = metrics_of(predicted, labels(*truth))
    assert found.pearson is None
    assert (found.rmse is None) == (not truth)


def test_no_labels():
    assert metrics_of([], []) == Metrics(n=0, rmse=None, mae=None, pearson=None, spearman=None)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=3, max_size=40))
def test_metrics_agree_with_scipy(pairs):
    predicted, truth = zip(*pairs, strict=True)
    found = metrics_of(predicted, labels(*truth))
    assert found.mae <= found.rmse * (1 + 1e-12) + 1e-12
    if found.pearson is not None:
        assert found.pearson == pytest.approx(stats.pearsonr(predicted, truth).statistic, abs=1e-6)
    if found.spearman is not None:
        assert found.spearman == pytest.approx(stats.spearmanr(predicted, truth).statistic, abs=1e-9)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=20), st.floats(0.1, 5), NUMBERS)
def test_correlation_does_not_depend_on_scale(pairs, scale, shift):
    predicted, truth = zip(*pairs, strict=True)
    found = metrics_of(predicted, labels(*truth))
    again = metrics_of([scale * value + shift for value in predicted], labels(*truth))
    if found.pearson is not None and again.pearson is not None:
        assert again.pearson == pytest.approx(found.pearson, abs=1e-6)


def test_numbers_of_labels_and_predictions_differ():
    with pytest.raises(ValueError, match=r"got predictions of shape \(2,\) for 1 labels"):
        metrics_of([1.0, 2.0], labels(1.0))
