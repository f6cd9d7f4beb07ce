"""Runs that are slower than promised: when that is said, and what is blamed."""

import pytest

from compass.records import Batch, Load, RuntimeSettings
from compass.training.cycle_report import CycleClock
from compass.training.slowness import doubt, is_far_slower

SPINS, SLEEPS = RuntimeSettings(threads=2, waiting="spin"), RuntimeSettings(threads=2)
LOAD = Load(graphs=4, sizes=(("nodes", 40.0),))


def clock_of(n_batches, step_s, data_s=0.0):
    """Batches that were predicted to take a second each."""
    made = CycleClock(1.0, 2**31, 450)
    for _ in range(n_batches):
        made.add(Batch(), LOAD, step_s=step_s, data_s=data_s, loss=1.0)
    return made


@pytest.mark.parametrize(
    ("n_batches", "step_s", "far"), [(19, 9.0, False), (20, 2.9, False), (20, 3.0, True), (450, 1.0, False)]
)
def test_an_unfinished_cycle_is_judged_after_its_first_batches(n_batches, step_s, far):
    assert is_far_slower(clock_of(n_batches, step_s)) == far


def test_fast_batches_are_judged_after_some_seconds():
    made = CycleClock(0.001, 2**31, 450)
    for _ in range(100):
        made.add(Batch(), LOAD, step_s=0.05, data_s=0.0, loss=1.0)
    assert not is_far_slower(made)


@pytest.mark.parametrize(
    ("step_s", "data_s", "runtime", "busy_cores", "on_host", "says"),
    [
        (1.4, 0.0, SPINS, 2.0, True, None),
        (3.0, 0.0, SPINS, None, True,
         "30 batches took 3.0 times as long as predicted. The plan's threads spin while they wait, which is fast on idle cores only. "
         "If other programs use the cores, run `compass optimize --device cpu --set runtime.waiting=sleep`"),
        (3.0, 0.0, SPINS, 1.84, True,
         "30 batches took 3.0 times as long as predicted. Other programs keep 1.8 cores busy. The plan's threads spin while they "
         "wait, which is fast on idle cores only. If other programs use the cores, run `compass optimize --device cpu --set "
         "runtime.waiting=sleep`"),
        (3.0, 0.0, SLEEPS, 1.84, True,
         "30 batches took 3.0 times as long as predicted. Other programs keep 1.8 cores busy. End them, or run `compass optimize --device cpu` "
         "beside them"),
        (3.0, 0.0, SLEEPS, 0.1, True,
         "30 batches took 3.0 times as long as predicted. No other program explains it: `compass verify` shows whether the plan "
         "still holds on this machine"),
        (3.0, 0.0, SLEEPS, None, True,
         "30 batches took 3.0 times as long as predicted. Other programs may use the cores, which this run cannot count: "
         "`compass verify` shows whether the plan still holds on this machine"),
        (3.0, 0.0, SLEEPS, None, False,
         "30 batches took 3.0 times as long as predicted. Another program may use the device; `compass verify` shows whether the "
         "plan still holds"),
        (1.0, 3.0, SLEEPS, None, False,
         "30 batches took 4.0 times as long as predicted. 75% of the time they waited for data. Run `compass optimize --device cpu`, which "
         "chooses the number of loader processes, or put the dataset on a faster disk"),
    ],
)  # fmt: skip
def test_the_reason_and_the_remedy(step_s, data_s, runtime, busy_cores, on_host, says):
    cycle = clock_of(30, step_s, data_s).finish(1)
    assert doubt(cycle, runtime, busy_cores, on_host=on_host, again="compass optimize --device cpu") == says
