"""NVIDIA's driver, asked through its management library, which needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class NvidiaDevice:
    """One device, as the driver lists it."""

    name: str
    total_bytes: int
    used_bytes: int
    """Memory that all programs hold."""


@dataclass(frozen=True)
class NvidiaDriver:
    """The driver and its devices."""

    version: str
    cuda: str
    """The newest CUDA that it supports, such as `12.8`."""
    devices: tuple[NvidiaDevice, ...]


def nvidia_driver(nvml: Any = None) -> NvidiaDriver | None:
    """The driver; None if there is none, or if it has no device. `nvml` is the library, or a stand-in."""
    if nvml is None:
        import pynvml

        nvml = pynvml
    try:
        nvml.nvmlInit()
        number = int(nvml.nvmlSystemGetCudaDriverVersion())
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        devices = tuple(_device(nvml, handle) for handle in handles)
        version = _text(nvml.nvmlSystemGetDriverVersion())
    except nvml.NVMLError:
        return None
    return NvidiaDriver(version, f"{number // 1000}.{number % 1000 // 10}", devices) if devices else None


def _device(nvml: Any, handle: Any) -> NvidiaDevice:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return NvidiaDevice(_text(nvml.nvmlDeviceGetName(handle)), int(memory.total), int(memory.used))


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
