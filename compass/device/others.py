"""How busy the machine is beside this process."""

from __future__ import annotations

import time

import psutil


class Others:
    """What other programs take of the cores, from when this is made."""

    def __init__(self) -> None:
        self._since = _Clocks()

    def cores(self) -> float | None:
        """Cores that were kept busy by anything but this process; None where the system does not tell.

        What the host of a virtual machine has taken for others counts as theirs. Good to a hundredth in a second: the system
        counts in hundredths.
        """
        now, since = _Clocks(), self._since
        busy_s, own_s, passed_s = now.busy_s - since.busy_s, now.own_s - since.own_s, now.at_s - since.at_s
        # In some sandboxes nothing is counted.
        return max(0.0, busy_s - own_s) / passed_s if busy_s > own_s / 2 else None


class _Clocks:
    """Seconds so far: of every core's work, of this process's own, and that passed."""

    def __init__(self) -> None:
        times = psutil.cpu_times()
        # A guest's time is part of the user's.
        kinds = ("user", "nice", "system", "irq", "softirq", "steal")
        self.busy_s = sum(getattr(times, kind, 0.0) for kind in kinds)
        self.own_s, self.at_s = time.process_time(), time.perf_counter()
