from datetime import UTC, datetime, timedelta, timezone
from itertools import count, cycle

import pytest

from compass.doctor.checks import CheckResult
from compass.doctor.machine import (
    check_allocators,
    check_clock,
    check_control_group,
    check_cores,
    check_memory,
    check_other_programs,
)

GLIBC = ("fast", "tight", "tight_huge", "system")

# -------------------------------------------------------------------------------------------------------------- memory


@pytest.mark.parametrize(
    ("there", "level", "says", "remedy"),
    [
        ({}, "ok", "12.00 GiB of 16.00 GiB free", ""),
        (
            {"free_gib": 7},
            "warn",
            "7.00 GiB of 16.00 GiB free",
            "Plans use only free memory: end other programs before `compass optimize`.",
        ),
        (
            {"free_gib": 0.5},
            "fail",
            "512.00 MiB of 16.00 GiB free; the smallest plan needs about 1.00 GiB",
            "End other programs, or get more memory.",
        ),
        (
            {"limit_gib": 6, "used_gib": 2},
            "ok",
            "4.00 GiB of 6.00 GiB free (the control group's limit; the machine has 16.00 GiB)",
            "",
        ),
        (
            {"limit_gib": 6, "used_gib": 5.5},
            "fail",
            "512.00 MiB of 6.00 GiB free (the control group's limit; the machine has 16.00 GiB); "
            "the smallest plan needs about 1.00 GiB",
            "End other programs, or get more memory.",
        ),
        ({"limit_gib": 64}, "ok", "12.00 GiB of 16.00 GiB free", ""),
    ],
)
def test_memory(machine, there, level, says, remedy):
    assert check_memory(root=machine(**there)) == CheckResult("memory", level, says, remedy)


# ------------------------------------------------------------------------------------------------------- control group


@pytest.mark.parametrize(
    ("there", "level", "says", "remedy"),
    [
        ({}, "ok", "no limit of memory or cores", ""),
        ({"limit_gib": 64, "quota": 8}, "ok", "no limit of memory or cores", ""),
        ({"limit_gib": 6}, "ok", "allows 6.00 GiB of 16.00 GiB of memory", ""),
        ({"limit_gib": 6, "quota": 2}, "ok", "allows 6.00 GiB of 16.00 GiB of memory and 2 of 8 cores", ""),
        (
            {"quota": 1.5},
            "warn",
            "allows 1.5 of 8 cores; a part of a core stops every step for a while",
            "Ask for whole cores, e.g. `docker run --cpus 2` or `sbatch --cpus-per-task 2`.",
        ),
    ],
)
def test_control_groups(machine, there, level, says, remedy):
    assert check_control_group(8, root=machine(**there)) == CheckResult("control group", level, says, remedy)


# --------------------------------------------------------------------------------------------------------------- cores


def test_cores(machine):
    root = machine()
    assert check_cores(8, 8, root=root) == CheckResult("cores", "ok", "Some CPU, 8 cores")
    assert check_cores(2, 8, root=root) == CheckResult("cores", "ok", "Some CPU, 2 of 8 cores may be used")


@pytest.mark.parametrize(
    ("busy", "level", "says", "remedy"),
    [
        (None, "ok", "this system does not count busy cores", ""),
        (0.04, "ok", "0.0 of 2 cores busy", ""),
        (
            1.23,
            "warn",
            "1.2 of 2 cores busy",
            "End them before `compass optimize`: times that are measured beside them do not hold without them. "
            "For a machine that is always shared, plan with --set runtime.waiting=sleep.",
        ),
    ],
)
def test_other_programs(busy, level, says, remedy):
    assert check_other_programs(busy, 2, idle_cores=0.1) == CheckResult("other programs", level, says, remedy)


# ---------------------------------------------------------------------------------------------------------- allocators


@pytest.mark.parametrize(
    ("offered", "on_cpu", "system", "level", "says"),
    [
        (GLIBC, False, "Linux", "ok", "not needed: training uses an accelerator"),
        (("fast", "system"), True, "Darwin", "ok", "the system's own; others are for Linux"),
        ((*GLIBC, "tcmalloc"), True, "Linux", "ok", "fast, tight, tight_huge, tcmalloc"),
    ],
)
def test_allocators(offered, on_cpu, system, level, says):
    assert check_allocators(offered, on_cpu=on_cpu, system=system) == CheckResult("allocators", level, says)


@pytest.mark.parametrize(
    ("offered", "says"),
    [
        (GLIBC, "fast, tight, tight_huge; no tcmalloc"),
        ((*GLIBC, "jemalloc"), "fast, tight, tight_huge, jemalloc; no tcmalloc"),
    ],
)
def test_a_missing_allocator_and_what_it_would_gain(offered, says):
    assert check_allocators(offered, on_cpu=True, system="Linux") == CheckResult(
        "allocators",
        "warn",
        says,
        "Install it (Debian: apt install libtcmalloc-minimal4): about a quarter less memory than `fast` at nearly its "
        "speed, or two to three times the speed of `tight`.",
    )


# --------------------------------------------------------------------------------------------------------------- clock

NOW = datetime(2026, 11, 30, 14, 5, tzinfo=timezone(timedelta(hours=1), "CET"))


def test_a_good_clock():
    readings = count(start=7.0, step=1e-7)
    found = check_clock(NOW, lambda: next(readings))
    assert (found.level, found.remedy) == ("ok", "")
    assert found.says == "2026-11-30 14:05 CET; steps are timed to 100 ns"


@pytest.mark.parametrize("year", [1970, 2106])
def test_an_impossible_date(year):
    found = check_clock(datetime(year, 1, 1, tzinfo=UTC), lambda: 0.0)
    assert found == CheckResult(
        "clock", "warn", f"{year}-01-01 00:00 UTC cannot be right", "Set the clock, e.g. `timedatectl set-ntp true`."
    )


def test_a_clock_that_runs_backwards():
    readings = cycle([5.0, 6.0, 7.0])
    assert check_clock(NOW, lambda: next(readings)) == CheckResult(
        "clock",
        "fail",
        "2026-11-30 14:05 CET; the clock that times steps runs backwards",
        "Choose another clock source of the system (/sys/devices/system/clocksource), or another machine.",
    )


def test_a_coarse_clock():
    ticks = count()
    assert check_clock(NOW, lambda: next(ticks) // 100 * 0.015) == CheckResult(
        "clock",
        "warn",
        "2026-11-30 14:05 CET; steps are timed more coarsely than 100 µs",
        "Times of small models are rough here; plan on another machine.",
    )
