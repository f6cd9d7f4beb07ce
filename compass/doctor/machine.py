"""Checks of memory, cores, other programs, C allocators and the clock.

Files are read below `root`, which tests replace.
"""

from __future__ import annotations

import itertools
import math
import platform
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from pathlib import Path

from compass.device.cgroups import group_cores, group_memory
from compass.device.hardware import cpu_name, system_memory
from compass.device.process import ROOT
from compass.doctor.checks import CheckResult
from compass.records import ALLOCATORS
from compass.units import GIB, format_bytes

LEAST_MEMORY_BYTES = GIB
"""The certified smoke test of the embedded complex held 0.65 GiB, and the process that plans another 0.2 GiB."""
LARGE_SHARE = 0.5
"""Other programs that hold more than this share of the memory change what is planned."""
EARLIEST = datetime(2026, 1, 1, tzinfo=UTC)
"""This version did not exist before."""
LATEST = datetime(2100, 1, 1, tzinfo=UTC)
COARSEST_S = 1e-4
"""The shortest steps that are timed take some milliseconds, and are to be known to a few per cent."""
N_READINGS = 1000


def check_memory(*, root: Path = ROOT) -> CheckResult:
    """Free memory against the machine's and the control group's."""
    total, available = system_memory(root)
    group = group_memory(root=root)
    most = total if group.limit_bytes is None else min(total, group.limit_bytes)
    free = available if group.free_bytes is None else min(available, group.free_bytes)
    says = f"{format_bytes(free)} of {format_bytes(most)} free"
    if most < total:
        says += f" (the control group's limit; the machine has {format_bytes(total)})"
    if free < LEAST_MEMORY_BYTES:
        return CheckResult(
            "memory",
            "fail",
            f"{says}; the smallest plan needs about {format_bytes(LEAST_MEMORY_BYTES)}",
            "End other programs, or get more memory.",
        )
    if free < LARGE_SHARE * most:
        return CheckResult(
            "memory",
            "warn",
            says,
            "Plans use only free memory: end other programs before `compass optimize`.",
        )
    return CheckResult("memory", "ok", says)


def check_control_group(n_cores: int, *, root: Path = ROOT) -> CheckResult:
    """Limits of control groups (containers, Slurm, systemd) on this process's memory and cores.

    Args:
        n_cores: cores of the machine.
        root: folder that contains `/proc` and `/sys`.
    """
    limit_bytes, cores = group_memory(root=root).limit_bytes, group_cores(root=root)
    total, _ = system_memory(root)
    limits = []
    if limit_bytes is not None and limit_bytes < total:
        limits.append(f"{format_bytes(limit_bytes)} of {format_bytes(total)} of memory")
    if cores is not None and cores < n_cores:
        limits.append(f"{cores:g} of {n_cores} cores")
    if not limits:
        return CheckResult("control group", "ok", "no limit of memory or cores")
    says = f"allows {' and '.join(limits)}"
    if cores is not None and cores < n_cores and cores != math.floor(cores):
        return CheckResult(
            "control group",
            "warn",
            f"{says}; a part of a core stops every step for a while",
            f"Ask for whole cores, e.g. `docker run --cpus {math.ceil(cores)}` or `sbatch --cpus-per-task {math.ceil(cores)}`.",
        )
    return CheckResult("control group", "ok", says)


def check_cores(n_usable: int, n_cores: int, *, root: Path = ROOT) -> CheckResult:
    """The processor, and how many of its cores this process may use."""
    used = f"{n_usable} of {n_cores} cores may be used" if n_usable < n_cores else f"{n_cores} cores"
    return CheckResult("cores", "ok", f"{cpu_name(root)}, {used}")


def check_other_programs(busy_cores: float | None, n_usable: int, *, idle_cores: float) -> CheckResult:
    """The cores that other programs keep busy.

    Args:
        busy_cores: as `device.OtherPrograms` counts them; None where the system counts nothing.
        n_usable: cores that this process may use.
        idle_cores: fewer busy cores than this change no measurement (`runtime.idle_cores`).
    """
    if busy_cores is None:
        return CheckResult("other programs", "ok", "this system does not count busy cores")
    says = f"{busy_cores:.1f} of {n_usable} cores busy"
    if busy_cores < idle_cores:
        return CheckResult("other programs", "ok", says)
    return CheckResult(
        "other programs",
        "warn",
        says,
        "End them before `compass optimize`: times that are measured beside them do not hold without them. "
        "For a machine that is always shared, plan with --set runtime.waiting=sleep.",
    )


def check_allocators(offered: Collection[str], *, on_cpu: bool, system: str | None = None) -> CheckResult:
    """The C allocators under which training on a CPU can run.

    Args:
        offered: names in `ALLOCATORS` that can be used here.
        on_cpu: whether training runs on the CPU.
        system: the name of the operating system; None asks.
    """
    if not on_cpu:
        return CheckResult("allocators", "ok", "not needed: training uses an accelerator")
    if (platform.system() if system is None else system) != "Linux":
        return CheckResult("allocators", "ok", "the system's own; others are for Linux")
    names = [name for name in ALLOCATORS if name in offered and name != "system"]
    says = ", ".join(names)
    if any(ALLOCATORS[name].joins_pieces for name in names):
        return CheckResult("allocators", "ok", says)
    best = next(kind for kind in ALLOCATORS.values() if kind.joins_pieces)
    # Footprint beyond the baseline in docs/decisions/0018: 1.04 to 1.07 times the live bytes, against 1.37 to 1.42 under `fast`.
    return CheckResult(
        "allocators",
        "warn",
        f"{says}; no {best.name}",
        f"Install it (Debian: apt install {best.package}): about a quarter less memory than `fast` at nearly its speed, "
        "or two to three times the speed of `tight`.",
    )


def check_clock(now: datetime, read_s: Callable[[], float]) -> CheckResult:
    """The date, and the clock that times steps.

    Args:
        now: the system's time, with its zone.
        read_s: `time.perf_counter`, or a stand-in.
    """
    date = f"{now:%Y-%m-%d %H:%M %Z}"
    if not EARLIEST <= now < LATEST:
        return CheckResult(
            "clock", "warn", f"{date} cannot be right", "Set the clock, e.g. `timedatectl set-ntp true`."
        )
    readings = [read_s() for _ in range(N_READINGS)]
    steps = [later - earlier for earlier, later in itertools.pairwise(readings)]
    if min(steps) < 0:
        return CheckResult(
            "clock",
            "fail",
            f"{date}; the clock that times steps runs backwards",
            "Choose another clock source of the system (/sys/devices/system/clocksource), or another machine.",
        )
    resolution_s = min((step for step in steps if step > 0), default=math.inf)
    if resolution_s > COARSEST_S:
        return CheckResult(
            "clock",
            "warn",
            f"{date}; steps are timed more coarsely than {COARSEST_S * 1e6:.0f} µs",
            "Times of small models are rough here; plan on another machine.",
        )
    return CheckResult("clock", "ok", f"{date}; steps are timed to {max(1, round(resolution_s * 1e9)):,} ns")
