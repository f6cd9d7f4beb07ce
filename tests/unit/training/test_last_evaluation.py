"""The evaluation at the end of a run: who is evaluated, the table of predictions, and the verdict."""

import csv
from types import SimpleNamespace

import pytest

from compass.checksum import is_row_whole
from compass.config_files import load_config
from compass.data.scan.rows import Label
from compass.data.splits.splits import Split
from compass.data.structures.structure_file import StructureError
from compass.training import last_evaluation
from compass.training.data import TrainingData
from compass.training.going_on import Unwritten
from compass.training.last_evaluation import PREDICTION_FIELDS, evaluate_last, evaluated_ids
from compass.training.ranks import Ranks
from compass.training.run_callback import RunCallback
from compass.training.run_spec import Amount

TRAIN, VAL, TEST = (tuple(f"{part}{i:03d}" for i in range(n)) for part, n in (("a", 60), ("b", 20), ("c", 30)))
SPLIT = Split(train=TRAIN, val=VAL, test=TEST, why="")
TRUTH = {name: Label(pk=4.0 + 0.05 * i) for i, name in enumerate((*TRAIN, *VAL, *TEST))}


def make_run(tmp_path, labels=TRUTH, catalogue="a catalogue", rank=0, noun=""):
    config = load_config(None, ["training.evaluated_train=40"])
    return SimpleNamespace(
        spec=SimpleNamespace(config=config, noun=noun),
        data=TrainingData({}, SPLIT, labels, (), catalogue),
        workload=SimpleNamespace(predict=None),
        ranks=Ranks(1, rank),
        folder=tmp_path,
    )


@pytest.fixture
def answers(monkeypatch):
    """The model errs by 0.5, the mean by 2 and the ligand alone by 1, up and down in turn."""
    errs = {"model": 0.5, "mean": 2.0, "ligand": 1.0}

    def answer(who, ids):
        return {name: TRUTH[name].pk + errs[who] * (-1) ** int(name[1:]) for name in ids}

    def predict(_, ids, on_progress):
        on_progress(len(ids))
        return answer("model", ids)

    monkeypatch.setattr(last_evaluation, "predict_ids", predict)
    monkeypatch.setattr(
        last_evaluation, "baselines", lambda _, __, ids: {who: answer(who, ids) for who in ("mean", "ligand")}
    )


def test_of_a_large_training_part_a_sample_is_evaluated():
    data = TrainingData({}, SPLIT, TRUTH, ())
    chosen = evaluated_ids(data, 40, seed=1)
    assert (len(chosen.ids["train"]), chosen.ids["val"], chosen.ids["test"], chosen.n) == (40, VAL, TEST, 90)
    assert list(chosen.ids["train"]) == sorted(set(chosen.ids["train"]) & set(TRAIN))
    assert (chosen.sample_of("train"), chosen.sample_of("test")) == (60, None)
    assert evaluated_ids(data, 40, seed=1) == chosen != evaluated_ids(data, 40, seed=2)
    whole = evaluated_ids(data, 60, seed=1)
    assert (whole.ids["train"], whole.sample_of("train")) == (TRAIN, None)


def test_three_parts_by_three_predictors(tmp_path, answers):
    told = []
    found, verdict = evaluate_last(make_run(tmp_path), 900, Unwritten(), lambda *now: told.append(now))
    assert [(one.part, one.of, one.sample_of, one.metrics.n) for one in found] == [
        (part, of, size if part == "train" else None, n)
        for of in ("model", "mean baseline", "ligand baseline")
        for part, size, n in (("train", 60, 40), ("val", None, 20), ("test", None, 30))
    ]
    assert [one.metrics.rmse for one in found[2::3]] == pytest.approx([0.5, 2.0, 1.0])
    assert verdict.standing == "better_than_ligand"
    assert verdict.says == (
        "better than the ligand alone by 50 % on the test set (RMSE 0.50, the ligand 1.00); 900 updates were made"
    )
    assert told == [("train", 40), ("val", 20), ("test", 30), ("baselines", 0)]


