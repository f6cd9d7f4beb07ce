"""One accelerator behind the few questions Compass asks of it, whoever made it."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from compass.device.kinds import torch_value
from compass.device.nvml import NvmlDevice
from compass.records import DeviceKind


class Accelerator(Protocol):
    """What Compass needs of an accelerator. Bytes throughout."""

    kind: str
    index: int
    name: str
    driver: str
    expands: bool
    """Whether its allocator can be asked for segments that grow in place."""
    total_bytes: int
    """What a process could hold at most."""

    def used_bytes(self) -> int:
        """Held by all processes now."""
        ...

    def own_bytes(self) -> int | None:
        """Held by this process, context included; None where nobody says."""
        ...

    def reserved_bytes(self) -> int:
        """Held by torch's allocator now."""
        ...

    def peak_reserved_bytes(self) -> int:
        """The most torch's allocator held since `reset_peak`."""
        ...

    def peak_live_bytes(self) -> int:
        """The most that tensors held since `reset_peak`."""
        ...

    def reset_peak(self) -> None:
        """Start both peaks anew."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""
        ...

    def empty_cache(self) -> None:
        """Give memory that no tensor uses back to the driver."""
        ...

    def limit(self, n_bytes: int | None) -> bool:
        """Let torch's allocator hold at most `n_bytes`; None lifts it. False where that cannot be done."""
        ...


class CachedAccelerator:
    """CUDA, ROCm and XPU: torch's caching allocator keeps the peaks.

    `torch` is the package or a stand-in with the same attributes.
    """

    def __init__(self, kind: DeviceKind, index: int, torch: Any, *, nvml: Any = None) -> None:
        self.kind, self.index = kind.name, index
        self._module = getattr(torch, kind.name)
        # The device-generic figures came with torch 2.9; before them each device's module had the same names.
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
        self._module.synchronize(index)  # creates the context, so that it is there to be measured
        free, self.total_bytes = self._info()
        after = self.total_bytes - free
        self._context_bytes = max(0, after - before - self.reserved_bytes()) if before is not None else 0

    def _info(self) -> tuple[int, int]:
        ask = getattr(self._memory, "get_memory_info", None) or self._module.mem_get_info
        free, total = ask(self.index)
        return int(free), int(total)

    def used_bytes(self) -> int:
        """Held by all processes now."""
        free, total = self._info()
        return total - free

    def own_bytes(self) -> int | None:
        """Held by this process by the driver's account, else the context as it was when created, and reserved bytes.

        Where neither is known (no management library), the context counts as somebody else's.
        """
        held = self._nvml.own_bytes() if self._nvml else None
        if held is not None:
            return held
        return self.reserved_bytes() + self._context_bytes if self._context_bytes else None

    def reserved_bytes(self) -> int:
        """Held by torch's allocator now."""
        return int(self._memory.memory_reserved(self.index))

    def peak_reserved_bytes(self) -> int:
        """The most torch's allocator held since `reset_peak`."""
        return int(self._memory.max_memory_reserved(self.index))

    def peak_live_bytes(self) -> int:
        """The most that tensors asked for since `reset_peak`.

        Allocated bytes count whole blocks, up to 1 MiB larger than the tensor, which bends what is affine in the load.
        """
        stats = self._module.memory_stats(self.index) if hasattr(self._module, "memory_stats") else {}
        requested = stats.get("requested_bytes.all.peak")
        return int(self._memory.max_memory_allocated(self.index) if requested is None else requested)

    def reset_peak(self) -> None:
        """Start both peaks anew."""
        self._memory.reset_peak_memory_stats(self.index)

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""
        self._module.synchronize(self.index)

    def empty_cache(self) -> None:
        """Give memory that no tensor uses back to the driver."""
        self._module.empty_cache()

    def limit(self, n_bytes: int | None) -> bool:
        """Let torch's allocator hold at most `n_bytes`; torch 2.13's device-generic API has no such call."""
        setter = getattr(self._module, "set_per_process_memory_fraction", None)
        if setter is None:
            return False
        setter(1.0 if n_bytes is None else min(1.0, n_bytes / self.total_bytes), self.index)
        return True


class MpsAccelerator:
    """Apple's: no peaks are kept, so they are the largest of the samples; memory is the machine's own."""

    DEFAULT_FRACTION = 1.7
    """torch's own high watermark (aten/src/ATen/mps/MPSAllocator.h, default_high_watermark_ratio)."""

    def __init__(self, torch: Any) -> None:
        self.kind, self.index, self.expands = "mps", 0, False
        self._mps = torch.mps
        self.name = str(torch.backends.mps.get_name()) if hasattr(torch.backends.mps, "get_name") else "Apple GPU"
        self.driver = _macos()
        self.total_bytes = int(torch.mps.recommended_max_memory())
        self._peak_live_bytes = self._peak_reserved_bytes = 0

    def used_bytes(self) -> int:
        """Held by this process: what others hold of the shared memory is not told."""
        return self.reserved_bytes()

    def own_bytes(self) -> int | None:
        """Everything the driver holds for this process."""
        return self.reserved_bytes()

    def reserved_bytes(self) -> int:
        """Held by the driver for this process now."""
        n_bytes = int(self._mps.driver_allocated_memory())
        self._peak_reserved_bytes = max(self._peak_reserved_bytes, n_bytes)
        self._peak_live_bytes = max(self._peak_live_bytes, int(self._mps.current_allocated_memory()))
        return n_bytes

    def peak_reserved_bytes(self) -> int:
        """The largest sample of what the driver held."""
        self.reserved_bytes()
        return self._peak_reserved_bytes

    def peak_live_bytes(self) -> int:
        """The largest sample of what tensors held."""
        self.reserved_bytes()
        return self._peak_live_bytes

    def reset_peak(self) -> None:
        """Forget the samples."""
        self._peak_live_bytes = self._peak_reserved_bytes = 0

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""
        self._mps.synchronize()

    def empty_cache(self) -> None:
        """Give memory that no tensor uses back to the driver."""
        self._mps.empty_cache()

    def limit(self, n_bytes: int | None) -> bool:
        """Let the allocator hold at most `n_bytes`."""
        # Zero would mean no limit at all.
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
