"""What a measurement depends on."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

from compass.records import Fingerprint, Hardware
from compass.version import __version__


def fingerprint(hardware: Hardware, workload_digest: str, *, torch: Any = None) -> Fingerprint:
    """The fingerprint of measurements made here: anything in it that changes makes them another machine's."""
    if torch is None:
        import torch
    versions = {
        "python": platform.python_version(),
        "compass": __version__,
        "torch_geometric": _installed("torch_geometric"),
        **{name: str(version) for name, version in _runtimes(hardware.kind, torch).items() if version},
    }
    return Fingerprint(
        device=f"{hardware.kind}: {hardware.name}",
        driver=hardware.driver,
        torch=str(torch.__version__),
        versions=tuple(sorted(versions.items())),
        workload=workload_digest,
    )


def _runtimes(kind: str, torch: Any) -> dict[str, Any]:
    """The libraries under torch whose version changes time or memory on a device of `kind`."""
    if kind == "cpu":
        return {"cpu_capability": torch.backends.cpu.get_cpu_capability()}
    if kind == "cuda":
        version = torch.version
        return {
            "cuda": getattr(version, "cuda", None),
            "rocm": getattr(version, "hip", None),
            "cudnn": torch.backends.cudnn.version(),
        }
    return {"xpu": getattr(torch.version, "xpu", None)} if kind == "xpu" else {}


def _installed(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # found by way of a path, not installed
        return "unknown"
