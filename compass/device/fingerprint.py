"""The fingerprint of a measurement: hardware, software and workload that its figures depend on."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

from compass.device.kinds import runtime_versions
from compass.records import Fingerprint, Hardware, device_kind

MEASUREMENT_VERSION = 1
"""Raised by a release that measures otherwise than the one before, and only then: when the training step, a meter, or the
way a probe runs changes, so that equal probes no longer give equal figures. All profiles and ledgers are stale after that;
the package's own version is no part of the fingerprint, so every other release keeps them."""


def fingerprint(hardware: Hardware, workload_digest: str, *, torch: Any = None) -> Fingerprint:
    """The fingerprint of measurements on `hardware` with this software. Figures under another fingerprint are not used.

    Python counts by its major and minor version: its patch releases change neither times nor memory.
    """
    if torch is None:
        import torch
    versions = {
        "measurement": str(MEASUREMENT_VERSION),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "torch_geometric": _installed("torch_geometric"),
        **runtime_versions(device_kind(hardware.kind), torch),
    }
    return Fingerprint(
        device=f"{hardware.kind}: {hardware.name}",
        driver=hardware.driver,
        torch=str(torch.__version__),
        versions=tuple(sorted(versions.items())),
        workload=workload_digest,
    )


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # importable by path, not installed
        return "unknown"
