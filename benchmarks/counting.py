"""A runner that counts the probes of a method, so that all methods are counted alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from compass.probe.runner import Runner
from compass.records import Description, Knobs, Outcome, ProbeSpec, Status

Purpose = Literal["calibrate", "search", "certify"]


def purpose_of(spec: ProbeSpec) -> Purpose:
    """Synthetic batches calibrate, new processes certify, all other probes search."""
    if all(batch.synthetic is not None for batch in spec.batches):
        return "calibrate"
    return "certify" if spec.fresh else "search"


class CountingRunner:
    """Passes every request on to `inner` and records it."""

    def __init__(self, inner: Runner) -> None:
        self._inner = inner
        self.made: list[tuple[Purpose, ProbeSpec, Outcome]] = []

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine's description; costs no steps."""
        return self._inner.describe(knobs)

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Probe and count."""
        outcome = self._inner.probe(spec)
        self.made.append((purpose_of(spec), spec, outcome))
        return outcome

    def close(self) -> None:
        """Close the inner runner."""
        self._inner.close()

    def n_steps(self, *purposes: Purpose) -> int:
        """Training steps, those of failed probes included; the step that failed counts as one."""
        return sum(
            outcome.n_steps + (outcome.status is Status.OUT_OF_MEMORY)
            for purpose, _, outcome in self.made
            if purpose in purposes
        )

    def n_architectures(self, *purposes: Purpose) -> int:
        """Distinct (layers, channels) probed."""
        return len({(spec.knobs.layers, spec.knobs.channels) for purpose, spec, _ in self.made if purpose in purposes})

    def n_out_of_memory(self) -> int:
        """Probes that ran out of memory, whatever their purpose."""
        return sum(outcome.status is Status.OUT_OF_MEMORY for _, _, outcome in self.made)

    def wall_s(self) -> float:
        """Simulated seconds of all probes."""
        return sum(outcome.wall_s for _, _, outcome in self.made)