def test_every_prediction_is_in_a_table(tmp_path, answers):
    labels = TRUTH | {TEST[0]: Label(pk=9.0, relation=">")}
    evaluate_last(make_run(tmp_path, labels), 900, Unwritten())
    with (tmp_path / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(map(is_row_whole, rows))
    assert [row.pop("crc32") for row in rows]
    assert tuple(rows[0]) == PREDICTION_FIELDS
    assert [row["part"] for row in rows] == ["train"] * 40 + ["val"] * 20 + ["test"] * 30
    assert rows[60] == {
        "id": TEST[0], "part": "test", "pk": "9.000", "relation": ">", "predicted_pk": "8.500", "ligand_pk": "9.000",
    }  # fmt: skip


def test_labels_that_are_bounds_are_not_judged(tmp_path, answers):
    labels = {name: Label(pk=label.pk, relation="<") for name, label in TRUTH.items()}
    _, verdict = evaluate_last(make_run(tmp_path, labels), 900, Unwritten())
    assert verdict.says == "no verdict: no label of the evaluated complexes is a value; 900 updates were made"


@pytest.mark.parametrize("lost", ["the catalogue", "a file"])
def test_without_baselines_there_is_no_verdict(tmp_path, answers, monkeypatch, caplog, lost):
    def fail(*_):
        raise StructureError("missing", "a.sdf", got="no such file", expected="the ligand", fix="Scan again.")

    if lost == "a file":
        monkeypatch.setattr(last_evaluation, "baselines", fail)
    found, verdict = evaluate_last(
        make_run(tmp_path, catalogue=None if lost == "the catalogue" else "x"), 65, Unwritten()
    )
    assert {one.of for one in found} == {"model"}
    assert verdict.says == "no verdict: there are no baselines to compare with; only 65 updates were made"
    assert len(caplog.records) == (lost == "a file")
    with (tmp_path / "predictions.csv").open() as file:
        assert {row["ligand_pk"] for row in csv.DictReader(file)} == {""}


def test_without_labels_nothing_is_evaluated(tmp_path):
    found, verdict = evaluate_last(make_run(tmp_path, labels={}), 900, Unwritten())
    assert (found, verdict.says) == (
        (), "no verdict: no complexes with labels were evaluated; 900 updates were made",
    )  # fmt: skip
    assert not list(tmp_path.iterdir())
    _, verdict = evaluate_last(make_run(tmp_path, labels={}, noun="images"), 900, Unwritten())
    assert verdict.says == "no verdict: no images with labels were evaluated; 900 updates were made"


def test_ranks_other_than_the_first_only_predict(tmp_path, answers):
    assert evaluate_last(make_run(tmp_path, rank=1), 900, Unwritten())[0] == ()
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------------------------------------------ progress


def test_progress_counts_validations_and_the_last_evaluation(opened, data_of, monkeypatch):
    """2 s a batch, 6 batches an epoch, 1.26 s a validation, 8.4 s for the last evaluation and 0 s for the baselines."""
    names = tuple(f"c{i:02d}" for i in range(40))
    run = opened(data_of(*names[:24], val=names[24:30], test=names[30:]), amount=Amount(epochs=3))
    told = []
    monkeypatch.setattr("compass.training.display.REFRESH_S", 0.0)
    display = RunCallback(run, told.append).display
    at = RunCallback(run, told.append).at
    display.show_batch(at)
    display.show_batch(at.model_copy(update={"n_batches": 6, "elapsed_s": 12.0}))
    display.show_validation(at.model_copy(update={"n_batches": 6, "elapsed_s": 13.0}), 1, 3)
    display.show_last("train", 20)
    display.show_last("train", 24)
    display.show_last("val", 6)
    display.show_last("baselines", 0)
    assert [round(now.remaining_s, 2) for now in told] == [48.18, 34.92, 34.92, 4.2, 3.36, 2.1, 2.1]
    assert [(now.n_done, now.n_expected) for now in told] == [
        (0, 18), (6, 18), (3, 6), (20, 40), (24, 40), (30, 40), (30, 40),
    ]  # fmt: skip
    assert told[0].what.startswith("epoch 1, cycle 0.0 of 0.0, loss 0.000, ")
    assert [now.what for now in told[2:]] == [
        "epoch 1, validation", "last evaluation, training set", "last evaluation, training set",
        "last evaluation, validation set", "last evaluation, baselines",
    ]  # fmt: skip
