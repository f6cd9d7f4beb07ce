"""A ceiling on a process's whole footprint, enforced by the operating system or by the device's allocator."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from compass.device.accelerator import Accelerator
from compass.device.process import ROOT, process_memory
from compass.errors import InputError
from compass.units import format_bytes


class CeilingTooLow(InputError):  # noqa: N818 - named for the fault, like its siblings
    """The process already holds more than the ceiling, so nothing could run under it."""

    def __init__(self, ceiling_bytes: int, held_bytes: int) -> None:
        super().__init__(
            "memory limit",
            got=format_bytes(ceiling_bytes),
            expected=f"more than the {format_bytes(held_bytes)} that the idle worker already holds",
            fix="Raise the limit.",
        )


class Ceiling:
    """A context in which allocation fails if this process's whole footprint would exceed `ceiling_bytes`.

    After `impose`, `enforced` is whether the system or the allocator really refuses memory. Impose it after the libraries are
    loaded, because the memory held at that time is taken into account. This base class enforces nothing.
    """

    def __init__(self, ceiling_bytes: int) -> None:
        self.ceiling_bytes = ceiling_bytes
        self.enforced = False

    def impose(self) -> None:
        """Put the ceiling in place.

        Raises:
            CeilingTooLow: the process already holds more.
        """

    def tighten(self) -> None:
        """Take memory into account that has come to be held outside the enforced part. Cheap."""

    def lift(self) -> None:
        """Restore the former limit. May be called twice."""
        self.enforced = False

    def __enter__(self) -> Self:
        self.impose()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.lift()


class DataCeiling(Ceiling):
    """The CPU's ceiling on Linux: the soft `RLIMIT_DATA`, which the kernel applies to brk and private mappings.

    File-backed pages count in the footprint but not in that limit, so resident ones are subtracted from it: in `impose`, and
    again in `tighten`, because the first training step loads 17 MiB of kernels. The hard limit stays, so that the ceiling can
    be lifted.
    """

    def __init__(self, ceiling_bytes: int, *, root: Path = ROOT) -> None:
        super().__init__(ceiling_bytes)
        self._root = root
        self._previous: tuple[int, int] | None = None

    def impose(self) -> None:
        """Lower the soft limit, unless it is already lower."""
        import resource

        now = process_memory(root=self._root)
        if now.footprint_bytes >= self.ceiling_bytes:
            raise CeilingTooLow(self.ceiling_bytes, now.footprint_bytes)
        if self._previous is None:
            self._previous = resource.getrlimit(resource.RLIMIT_DATA)
        self.enforced = True
        self.tighten()

    def tighten(self) -> None:
        """Lower the soft limit by the file-backed pages that have been loaded since."""
        import resource

        if not self.enforced:
            return
        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        file_bytes = process_memory(root=self._root).rss_file_bytes
        wanted = max(0, self.ceiling_bytes - file_bytes)
        for present in (soft, hard):
            if present != resource.RLIM_INFINITY:
                wanted = min(wanted, present)
        resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))

    def lift(self) -> None:
        """Restore the former soft limit."""
        import resource

        if self._previous is not None:
            resource.setrlimit(resource.RLIMIT_DATA, self._previous)
            self._previous = None
        super().lift()


class AllocatorCeiling(Ceiling):
    """An accelerator's ceiling: a limit on torch's allocator. The context is outside that limit, so it is subtracted.

    `context_bytes` returns the context's size. It is called in `impose`, and again in `tighten`, because the first training
    step loads kernels (240 MiB on an H200).
    """

    def __init__(self, ceiling_bytes: int, accelerator: Accelerator, *, context_bytes: Callable[[], int]) -> None:
        super().__init__(ceiling_bytes)
        self._accelerator, self._context_bytes = accelerator, context_bytes

    def impose(self) -> None:
        """Limit the allocator to the ceiling less the context."""
        held = self._context_bytes() + self._accelerator.reserved_bytes()
        if held >= self.ceiling_bytes:
            raise CeilingTooLow(self.ceiling_bytes, held)
        self.enforced = True
        self.tighten()

    def tighten(self) -> None:
        """Lower the limit by the growth of the context since."""
        if not self.enforced:
            return
        allowed = max(0, min(self.ceiling_bytes - self._context_bytes(), self._accelerator.total_bytes))
        self.enforced = self._accelerator.limit(allowed)

    def lift(self) -> None:
        """Remove the limit on the allocator."""
        if self.enforced:
            self._accelerator.limit(None)
        super().lift()


def cpu_ceiling(ceiling_bytes: int) -> Ceiling:
    """The ceiling of a process that trains on the CPU.

    It is enforced on Linux only: macOS ignores `RLIMIT_DATA` for mappings, and Windows would need a job object.
    """
    return DataCeiling(ceiling_bytes) if sys.platform == "linux" else Ceiling(ceiling_bytes)
