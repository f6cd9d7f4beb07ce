"""One NVIDIA device as its management library sees it, which also works before a context exists."""

from __future__ import annotations

import os
from typing import Any, Self


class NvmlDevice:
    """Memory in use on a device, and by this process on it."""

    def __init__(self, nvml: Any, handle: Any) -> None:
        self._nvml, self._handle = nvml, handle

    @classmethod
    def open(cls, uuid: str, *, nvml: Any = None) -> Self | None:
        """The device of that UUID (as torch gives it, without prefix); None where the library cannot be asked.

        A device is found by UUID because torch counts only those in `CUDA_VISIBLE_DEVICES`.
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
        """What all processes together hold; None where the driver does not say."""
        try:
            return int(self._nvml.nvmlDeviceGetMemoryInfo(self._handle).used)
        except self._nvml.NVMLError:
            return None

    def own_bytes(self) -> int | None:
        """What this process holds, context included.

        None where the driver does not say: under Windows' display driver model, and in a container whose process
        numbers are not the host's.
        """
        try:
            processes = [
                *self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle),
                *self._nvml.nvmlDeviceGetGraphicsRunningProcesses(self._handle),
            ]
        except self._nvml.NVMLError:
            return None
        # One that both computes and draws stands in both lists, with the same figure.
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
