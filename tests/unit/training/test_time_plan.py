"""The predicted time of a whole run, and what is left of it."""

import dataclasses

import pytest

from compass.training.time_plan import MEASURED_BATCHES, RemainingTime, TimePlan

PLAN = TimePlan(batch_s=2.0, n_batches=100, per_epoch=30, validation_s=7.0, last_s=40.0, baselines_s=5.0)


def test_everything_counts():
    assert PLAN.n_validations == 4  # the last, shorter epoch ends with one too
    assert PLAN.training_s == 200 + 4 * 7
    assert PLAN.total_s == 228 + 45
    assert PLAN.n_expected == 100


def test_without_validation():
    plan = dataclasses.replace(PLAN, validation_s=0.0, last_s=0.0, baselines_s=0.0)
    assert (plan.n_validations, plan.total_s) == (0, 200.0)


def test_a_given_time_ends_batches_and_validations_but_not_the_evaluation():
    plan = dataclasses.replace(PLAN, max_time_s=114.0)
    assert (plan.training_s, plan.total_s, plan.n_expected) == (114.0, 159.0, 50)
    assert dataclasses.replace(PLAN, max_time_s=1e6).total_s == PLAN.total_s


def test_until_enough_is_measured_the_prediction_counts():
    left = RemainingTime(PLAN)
    for _ in range(MEASURED_BATCHES - 1):
        left.add_batch(50.0)
    assert left.batch_s == 2.0
    left.add_batch(50.0)
    assert left.batch_s == 50.0


def test_what_is_left_is_told_at_the_measured_pace():
    left = RemainingTime(PLAN)
    for _ in range(30):
        left.add_batch(3.0)
    assert left.training_s(30, 90.0) == 70 * 3 + 3 * 7
    left.add_validation(14.0)
    assert left.training_s(30, 104.0) == 70 * 3 + 3 * 14
    assert left.evaluation_s() == 2 * 40 + 5
    assert left.evaluation_s(0.25) == 2 * 10 + 5
    assert left.training_s(100, 400.0) == 0.0
    assert left.n_expected(30, 104.0) == left.n_expected(100, 400.0) == 100


def test_what_is_left_of_a_given_time():
    left = RemainingTime(dataclasses.replace(PLAN, validation_s=0.0, max_time_s=120.0))
    assert left.training_s(10, 20.0) == 100.0
    assert left.n_expected(10, 20.0) == 10 + 50
    assert left.training_s(59, 121.0) == 0.0
    assert left.n_expected(59, 121.0) == 59


@pytest.mark.parametrize("n_done", range(0, 101, 7))
def test_the_rest_and_the_past_are_the_whole(n_done):
    left = RemainingTime(PLAN)
    past_s = n_done * PLAN.batch_s + n_done // PLAN.per_epoch * PLAN.validation_s
    assert past_s + left.training_s(n_done, past_s) + left.evaluation_s() == pytest.approx(PLAN.total_s)
