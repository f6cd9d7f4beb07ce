"""The interface every probe goes through, real or simulated."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from compass.records import Description, Knobs, Outcome, ProbeSpec


class Runner(Protocol):
    """Something that can describe a machine and run probes on it.

    A third party writes one by giving these three methods; nothing needs to be inherited. `probe` never raises for
    what a configuration does (it returns an `Outcome`); `WorkerError` means the machine itself cannot be used.
    """

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine, the samples' loads, and the trainable parameters of `knobs`."""
        ...

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Run the training steps `spec` asks for and say what happened."""
        ...

    def close(self) -> None:
        """Let go of processes and memory. Safe to call twice."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A runner that gains by knowing beforehand what will be asked of it."""

    def prepare(self, specs: Iterable[ProbeSpec]) -> None:
        """Make ready for `specs`, of which any may yet not come."""
        ...
