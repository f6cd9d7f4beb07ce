"""Accelerators of all makers behind one interface: memory held and its peaks, and a limit on it."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from compass.device.kinds import torch_value
from compass.device.nvml import NvmlDevice
from compass.records import DeviceKind


class Accelerator(Protocol):
    """The members of an accelerator that Compass uses. All sizes are bytes."""

    kind: str
    index: int
    name: str
    driver: str
    expands: bool
    """Whether its allocator can grow its segments in place."""
    total_bytes: int
    """The most that a process could hold."""

    def used_bytes(self) -> int:
        """Memory that all processes hold now."""
        ...

    def own_bytes(self) -> int | None:
        """Memory that this process holds now, context included; None if unknown."""
        ...

    def reserved_bytes(self) -> int:
        """Memory that torch's allocator holds now."""
        ...

    def peak_reserved_bytes(self) -> int:
        """The most torch's allocator held since `reset_peak`."""
        ...

    def peak_live_bytes(self) -> int:
        """The most that tensors held since `reset_peak`."""
        ...

    def reset_peak(self) -> None:
        """Reset both peaks."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has finished all its work."""
        ...

    def empty_cache(self) -> None:
        """Return memory that no tensor uses to the driver."""
        ...

    def limit(self, n_bytes: int | None) -> bool:
        """Limit torch's allocator to `n_bytes`; None removes the limit. False if this torch cannot do it."""
        ...


class CachedAccelerator:
    """A device with torch's caching allocator, which keeps peaks: CUDA, ROCm, XPU.

    `torch` is the package, or a stand-in with the same attributes.
    """

    def __init__(self, kind: DeviceKind, index: int, torch: Any, *, nvml: Any = None) -> None:
        self.kind, self.index = kind.name, index
        self._module = getattr(torch, kind.name)
        # torch.accelerator has memory figures from torch 2.9 on; before that, each device's module has the same names.
        generic = torch.accelerator
        self._memory = generic if hasattr(generic, "max_memory_reserved") else self._module
        properties = self._module.get_device_properties(index)  # creates no context yet
        self.name = str(properties.name)
        uuid = str(getattr(properties, "uuid", ""))
        hip = getattr(torch.version, "hip", None)
        self.expands = kind.expandable_segments and not hip  # on ROCm torch warns "not supported on this platform"
        self._nvml = NvmlDevice.open(uuid, nvml=nvml) if kind.has_nvml and not hip and uuid else None
        self.driver = _driver(kind, properties, self._nvml, torch)
        before = self._nvml.used_bytes() if self._nvml else None
        self._module.synchronize(index)  # creates the context, which is measured below
        free, self.total_bytes = self._info()
        after = self.total_bytes - free
        self._context_bytes = max(0, after - before - self.reserved_bytes()) if before is not None else 0

    def _info(self) -> tuple[int, int]:
        ask = getattr(self._memory, "get_memory_info", None) or self._module.mem_get_info
        free, total = ask(self.index)
        return int(free), int(total)

    def used_bytes(self) -> int:
        """Memory that all processes hold now."""
        free, total = self._info()
        return total - free

    def own_bytes(self) -> int | None:
        """Memory of this process as the driver counts it; otherwise, reserved bytes and the context's size at its creation.

        None if neither is known (no management library): the context then counts as another process's.
        """
        held = self._nvml.own_bytes() if self._nvml else None
        if held is not None:
            return held
        return self.reserved_bytes() + self._context_bytes if self._context_bytes else None

    def reserved_bytes(self) -> int:
        """Memory that torch's allocator holds now."""
        return int(self._memory.memory_reserved(self.index))

    def peak_reserved_bytes(self) -> int:
        """The most torch's allocator held since `reset_peak`."""
        return int(self._memory.max_memory_reserved(self.index))

    def peak_live_bytes(self) -> int:
        """The most that tensors asked for since `reset_peak`.

        Allocated bytes count whole blocks, up to 1 MiB larger than the tensor, so they are not affine in the load.
        """
        stats = self._module.memory_stats(self.index) if hasattr(self._module, "memory_stats") else {}
        requested = stats.get("requested_bytes.all.peak")
        return int(self._memory.max_memory_allocated(self.index) if requested is None else requested)

    def reset_peak(self) -> None:
        """Reset both peaks."""
        self._memory.reset_peak_memory_stats(self.index)

    def synchronize(self) -> None:
        """Wait until the device has finished all its work."""
        self._module.synchronize(self.index)

    def empty_cache(self) -> None:
        """Return memory that no tensor uses to the driver."""
        self._module.empty_cache()

    def limit(self, n_bytes: int | None) -> bool:
        """Limit torch's allocator to `n_bytes`. torch 2.13's device-generic API has no such call."""
        setter = getattr(self._module, "set_per_process_memory_fraction", None)
        if setter is None:
            return False
        setter(1.0 if n_bytes is None else min(1.0, n_bytes / self.total_bytes), self.index)
        return True


