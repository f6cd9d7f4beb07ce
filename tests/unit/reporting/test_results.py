"""The table of a run's results."""

import pytest

from compass.records import Evaluation, Metrics
from compass.reporting.results import metric_words, results_table, sentence

NONE = Metrics(n=0, rmse=None, mae=None, pearson=None, spearman=None)


def of(part, name="model", **figures):
    return Evaluation(part=part, of=name, metrics=NONE.model_copy(update=figures))


def test_parts_that_were_not_evaluated_have_no_row():
    table = results_table([of("test", n=30, rmse=1.25, pearson=0.5), of("test", "mean baseline", n=30, rmse=1.5)])
    assert table.headers == ("", "complexes", "model", "ligand alone", "mean")
    assert table.rows == (("test", "30", "1.25, R 0.50", "", "1.50"),)
    assert results_table([]).rows == ()


@pytest.mark.parametrize(
    ("figures", "text"),
    [
        ({}, ""),
        ({"rmse": 1.25}, "1.25"),
        ({"n_bounds": 1_200, "bounds_kept": 0.75}, "75% of 1,200 bounds kept"),
        (
            {"rmse": 1.0, "pearson": -0.5, "n_bounds": 2, "bounds_kept": 0.5},
            "1.00, R -0.50, 50% of 2 bounds kept",
        ),
    ],
)
def test_a_cell(figures, text):
    assert metric_words(of("test", **figures)) == text


def test_a_sentence_has_a_capital_and_a_full_stop():
    assert sentence("better than …; 9 updates were made") == "Better than …; 9 updates were made."
    assert sentence("Done.") == "Done."
