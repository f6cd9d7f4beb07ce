"""All checks of this machine, with their real inputs."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib import metadata
from pathlib import Path
from threading import Thread

from compass.device import OtherPrograms, available_cores
from compass.device.fingerprint import MEASUREMENT_VERSION
from compass.device.hardware import cpu_name
from compass.doctor.checks import Check, CheckResult, run_checks
from compass.doctor.driver import nvidia_driver
from compass.doctor.machine import (
    check_allocators,
    check_clock,
    check_control_group,
    check_cores,
    check_memory,
    check_other_programs,
)
from compass.doctor.places import check_dataset, check_profile, check_writable
from compass.doctor.software import check_device_memory, check_extras, check_packages, check_system, check_torch
from compass.doctor.torch_build import LIMIT_S, TorchBuild, installed_torch
from compass.optimizer_config import OptimizerConfig
from compass.probe.preload import is_offered
from compass.profile import PROFILE_NAME
from compass.records import ALLOCATORS

DISTRIBUTION = "compass-optimizer"
WATCH_S = 0.3
"""Seconds for which other programs are watched, at least: thirty ticks of the system's clock for each core."""


@dataclass(frozen=True)
class Examination:
    """What is to be checked beside the machine itself."""

    config: OptimizerConfig
    cache: Path
    profile: Path | None
    """The profile that the user names; None: the usual one, which need not be there."""


def examine(asked: Examination, others: OtherPrograms) -> tuple[CheckResult, ...]:
    """Every check of this machine; takes some two seconds, most of them to import torch in another process.

    Args:
        asked: what is to be checked beside the machine.
        others: counts other programs, for a while already. The process that imports torch would count too, so it starts later.
    """
    time.sleep(max(0.0, WATCH_S - others.passed_s()))
    busy_cores = others.busy_cores()
    build = _in_the_background()
    n_usable, n_cores = available_cores(), os.cpu_count() or 1
    checks = [
        Check("system", partial(check_system, platform.system(), sys.version_info[:2])),
        Check("packages", lambda: check_packages(_requirements(), _version)),
        Check("extras", lambda: check_extras(_requirements(), _version)),
        Check("torch", lambda: _torch(build.result())),
        Check("device memory", lambda: check_device_memory(nvidia_driver())),
        Check("memory", check_memory),
        Check("control group", partial(check_control_group, n_cores)),
        Check("cores", partial(check_cores, n_usable, n_cores)),
        Check(
            "other programs",
            partial(check_other_programs, busy_cores, n_usable, idle_cores=asked.config.runtime.idle_cores),
        ),
        Check("allocators", lambda: check_allocators(_offered(), on_cpu=not build.result().accelerators)),
        Check("clock", lambda: check_clock(datetime.now().astimezone(), time.perf_counter)),
        Check("cache", partial(check_writable, "cache", asked.cache, "Name another folder with --cache.")),
        Check("folder", partial(check_writable, "folder", Path(), "Change to another folder.")),
        *_of_dataset(asked.config),
        Check("profile", lambda: _profile(asked.profile, build.result())),
    ]
    return run_checks(checks, limit_s=LIMIT_S + 5)


def _profile(named: Path | None, build: TorchBuild) -> CheckResult:
    return check_profile(named or Path(PROFILE_NAME), _here(build), named=named is not None)


def _in_the_background() -> Future[TorchBuild]:
    """The installed torch, while other checks run."""
    future: Future[TorchBuild] = Future()

    def ask() -> None:
        try:
            future.set_result(installed_torch())
        except Exception as error:  # noqa: BLE001 - each check that needs it reports it
            future.set_exception(error)

    Thread(target=ask, daemon=True).start()
    return future


def _torch(build: TorchBuild) -> CheckResult:
    return check_torch(
        build, nvidia_driver(), has_amd_driver=Path("/dev/kfd").exists(), visible=os.environ.get("CUDA_VISIBLE_DEVICES")
    )


def _offered() -> list[str]:
    return [name for name in ALLOCATORS if is_offered(name)]


def _of_dataset(config: OptimizerConfig) -> list[Check]:
    if not config.dataset.path:
        return []
    return [Check("dataset", partial(check_dataset, Path(config.dataset.path), config.dataset))]


def _requirements() -> list[str] | None:
    try:
        return metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return None


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _here(build: TorchBuild) -> Mapping[str, tuple[str, ...]]:
    """What a profile's fingerprint would say on this machine, on any of its devices."""
    named = zip(build.accelerators, build.names, strict=True)
    devices = (*(f"{device.partition(':')[0]}: {name}" for device, name in named), f"cpu: {cpu_name()}")
    return {
        "device": tuple(dict.fromkeys(devices)),
        **({"torch": (build.version,)} if build.version else {}),
        "python": (f"{sys.version_info.major}.{sys.version_info.minor}",),
        "measurement": (str(MEASUREMENT_VERSION),),
        "torch_geometric": (_version("torch_geometric") or "unknown",),
    }
