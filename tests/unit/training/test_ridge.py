"""The ridge against its definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array

from compass.training.ridge import N_JUDGES, PENALTIES, fit_ridge

NOBODY = csr_array((0, 6)), np.zeros(0)


def make(n, p=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.poisson(0.7, (n, p)).astype(float)
    return x, x @ rng.normal(size=p) + 3.0 + rng.normal(size=n)


def solve(x, y, penalty):
    centre = x.mean(axis=0)
    z = x - centre
    w = np.linalg.solve(z.T @ z + penalty * np.eye(x.shape[1]), z.T @ (y - y.mean()))
    return lambda new: y.mean() + (new - centre) @ w


@given(st.integers(1, 40), st.integers(0, 1000))
def test_its_weights_are_those_of_the_penalty_it_chose(n, seed):
    x, y = make(n, seed=seed)
    new, _ = make(7, seed=seed + 1)
    ridge = fit_ridge(csr_array(x), y, *NOBODY)
    np.testing.assert_allclose(ridge.predict(csr_array(new)), _without_unseen(x, y, ridge.penalty, new), atol=1e-6)


def _without_unseen(x, y, penalty, new):
    seen = x.any(axis=0)
    return solve(x[:, seen], y, penalty)(new[:, seen]) if seen.any() else np.full(len(new), y.mean())


def test_the_penalty_is_the_best_by_leaving_one_out():
    x, y = make(25)
    errors = []
    for penalty in PENALTIES:
        others = [np.arange(25) != i for i in range(25)]
        errors.append(sum((solve(x[o], y[o], penalty)(x[i]) - y[i]) ** 2 for i, o in enumerate(others)))
    assert fit_ridge(csr_array(x), y, *NOBODY).penalty == PENALTIES[np.argmin(errors)]


def test_the_penalty_is_the_best_for_the_judges():
    (x, y), (jx, jy) = make(25), make(N_JUDGES, seed=5)
    errors = [np.square(solve(x, y, penalty)(jx) - jy).sum() for penalty in PENALTIES]
    assert fit_ridge(csr_array(x), y, csr_array(jx), jy).penalty == PENALTIES[np.argmin(errors)]


def test_noise_is_met_with_the_largest_penalty():
    rng = np.random.default_rng(3)
    x = rng.poisson(0.7, (30, 200)).astype(float)
    ridge = fit_ridge(csr_array(x), rng.normal(6, 1, 30), csr_array((0, 200)), np.zeros(0))
    assert np.std(ridge.predict(csr_array(x))) < 0.5


@pytest.mark.parametrize("n", [600, 1100])
def test_more_rows_than_are_made_dense_at_once(n):
    x, y = make(n)
    assert np.corrcoef(fit_ridge(csr_array(x), y, *NOBODY).predict(csr_array(x)), y)[0, 1] > 0.7
