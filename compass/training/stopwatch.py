"""The times of a run's batches: waiting for data, the step, and the run so far."""

from __future__ import annotations

import time
from typing import NamedTuple


class BatchTimes(NamedTuple):
    """The times of one batch, in seconds."""

    step_s: float
    data_s: float
    """Waiting for its data."""
    elapsed_s: float
    """From the first batch to the end of this one, earlier processes of the run included."""


class Stopwatch:
    """Measures batches; time between `batch_finished` and `wait_for_data` (evaluations, checkpoints) counts for neither part."""

    def __init__(self) -> None:
        self._began_s = self._waiting_since_s = self._arrived_s = 0.0
        self._elapsed_before_s = 0.0

    def start(self, elapsed_before_s: float) -> None:
        """Begin; an earlier process of this run trained for `elapsed_before_s`."""
        self._elapsed_before_s = elapsed_before_s
        self._began_s = self._waiting_since_s = time.monotonic()

    def wait_for_data(self) -> None:
        """From now on the run waits for the next batch."""
        self._waiting_since_s = time.monotonic()

    def batch_arrived(self) -> None:
        """The next batch is here, and its step begins."""
        self._arrived_s = time.monotonic()

    def batch_finished(self) -> BatchTimes:
        """The step ended; returns the times of its batch."""
        now_s = time.monotonic()
        return BatchTimes(
            step_s=now_s - self._arrived_s,
            data_s=self._arrived_s - self._waiting_since_s,
            elapsed_s=self._elapsed_before_s + now_s - self._began_s,
        )
