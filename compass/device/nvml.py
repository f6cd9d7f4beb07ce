"""One NVIDIA device through its management library, which works before a context exists too."""

from __future__ import annotations

import os
from typing import Any, Self


class NvmlDevice:
    """Memory that all processes and this one hold on a device."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    @classmethod
    def open(cls, uuid: str, *, nvml: Any = None) -> Self | None:
        """The device with `uuid` (torch's, without prefix); None if the library is unusable or does not know the device.

        A device is looked up by UUID, because torch numbers only the devices in `CUDA_VISIBLE_DEVICES`.
        """
        library = _pynvml() if nvml is None else nvml
        try:
            library.nvmlInit()
        except library.NVMLError:
            return None
        for prefix in ("GPU-", "MIG-"):
            try:
                return cls(library, library.nvmlDeviceGetHandleByUUID(prefix + uuid))
            except library.NVMLError:
                continue
        return None

    def used_bytes(self) -> int | None:
        """Memory that all processes hold; None if the driver does not report it."""
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        except self._nvml.NVMLError:
            return None

    def own_bytes(self) -> int | None:
        """Memory that this process holds, context included.

        None if the driver does not report it: under Windows' display driver model, and in a container whose process numbers
        are not the host's.
        """
        try:
            processes = [
                *self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle),
                *self._nvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle),
            ]
        except self._nvml.NVMLError:
            return None
        # A process that both computes and draws is in both lists, with the same figure.
        held = [int(p.usedGpuMemory) for p in processes if p.pid == os.getpid() and p.usedGpuMemory is not None]
        return max(held, default=None)

    def driver(self) -> str:
        """The driver's version."""
        try:
            version = self._nvml.nvmlSystemGetDriverVersion()
        except self._nvml.NVMLError:
            return "unknown"
        return version.decode() if isinstance(version, bytes) else str(version)


def _pynvml() -> Any:
    import pynvml

    return pynvml
