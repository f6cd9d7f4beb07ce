"""The kinds of devices, one row each. To add a kind, add a row.

Names of torch functions and attributes are text, as seen from the package `torch`, so that importing this loads no torch.
`compass.device.kinds` looks them up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from compass.errors import InputError


@dataclass(frozen=True)
class DeviceKind:
    """All that differs from one kind of device to another."""

    name: str
    """torch's device type."""
    memory: Literal["host", "caching", "unified"]
    """How memory is measured and limited: of the process itself, by torch's caching allocator, or by Metal's."""
    has_index: bool = False
    """Whether there may be several, told apart by number: `cuda:1`."""
    is_available: str = ""
    """torch function; empty: always available."""
    device_count: str = ""
    """torch function, where the kind has an index."""
    get_random_state: str = ""
    """torch function of the generator on the device, called with the device if there may be several; empty: none."""
    set_random_state: str = ""
    """torch function, called with the state and, if there may be several, the device."""
    trains: bool = True
    """Whether `compass train` runs there. Lightning has no strategy for XPU."""
    lightning_accelerator: str = "gpu"
    """`pytorch_lightning.Trainer(accelerator=…)`."""
    distributed_backend: str | None = None
    """`torch.distributed` backend of data-parallel training; None: torch's default for the device."""
    expandable_segments: bool = False
    """Whether torch's allocator can grow its segments in place."""
    has_nvml: bool = False
    """Whether NVIDIA's management library knows the device, unless torch was built for ROCm."""
    drivers: tuple[tuple[str, str], ...] = ()
    """(name, torch attribute) of the runtimes that can stand for the driver where it cannot be asked; the first that is set."""
    versions: tuple[tuple[str, str], ...] = ()
    """(name in the fingerprint, torch attribute or function) of all that changes time or memory on this kind."""


_ROWS = (
    DeviceKind(
        "cuda",
        memory="caching",
        has_index=True,
        is_available="cuda.is_available",
        device_count="cuda.device_count",
        get_random_state="cuda.get_rng_state",
        set_random_state="cuda.set_rng_state",
        expandable_segments=True,
        has_nvml=True,
        drivers=(("ROCm", "version.hip"), ("CUDA", "version.cuda")),
        versions=(("cuda", "version.cuda"), ("rocm", "version.hip"), ("cudnn", "backends.cudnn.version")),
    ),
    DeviceKind(
        "xpu",
        memory="caching",
        has_index=True,
        is_available="xpu.is_available",
        device_count="xpu.device_count",
        get_random_state="xpu.get_rng_state",
        set_random_state="xpu.set_rng_state",
        trains=False,
        versions=(("xpu", "version.xpu"),),
    ),
    DeviceKind(
        "mps",
        memory="unified",
        is_available="backends.mps.is_available",
        get_random_state="mps.get_rng_state",
        set_random_state="mps.set_rng_state",
        lightning_accelerator="mps",
    ),
    DeviceKind(
        "cpu",
        memory="host",
        lightning_accelerator="cpu",
        distributed_backend="gloo",
        versions=(("cpu_capability", "backends.cpu.get_cpu_capability"),),
    ),
)

DEVICE_KINDS: dict[str, DeviceKind] = {row.name: row for row in _ROWS}
"""By name, the preferred first; the CPU, which is always available, last."""


def device_kind(device: str) -> DeviceKind:
    """The row of a kind (`cuda`) or of a device (`cuda:1`).

    Raises:
        InputError: no row has this name.
    """
    name = device.partition(":")[0]
    if name not in DEVICE_KINDS:
        raise InputError(
            "device",
            got=repr(device),
            expected=f"one of {', '.join(DEVICE_KINDS)}",
            fix="Correct the device, or upgrade Compass if a newer version wrote it.",
        )
    return DEVICE_KINDS[name]
