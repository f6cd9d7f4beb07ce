"""The verdict on a run, sentence by sentence."""

import numpy as np
import pytest

from compass.training.verdict import PartErrors, judge_run, no_verdict, updates_words

N = 400


def errors(rmse, seed, n=N):
    """Errors of exactly this root mean square."""
    drawn = np.random.default_rng(seed).normal(size=n)
    return rmse * drawn / np.sqrt(np.square(drawn).sum() / max(1, n))


def part(model, ligand=1.5, mean=2.0, n=N):
    return PartErrors(errors(model, 0, n), errors(ligand, 1, n), errors(mean, 2, n))


@pytest.mark.parametrize(
    ("model", "standing", "says"),
    [
        (2.6, "worse_than_mean",
         "worse than the mean of the labels on the test set (RMSE 2.60, the mean 2.00): it has learnt nothing that holds there"),
        (2.01, "no_better_than_mean",
         "no better than the mean of the labels on the test set (RMSE 2.01, the mean 2.00): it has learnt nothing that holds there"),
        (1.7, "worse_than_ligand",
         "better than the mean, but worse than the ligand alone on the test set (RMSE 1.70, the ligand 1.50): it has learnt nothing "
         "of the complex"),
        (1.49, "no_better_than_ligand",
         "better than the mean, but no better than the ligand alone on the test set (RMSE 1.49, the ligand 1.50): it may have learnt "
         "nothing of the complex"),
        (1.32, "better_than_ligand", "better than the ligand alone by 12 % on the test set (RMSE 1.32, the ligand 1.50)"),
    ],
)  # fmt: skip
def test_a_model_stands_between_its_baselines(model, standing, says):
    found = judge_run({"train": part(1.4), "val": part(1.4), "test": part(model)}, 12_400, 500)
    assert (found.standing, found.part, found.n_updates, found.memorised) == (standing, "test", 12_400, False)
    assert str(found) == f"{says}; 12,400 updates were made"


def test_a_training_error_far_below_the_test_error_is_memorising():
    found = judge_run({"train": part(0.41), "test": part(1.32)}, 65, 500)
    assert found.memorised
    assert found.says == (
        "better than the ligand alone by 12 % on the test set (RMSE 1.32, the ligand 1.50); it has memorised the training set, where "
        "its RMSE is 0.41; only 65 updates were made"
    )


@pytest.mark.parametrize(
    ("parts", "name", "where"),
    [
        (("train", "val"), "val", "on the validation set, since there is no test set (RMSE"),
        (("train",), "train", "on the training set, since no complexes were held out (RMSE"),
    ],
)
def test_without_a_test_part_another_is_judged(parts, name, where):
    found = judge_run(dict.fromkeys(parts, part(1.0)) | {"test": part(1.0, n=0)}, 500, 500)
    assert (found.part, found.memorised) == (name, False)
    assert where in found.says


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        ({}, "no label of the evaluated complexes is a value"),
        ({"test": part(1.0, n=0)}, "no label of the evaluated complexes is a value"),
        ({"test": part(1.0, n=1)}, "the test set has 1 label that is a value, and 10 are needed"),
        ({"test": part(1.0, n=9)}, "the test set has 9 labels that are values, and 10 are needed"),
        (
            {"test": PartErrors(np.array([np.nan] * N), errors(1, 1), errors(1, 2))},
            "a prediction on the test set is not a finite number",
        ),
    ],
)
def test_a_model_that_cannot_be_compared(found, reason):
    verdict = judge_run(found, 1, 500)
    assert (verdict.standing, verdict.part) == ("unknown", "")
    assert verdict == no_verdict(reason, 1, 500)
    assert verdict.says == f"no verdict: {reason}; only 1 update was made"


def test_a_difference_on_few_labels_may_be_chance():
    """The same errors in proportion are a finding on 400 labels, and none on 12."""
    assert judge_run({"test": part(1.32, n=12)}, 900, 500).standing == "no_better_than_mean"


def test_equal_predictions_are_no_better():
    same = errors(1.5, 0)
    assert judge_run({"test": PartErrors(same, same, same)}, 900, 500).standing == "no_better_than_mean"


@pytest.mark.parametrize(
    ("n", "text"),
    [
        (0, "only 0 updates were made"),
        (1, "only 1 update was made"),
        (499, "only 499 updates were made"),
        (500, "500 updates were made"),
    ],
)
def test_updates_in_words(n, text):
    assert updates_words(n, 500) == text
