"""The result of a workload check, as records."""

from __future__ import annotations

from typing import Literal

from compass.records import Record

Level = Literal["good", "note", "bad"]


class Finding(Record):
    """The result of one test."""

    level: Level
    about: str
    """A word or two: `memory`, `time`, `parameters` …"""
    text: str


class Fit(Record):
    """How well a fitted law predicts measurements that it was not fitted to: relative errors, and the size that would mend them."""

    median: float
    worst: float
    n: int
    without: tuple[tuple[str, float], ...] = ()
    """(declared size, worst error without it)."""
    missing: str | None = None
    """A size that is not declared and that explains the error."""
    with_missing: float | None = None
    """Worst error with the missing size declared."""


class CheckReport(Record):
    """Whether the cost model applies to a workload, and why not."""

    workload: str
    features: tuple[str, ...]
    n_samples: int
    n_probes: int
    seconds: float
    findings: tuple[Finding, ...]
    loads: Fit | None = None
    """Live bytes of one model on different batches."""
    knobs: Fit | None = None
    """Live bytes of models that were not probed."""
    time: Fit | None = None
    """Step times of models that were not timed."""
    failure: str = ""
    """Error or traceback of the step that failed; empty if none did."""

    @property
    def ok(self) -> bool:
        """Whether no finding is bad."""
        return all(finding.level != "bad" for finding in self.findings)

    @property
    def verdict(self) -> str:
        """The result in a line."""
        if self.ok:
            return "OK: the cost model applies"
        bad = dict.fromkeys(finding.about for finding in self.findings if finding.level == "bad")
        return f"NOT OK: the cost model does not apply ({', '.join(bad)})"
