"""The interface of a runner, which runs probes on a real or simulated machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from compass.records import Description, Knobs, Outcome, ProbeSpec


class Runner(Protocol):
    """Describes a machine and runs probes on it.

    Any object with these three methods is a runner; it need not inherit from this class. `probe` returns an `Outcome` for
    every failure of a configuration and never raises because of one; `WorkerError` means that the machine cannot be used.
    """

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine, the samples' loads, and the trainable parameters of `knobs`."""
        ...

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Run the training steps of `spec`."""
        ...

    def close(self) -> None:
        """End processes and free memory. May be called twice."""
        ...


@runtime_checkable
class Preparing(Protocol):
    """A runner that is faster if it knows the coming probes in advance."""

    def prepare(self, specs: Iterable[ProbeSpec]) -> None:
        """Prepare for `specs`; some of them may never be run."""
        ...