class MpsAccelerator:
    """Apple's GPU. It shares the machine's memory and keeps no peaks, so peaks are the largest samples."""

    DEFAULT_FRACTION = 1.7
    """torch's default limit as a share of the recommended maximum (MPSAllocator.h, default_high_watermark_ratio)."""

    def __init__(self, torch: Any) -> None:
        self.kind, self.index, self.expands = "mps", 0, False
        self._mps = torch.mps
        self.name = str(torch.backends.mps.get_name()) if hasattr(torch.backends.mps, "get_name") else "Apple GPU"
        self.driver = _macos()
        self.total_bytes = int(torch.mps.recommended_max_memory())
        self._peak_live_bytes = self._peak_reserved_bytes = 0

    def used_bytes(self) -> int:
        """Memory that this process holds now; that of other processes is unknown."""
        return self.reserved_bytes()

    def own_bytes(self) -> int | None:
        """Memory that the driver holds for this process."""
        return self.reserved_bytes()

    def reserved_bytes(self) -> int:
        """Memory that the driver holds for this process now."""
        n_bytes = int(self._mps.driver_allocated_memory())
        self._peak_reserved_bytes = max(self._peak_reserved_bytes, n_bytes)
        self._peak_live_bytes = max(self._peak_live_bytes, int(self._mps.current_allocated_memory()))
        return n_bytes

    def peak_reserved_bytes(self) -> int:
        """The largest sample of `reserved_bytes` since `reset_peak`."""
        self.reserved_bytes()
        return self._peak_reserved_bytes

    def peak_live_bytes(self) -> int:
        """The largest sample of the tensors' memory since `reset_peak`."""
        self.reserved_bytes()
        return self._peak_live_bytes

    def reset_peak(self) -> None:
        """Reset both peaks."""
        self._peak_live_bytes = self._peak_reserved_bytes = 0

    def synchronize(self) -> None:
        """Wait until the device has finished all its work."""
        self._mps.synchronize()

    def empty_cache(self) -> None:
        """Return memory that no tensor uses to the driver."""
        self._mps.empty_cache()

    def limit(self, n_bytes: int | None) -> bool:
        """Limit the allocator to `n_bytes`; None restores the default."""
        # A fraction of zero means no limit.
        fraction = self.DEFAULT_FRACTION if n_bytes is None else max(1e-6, n_bytes / self.total_bytes)
        self._mps.set_per_process_memory_fraction(min(2.0, fraction))
        return True


def _driver(kind: DeviceKind, properties: Any, nvml: NvmlDevice | None, torch: Any) -> str:
    if nvml is not None:
        return f"NVIDIA {nvml.driver()}"
    runtimes = ((name, torch_value(torch, attribute)) for name, attribute in kind.drivers)
    known = next((f"{name} {version}" for name, version in runtimes if version), None)
    return known or str(getattr(properties, "driver_version", "unknown"))


def _macos() -> str:
    import platform

    return f"macOS {platform.mac_ver()[0]}" if sys.platform == "darwin" else "unknown"
