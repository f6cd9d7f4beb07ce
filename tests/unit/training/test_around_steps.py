"""The clock and the signals around the steps of a run."""

import os
import signal

import pytest

from compass.training.signals import Signals
from compass.training.stopwatch import BatchTimes, Stopwatch


def test_evaluations_and_checkpoints_count_as_elapsed_time_only(monkeypatch):
    now_s = iter([0.0, 1.0, 3.0, 10.0, 11.5, 12.0])
    monkeypatch.setattr("compass.training.stopwatch.time.monotonic", lambda: next(now_s))
    stopwatch = Stopwatch()
    stopwatch.start(elapsed_before_s=100.0)
    stopwatch.batch_arrived()
    assert stopwatch.batch_finished() == BatchTimes(step_s=2.0, data_s=1.0, elapsed_s=103.0)
    stopwatch.wait_for_data()  # after an evaluation of 7 s
    stopwatch.batch_arrived()
    assert stopwatch.batch_finished() == BatchTimes(step_s=0.5, data_s=1.5, elapsed_s=112.0)


@pytest.fixture
def signals():
    names = [name for name in ("SIGTERM", "SIGINT", "SIGUSR1") if hasattr(signal, name)]
    before = {name: signal.getsignal(getattr(signal, name)) for name in names}
    found = Signals()
    found.install()
    yield found
    for name, handler in before.items():
        signal.signal(getattr(signal, name), handler)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")
def test_a_request_to_save(signals):
    os.kill(os.getpid(), signal.SIGUSR1)
    assert (signals.save, signals.stop) == (True, None)


def test_the_second_request_to_stop_does_not_wait(signals):
    signal.raise_signal(signal.SIGTERM)
    assert (signals.save, signals.stop) == (False, signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signals.stop == signal.SIGTERM
