import csv

import pytest

from compass.records import Affine, Batch, Evaluation, Load, Metrics
from compass.training.cycle_report import CycleClock, append_row, drop_rows, epoch_headers, epoch_row, predicted_batch_s

LOAD = Load(graphs=4, sizes=(("nodes", 40.0),))


def clock():
    made = CycleClock(1.0, 2 * 1024**3, 3)
    for step_s in (1.0, 1.2, 1.1):
        made.add(Batch(), LOAD, step_s=step_s, data_s=0.1, loss=2.0)
    return made


def test_a_cycle_is_scaled_to_its_batches():
    made = clock()
    assert made.full
    cycle = made.finish(1024**3)
    assert (cycle.number, cycle.n_batches, cycle.n_graphs, cycle.predicted_s) == (1, 3, 12, 3.0)
    assert abs(cycle.measured_s - 3.6) < 1e-9
    assert (cycle.step_s, cycle.loss) == (1.1, 2.0)
    assert str(cycle) == (
        "cycle 1: 3 batches in 3.6 s (3.0 s predicted, +20.0%), 8% of it waiting for data: the device is the bottleneck; "
        "1.00 GiB at most (bound 2.00 GiB); loss 2.000"
    )
    made.start_next()
    assert not made.full
    assert not made.step_times


def test_rows_are_appended_under_one_header(tmp_path):
    for cycle in (clock().finish(1), clock().finish(2)):
        append_row(cycle.model_dump(), tmp_path / "cycles.csv")
    with (tmp_path / "cycles.csv").open() as file:
        assert [row["peak_bytes"] for row in csv.DictReader(file)] == ["1", "2"]


def test_the_time_of_a_batch_is_its_mean_step_and_collating(profile):
    plan = profile.plans["prototyping"]
    assert predicted_batch_s(plan, LOAD, budgeted=False) == plan.measured.step.median_s
    assert predicted_batch_s(plan, LOAD, budgeted=True) == plan.measured.step.median_s  # it has no budgeted batch
    restless = plan.measured.step.model_copy(update={"mean_s": 1.05 * plan.measured.step.median_s})
    measured = plan.measured.model_copy(update={"step": restless, "collate_s": 0.1})
    plan = plan.model_copy(update={"measured": measured})
    assert predicted_batch_s(plan, LOAD, budgeted=False) == 1.05 * plan.measured.step.median_s + 0.1
    assert (
        predicted_batch_s(plan.model_copy(update={"loader_workers": 1}), LOAD, budgeted=False)
        == 1.05 * plan.measured.step.median_s
    )


def test_weights_are_updated_once_for_accumulated_batches(profile):
    plan = profile.plans["prototyping"]
    step_s = plan.measured.step.median_s
    measured = plan.measured.model_copy(update={"update_s": 0.1 * step_s})
    plan = plan.model_copy(update={"measured": measured, "accumulate": 4})
    assert predicted_batch_s(plan, LOAD, budgeted=False) == pytest.approx(0.925 * step_s)
    assert predicted_batch_s(plan.model_copy(update={"accumulate": 1}), LOAD, budgeted=False) == pytest.approx(step_s)


def test_the_mean_batch_may_be_larger_than_the_timed_one(profile):
    plan = profile.plans["prototyping"]
    law = Affine(base=0.5, per_unit=(("nodes", 0.05),))
    plan = plan.model_copy(update={"step_law": law})
    assert predicted_batch_s(plan, LOAD, budgeted=False) == pytest.approx(2.5)
    assert predicted_batch_s(plan, Load(graphs=4, sizes=(("nodes", 44.0),)), budgeted=False) == pytest.approx(2.7)


def test_every_epoch_has_the_same_columns():
    """Also where a correlation is not defined, because a new model predicts one value for all."""
    flat = Metrics(n=3, rmse=1.0, mae=1.0, pearson=None, spearman=None)
    rows = [
        epoch_row(1, 4, 2.5, Evaluation(part="val", metrics=metrics))
        for metrics in (flat, flat.model_copy(update={"pearson": 0.5}))
    ]
    assert rows[0].keys() == rows[1].keys()
    assert list(rows[0].items())[:5] == [
        ("epoch", 1),
        ("updates", 4),
        ("train_loss", 2.5),
        ("val_n", 3),
        ("val_rmse", 1.0),
    ]
    assert (rows[0]["val_pearson"], rows[1]["val_pearson"]) == (None, 0.5)
    assert epoch_row(1, 4, 2.5, None) == {"epoch": 1, "updates": 4, "train_loss": 2.5}


def test_rows_after_a_checkpoint_are_dropped_on_resuming(tmp_path):
    path = tmp_path / "cycles.csv"
    assert drop_rows(path, "number", 1) == 0
    assert not path.exists()
    for number in (1, 2, 3):
        append_row({"number": number, "note": "a, b"}, path)
    assert drop_rows(path, "number", 2) == 2
    append_row({"number": 3, "note": "again"}, path)
    lines = [line.rpartition(",")[0] for line in path.read_text().splitlines()]
    assert lines == ["number,note", '1,"a, b"', '2,"a, b"', "3,again"]
    with path.open("a") as file:
        file.write("4")  # the process was killed
    assert drop_rows(path, "number", 9) == 3
    assert drop_rows(path, "ends_at", 0) == 3  # a table of an older version has no such column
    path.write_text("number,note\n3,again\n")
    append_row({"number": 4, "note": "new", "ends_at": 40}, path)
    assert path.read_text().splitlines()[-1] == "4,new"


def test_no_flipped_bit_of_a_table_goes_on_in_silence(tmp_path, caplog, monkeypatch):
    """A damaged row is left out with a warning; a damaged header is restored."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    path = tmp_path / "epochs.csv"
    for epoch in (1, 2, 3):
        append_row(epoch_row(epoch, 4 * epoch, 1.0 / epoch, None), path)
    whole = path.read_bytes()
    header, *rows = whole.decode().splitlines()
    for place in range(3, 8 * len(whole), 5):
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        caplog.clear()
        n_kept = drop_rows(path, "epoch", 9, epoch_headers())
        left_header, *left = path.read_text().splitlines()
        assert left_header == header
        assert n_kept == len(left)
        assert set(left) <= set(rows)
        assert len(left) >= 1  # of three: a line break may go
        assert len(left) == 3 or "damaged or incomplete rows are left out" in caplog.text


def test_a_header_that_is_damaged_while_a_run_goes_on_loses_nothing(tmp_path):
    path = tmp_path / "epochs.csv"
    append_row(epoch_row(1, 4, 1.0, None), path)
    path.write_bytes(path.read_bytes().replace(b"epoch", b"eqoch"))
    append_row(epoch_row(2, 8, 0.5, None), path)
    assert drop_rows(path, "epoch", 1, epoch_headers()) == 1
    assert path.read_text().startswith("epoch,updates,train_loss,crc32\n1,4,1.0,")


@pytest.mark.parametrize("damage", ["x" * 200_000, "9" * 5_000, "\udcff", '"'])
def test_rows_are_dropped_from_a_damaged_table_too(tmp_path, damage):
    path = tmp_path / "cycles.csv"
    path.write_text(f"number,ends_at\n1,450\n{damage},{damage}\n2,900\n", errors="surrogateescape")
    n_kept = drop_rows(path, "ends_at", 500)
    assert n_kept == 1
    assert path.read_text().splitlines() == ["number,ends_at", "1,450"]
