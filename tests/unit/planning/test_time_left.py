"""What the benchmark of the time left compares: what a reader sees at a moment, and what was still to come."""

import pytest

from benchmarks.time_left import Told, announced, misses, parts

TOLD = [Told(0.0, "scan", "", None), Told(10.0, "calibrate", "a", 100.0), Told(30.0, "certify", "b", 40.0)]


@pytest.mark.parametrize(("at_s", "left_s"), [(5.0, None), (10.0, 100.0), (25.0, 85.0), (40.0, 30.0), (90.0, 10.0)])
def test_an_announcement_counts_down(at_s, left_s):
    assert announced(TOLD, at_s) == left_s


def test_announced_and_true_time_at_each_share():
    assert misses(TOLD, 80.0) == {0.25: (90.0, 60.0), 0.5: (30.0, 40.0), 0.75: (10.0, 20.0)}


def test_parts_in_their_order():
    again = [*TOLD, Told(50.0, "certify", "c", 10.0), Told(60.0, "calibrate", "d", 5.0)]
    assert parts(again, 80.0) == [("scan", 10.0), ("calibrate", 20.0), ("certify", 30.0), ("calibrate", 20.0)]
