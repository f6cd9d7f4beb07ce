"""Meters: the memory of this process on one device, as the budget counts it."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import Any, Protocol

from compass.device.accelerator import Accelerator
from compass.device.ceiling import AllocatorCeiling, Ceiling, cpu_ceiling
from compass.device.hardware import obtainable_memory, open_accelerator
from compass.device.process import ROOT, process_memory, reset_peak_rss
from compass.records import Hardware, device_kind

SWAPPED_BYTES = 64 * 1024**2
"""More than this swapped out since `reset_peak` is a spill; less may be idle pages of libraries."""
CONTEXT_GROWTH_BYTES = 2 * 1024**3
"""The most that a context grows by; a larger growth is another process's memory."""


class Meter(Protocol):
    """Memory of this process on one device. All methods are cheap enough to be called between two steps."""

    def reset_peak(self) -> None:
        """Reset the peaks, as far as the system allows."""
        ...

    def sample(self) -> None:
        """Note the present figures, if the system keeps no peak of them. Cheap enough for a hook within a step."""
        ...

    def peak_live_bytes(self) -> int | None:
        """The most that live tensors held since `reset_peak`; None on the CPU, where only a profiler can tell."""
        ...

    def footprint_bytes(self) -> int:
        """Peak footprint since `reset_peak`."""
        ...

    def obtainable_bytes(self) -> int:
        """Bytes that this process could hold now: those it holds, and those that are free to it."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has finished all its work."""
        ...

    def spilled(self) -> bool:
        """Whether more memory was used than the device has: then a success is a slow one, and counts as out of memory."""
        ...

    def empty_cache(self) -> None:
        """Return memory that no tensor uses to the system."""
        ...

    def ceiling(self, ceiling_bytes: int) -> Ceiling:
        """A ceiling on the footprint, not imposed yet."""
        ...


def meter_for(device: str, hardware: Hardware, *, torch: Any = None, nvml: Any = None) -> Meter:
    """The meter of the torch device string `device`, which `detect` described as `hardware`."""
    if device_kind(device).memory == "host":
        return CpuMeter()
    return AcceleratorMeter(open_accelerator(device, torch=torch, nvml=nvml), others_bytes=hardware.others_bytes)


class CpuMeter:
    """The memory of the process itself.

    On Linux the footprint is the larger of two peaks: of the resident set, which the kernel keeps, and of the data that
    `RLIMIT_DATA` counts, which is sampled. Elsewhere it is the resident set alone.
    """

    def __init__(self, *, root: Path = ROOT) -> None:
        self._root = root
        self._sampled_bytes = 0
        self._swapped_bytes = process_memory(root=root).swapped_bytes

    def reset_peak(self) -> None:
        """Reset both peaks. If the kernel cannot, the resident set's peak is that since the process began."""
        reset_peak_rss(root=self._root)
        self._sampled_bytes = 0
        self._swapped_bytes = process_memory(root=self._root).swapped_bytes
        self.sample()

    def sample(self) -> None:
        """Note the present data and file-backed pages. Takes some 30 µs."""
        self._sampled_bytes = max(self._sampled_bytes, process_memory(root=self._root).footprint_bytes)

    def peak_live_bytes(self) -> int | None:
        """None, because no allocator counts live bytes on the CPU."""
        return None

    def footprint_bytes(self) -> int:
        """The larger of two: the peak resident set with private memory untouched so far (stacks, arenas), and the largest sample."""
        now = process_memory(root=self._root)
        self._sampled_bytes = max(self._sampled_bytes, now.footprint_bytes)
        return max(self._sampled_bytes, now.peak_rss_bytes + now.footprint_bytes - now.rss_bytes)

    def obtainable_bytes(self) -> int:
        """Bytes that the process holds, and those that the system or the control group has left."""
        return obtainable_memory(root=self._root)

    def synchronize(self) -> None:
        """Return at once: a CPU works synchronously."""

    def spilled(self) -> bool:
        """Whether the process was swapped out."""
        return process_memory(root=self._root).swapped_bytes - self._swapped_bytes > SWAPPED_BYTES

    def empty_cache(self) -> None:
        """Do nothing: memory that the C library keeps serves the next step, and certificates run in fresh processes."""

    def ceiling(self, ceiling_bytes: int) -> Ceiling:
        """A ceiling by `RLIMIT_DATA` on Linux; elsewhere one that enforces nothing."""
        return cpu_ceiling(ceiling_bytes)


class AcceleratorMeter:
    """The memory of an accelerator: reserved bytes and context.

    The context is the memory that the driver counts for this process minus the reserved bytes. It grows while kernels are
    loaded, so it is measured again each time. If the driver does not tell processes apart, it is the growth of the device's
    use: changes by other processes are included, up to `CONTEXT_GROWTH_BYTES`.
    """

    def __init__(self, accelerator: Accelerator, *, others_bytes: int, silent_spill: bool | None = None) -> None:
        self._accelerator = accelerator
        self._others_bytes = others_bytes
        self._silent_spill = _spills_silently() if silent_spill is None else silent_spill
        self._context_bytes = 0
        self._measure_context()

    def _measure_context(self) -> int:
        """The largest size of the context so far."""
        device = self._accelerator
        reserved = device.reserved_bytes()
        own = device.own_bytes()
        if own is not None:
            context = own - reserved
        else:
            grown = device.used_bytes() - self._others_bytes - reserved
            context = grown if grown <= CONTEXT_GROWTH_BYTES else 0
        self._context_bytes = max(self._context_bytes, context)
        return self._context_bytes

    def reset_peak(self) -> None:
        """Reset the allocator's peaks."""
        self._accelerator.reset_peak()

    def sample(self) -> None:
        """Note the present figures, if the allocator keeps no peaks."""
        self._accelerator.peak_reserved_bytes()

    def peak_live_bytes(self) -> int | None:
        """The allocator's peak of allocated bytes."""
        return self._accelerator.peak_live_bytes()

    def footprint_bytes(self) -> int:
        """Peak of reserved bytes, and the context."""
        return self._accelerator.peak_reserved_bytes() + self._measure_context()

    def obtainable_bytes(self) -> int:
        """Reserved bytes, the context, and the memory that the driver reports as free."""
        device = self._accelerator
        held = device.reserved_bytes() + self._measure_context()
        return held + max(0, device.total_bytes - device.used_bytes())

    def synchronize(self) -> None:
        """Wait until the device has finished all its work."""
        self._accelerator.synchronize()

    def spilled(self) -> bool:
        """Whether the footprint exceeds the device's memory.

        Windows' driver, also below WSL, moves memory to the host if the device is full (microsoft/WSL#11050). There, memory
        that other processes held at detection is not available to this one.
        """
        available = self._accelerator.total_bytes - (self._others_bytes if self._silent_spill else 0)
        return self.footprint_bytes() > available

    def empty_cache(self) -> None:
        """Return memory that no tensor uses to the driver."""
        self._accelerator.empty_cache()

    def ceiling(self, ceiling_bytes: int) -> Ceiling:
        """A ceiling by the allocator's own limit, minus the context."""
        return AllocatorCeiling(ceiling_bytes, self._accelerator, context_bytes=self._measure_context)


def _spills_silently() -> bool:
    return sys.platform == "win32" or "microsoft" in platform.release().lower()
