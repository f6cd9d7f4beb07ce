"""Load of the machine by programs other than this process."""

from __future__ import annotations

import time

import psutil


class OtherPrograms:
    """The cores that other programs keep busy, counted from the creation of this object."""

    def __init__(self) -> None:
        self._since = _Clocks()

    def passed_s(self) -> float:
        """Seconds since the creation of this object."""
        return _Clocks().at_s - self._since.at_s

    def busy_cores(self) -> float | None:
        """Mean number of cores that were busy with anything but this process; None where the system counts nothing.

        Time that a virtual machine's host gave to other machines counts too. Over one second it is exact to a hundredth of
        a core, because the system counts in hundredths of a second.
        """
        now, since = _Clocks(), self._since
        busy_s, own_s, passed_s = now.busy_s - since.busy_s, now.own_s - since.own_s, now.at_s - since.at_s
        # Some sandboxes count no time at all.
        return max(0.0, busy_s - own_s) / passed_s if busy_s > own_s / 2 else None


class _Clocks:
    """Seconds so far: worked by all cores, worked by this process, and of wall-clock time."""

    def __init__(self) -> None:
        times = psutil.cpu_times()
        # The times of guests are part of the user's.
        kinds = ("user", "nice", "system", "irq", "softirq", "steal")
        self.busy_s = sum(getattr(times, kind, 0.0) for kind in kinds)
        self.own_s, self.at_s = time.process_time(), time.perf_counter()
