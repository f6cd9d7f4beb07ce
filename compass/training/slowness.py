"""Runs that are much slower than predicted: a warning with the likely reason and the remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from compass.records import Cycle, RuntimeSettings
    from compass.training.cycle_report import CycleClock

FAR_LONGER = 1.5
"""Measured over predicted time from which a finished cycle is doubted."""
EARLY = 3.0
"""The same for a cycle that is not finished yet."""
EARLY_BATCHES, EARLY_S = 20, 10.0
"""Batches and seconds from which on an unfinished cycle is judged; the first batches are slow in every run."""
BUSY_CORES = 0.5
"""Cores that other programs keep busy, from which on they are named as the reason. A desktop in the background needs 0.1."""


def is_far_slower(clock: CycleClock) -> bool:
    """Whether the unfinished cycle of `clock` is so slow that its end need not be waited for."""
    n_batches, measured_s, predicted_s = clock.n_batches, clock.measured_s, clock.predicted_s
    return n_batches >= EARLY_BATCHES and measured_s >= max(EARLY_S, EARLY * predicted_s)


def doubt(cycle: Cycle, runtime: RuntimeSettings, busy_cores: float | None, *, on_host: bool, again: str) -> str | None:
    """A warning if `cycle` took much longer than predicted, with the likely reason and a remedy; else None.

    Args:
        cycle: a cycle, which may be unfinished.
        runtime: the settings under which it ran.
        busy_cores: mean number of cores that other programs kept busy; None: not known.
        on_host: whether the model is trained on the CPU.
        again: the command that plans this stage again.
    """
    if cycle.slowness < FAR_LONGER:
        return None
    reason = _reason(cycle, runtime, busy_cores, on_host=on_host, again=again)
    return f"{cycle.n_batches} batches took {cycle.slowness:.1f} times as long as predicted. {reason}"


def _reason(cycle: Cycle, runtime: RuntimeSettings, busy_cores: float | None, *, on_host: bool, again: str) -> str:
    if cycle.data_s > cycle.measured_s / 2:
        return (
            f"{cycle.data_s / cycle.measured_s:.0%} of the time they waited for data. Run `{again}`, which chooses the "
            "number of loader processes, or put the dataset on a faster disk"
        )
    if not on_host:
        return "Another program may use the device; `compass verify` shows whether the plan still holds"
    others = (
        "" if busy_cores is None or busy_cores < BUSY_CORES else f"Other programs keep {busy_cores:.1f} cores busy. "
    )
    if runtime.waiting == "spin":
        return (
            f"{others}The plan's threads spin while they wait, which is fast on idle cores only. If other programs use the "
            f"cores, run `{again} --set runtime.waiting=sleep`"
        )
    if others:
        return f"{others}End them, or run `{again}` beside them"
    why = (
        "Other programs may use the cores, which this run cannot count"
        if busy_cores is None
        else "No other program explains it"
    )
    return f"{why}: `compass verify` shows whether the plan still holds on this machine"
