"""What a training process holds, as the budget counts it, on one device."""

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
"""More than this swapped out since `reset_peak` is a spill. The system may swap idle library pages at any time."""
CONTEXT_GROWTH_BYTES = 2 * 1024**3
"""No context grows more than this: what looks like it is another process's doing."""


class Meter(Protocol):
    """Memory of this process on one device. Every method is cheap enough to be called between two steps."""

    def reset_peak(self) -> None:
        """Start the peaks anew, as far as the system lets one."""
        ...

    def sample(self) -> None:
        """Note the present figures, where the system keeps no peak of them. Cheap enough for a hook within a step."""
        ...

    def peak_live_bytes(self) -> int | None:
        """The most that live tensors held since `reset_peak`; None on the CPU, where only the profiler knows."""
        ...

    def footprint_bytes(self) -> int:
        """The most that counted against the budget since `reset_peak`."""
        ...

    def obtainable_bytes(self) -> int:
        """What this process could hold in all right now: what it holds, and what is free to it."""
        ...

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""
        ...

    def spilled(self) -> bool:
        """Whether memory beyond the device's own was used, so that a success is a slow one and no success."""
        ...

    def empty_cache(self) -> None:
        """Give memory that no tensor uses back to the system."""
        ...

    def ceiling(self, ceiling_bytes: int) -> Ceiling:
        """A ceiling on the footprint, to be imposed."""
        ...


def meter_for(device: str, hardware: Hardware, *, torch: Any = None, nvml: Any = None) -> Meter:
    """The meter of `device`, as `resolve` names it and `detect` described it."""
    if device_kind(device).memory == "host":
        return CpuMeter()
    return AcceleratorMeter(open_accelerator(device, torch=torch, nvml=nvml), others_bytes=hardware.others_bytes)


class CpuMeter:
    """The process's own memory.

    Linux keeps the peak of the resident set but not of the data, which `RLIMIT_DATA` counts, so that is sampled:
    the footprint is the larger of the two. Elsewhere it is the resident set alone.
    """

    def __init__(self, *, root: Path = ROOT) -> None:
        self._root = root
        self._sampled_bytes = 0
        self._swapped_bytes = process_memory(root=root).swapped_bytes

    def reset_peak(self) -> None:
        """Start both peaks anew. Where the kernel cannot, the resident set's peak is the process's whole life's."""
        reset_peak_rss(root=self._root)
        self._sampled_bytes = 0
        self._swapped_bytes = process_memory(root=self._root).swapped_bytes
        self.sample()

    def sample(self) -> None:
        """Note the present data and file-backed pages: some 30 µs."""
        self._sampled_bytes = max(self._sampled_bytes, process_memory(root=self._root).footprint_bytes)

    def peak_live_bytes(self) -> int | None:
        """None: no allocator counts live bytes on the CPU."""
        return None

    def footprint_bytes(self) -> int:
        """The peak resident set, and what is private but untouched now (stacks, arenas), or the largest sample."""
        now = process_memory(root=self._root)
        self._sampled_bytes = max(self._sampled_bytes, now.footprint_bytes)
        return max(self._sampled_bytes, now.peak_rss_bytes + now.footprint_bytes - now.rss_bytes)

    def obtainable_bytes(self) -> int:
        """Its own, and what the system or the control group has left."""
        return obtainable_memory(root=self._root)

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def spilled(self) -> bool:
        """Whether the process was swapped out."""
        return process_memory(root=self._root).swapped_bytes - self._swapped_bytes > SWAPPED_BYTES

    def empty_cache(self) -> None:
        """Nothing: whatever the C library keeps serves the next step, and footprints are taken in fresh processes."""

    def ceiling(self, ceiling_bytes: int) -> Ceiling:
        """`RLIMIT_DATA` on Linux, nothing elsewhere."""
        return cpu_ceiling(ceiling_bytes)


class AcceleratorMeter:
    """Reserved bytes and context.

    The context is what the driver says this process holds beyond what the allocator reserved (it grows while kernels
    are loaded, so it is asked anew); where the driver does not tell processes apart, what the device's use grew by,
    others' changes included up to `CONTEXT_GROWTH_BYTES`.
    """

    def __init__(self, accelerator: Accelerator, *, others_bytes: int, silent_spill: bool | None = None) -> None:
        self._accelerator = accelerator
        self._others_bytes = others_bytes
        self._silent_spill = _spills_silently() if silent_spill is None else silent_spill
        self._context_bytes = 0
        self._ask_context()

    def _ask_context(self) -> int:
        """The largest context seen."""
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
        """Start the allocator's peaks anew."""
        self._accelerator.reset_peak()

    def sample(self) -> None:
        """Note the present figures, for a device whose allocator keeps no peaks."""
        self._accelerator.peak_reserved_bytes()

    def peak_live_bytes(self) -> int | None:
        """The allocator's peak of allocated bytes."""
        return self._accelerator.peak_live_bytes()

    def footprint_bytes(self) -> int:
        """Peak reserved bytes and context."""
        return self._accelerator.peak_reserved_bytes() + self._ask_context()

    def obtainable_bytes(self) -> int:
        """Reserved and context, and what the driver calls free."""
        device = self._accelerator
        held = device.reserved_bytes() + self._ask_context()
        return held + max(0, device.total_bytes - device.used_bytes())

    def synchronize(self) -> None:
        """Wait until the device has done all it was given."""
        self._accelerator.synchronize()

    def spilled(self) -> bool:
        """Whether the footprint is more than the device can hold.

        Windows' driver, also below WSL, moves memory to the host when the device is full of ours and others'
        (microsoft/WSL#11050): there what others held when the device was looked at cannot have been ours.
        """
        room = self._accelerator.total_bytes - (self._others_bytes if self._silent_spill else 0)
        return self.footprint_bytes() > room

    def empty_cache(self) -> None:
        """Give memory that no tensor uses back to the driver."""
        self._accelerator.empty_cache()

    def ceiling(self, ceiling_bytes: int) -> Ceiling:
        """The allocator's own limit, less the context."""
        return AllocatorCeiling(ceiling_bytes, self._accelerator, context_bytes=self._ask_context)


def _spills_silently() -> bool:
    return sys.platform == "win32" or "microsoft" in platform.release().lower()
