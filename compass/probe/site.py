"""A machine as the planning sees it: its host, where runners are opened on it, and where its probes are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from compass.device import available_cores
from compass.probe.preload import is_offered, library_name
from compass.probe.runner import Runner
from compass.probe.store import Store
from compass.records import ALLOCATORS, Allocator, Record, RuntimeSettings


class Host(Record):
    """What planning asks of the computer around a device."""

    n_cores: int
    """Cores that a process there may keep busy."""
    libraries: dict[Allocator, str]
    """The C allocators offered there, each with the file that it is preloaded from; empty where it needs none."""

    def offers(self, allocator: Allocator) -> bool:
        """Whether training can run under `allocator` there."""
        return allocator in self.libraries

    def library(self, allocator: Allocator) -> str:
        """The name of the file that `allocator` is preloaded from; empty if it needs none, or none is installed."""
        return self.libraries.get(allocator, "")


def this_host() -> Host:
    """The computer that this process runs on."""
    offered = {name: library_name(name) for name in ALLOCATORS if is_offered(name)}
    return Host(n_cores=available_cores(), libraries=offered)


@dataclass(frozen=True)
class Site:
    """A machine, here or elsewhere, on which a runner can be opened for each choice of runtime settings."""

    open_runner: Callable[[RuntimeSettings], Runner]
    store: Store
    """The ledger that its probes are read from and written to."""
    host: Host | None = None
    """None: the computer that this process runs on."""
