import csv

from compass.records import Batch, Load
from compass.training.promise import CycleClock, Promised, append_row, promised

LOAD = Load(graphs=4, sizes=(("nodes", 40.0),))


def clock():
    made = CycleClock(Promised(step_s=1.0, bound_bytes=2 * 1024**3), 3)
    for step_s in (1.0, 1.2, 1.1):
        made.add(Batch(), LOAD, step_s=step_s, data_s=0.1, loss=2.0)
    return made


def test_a_cycle_is_scaled_to_the_batches_it_had():
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
    made.start_anew()
    assert not made.full
    assert not made.step_times


def test_rows_are_appended_under_one_heading(tmp_path):
    for cycle in (clock().finish(1), clock().finish(2)):
        append_row(cycle.model_dump(), tmp_path / "cycles.csv")
    with (tmp_path / "cycles.csv").open() as file:
        assert [row["peak_bytes"] for row in csv.DictReader(file)] == ["1", "2"]


def test_the_fixed_batch_promises_what_its_certificate_measured(profile):
    plan = profile.plans["prototyping"]
    assert promised(plan, budgeted=False).step_s == plan.step.median_s
    assert promised(plan, budgeted=True).step_s == plan.step.median_s  # it has no budgeted batch
