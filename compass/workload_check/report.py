"""What a check-up found."""

from __future__ import annotations

from typing import Literal

from compass.records import Record

Level = Literal["good", "note", "bad"]


class Finding(Record):
    """One thing that was looked at."""

    level: Level
    about: str
    """A word or two: `memory`, `time`, `parameters` …"""
    text: str


class Fit(Record):
    """How well a law predicts what it was not fitted to: relative errors, and what would mend them."""

    median: float
    worst: float
    n: int
    without: tuple[tuple[str, float], ...] = ()
    """(declared size, worst error if it were not declared)."""
    missing: str | None = None
    """The size that explains what the declared ones do not."""
    with_missing: float | None = None
    """Worst error if it were declared too."""


class CheckReport(Record):
    """Whether Compass understands a workload."""

    workload: str
    features: tuple[str, ...]
    n_samples: int
    n_probes: int
    seconds: float
    findings: tuple[Finding, ...]
    loads: Fit | None = None
    """Live bytes of one architecture, over batches."""
    knobs: Fit | None = None
    """Live bytes of architectures that were not probed."""
    time: Fit | None = None
    """Step times of architectures that were not timed."""
    failure: str = ""
    """Of the first step, in the workload's own words."""

    @property
    def understood(self) -> bool:
        """Whether nothing found is bad."""
        return all(finding.level != "bad" for finding in self.findings)
