"""A runner with memory: it answers a probe from the ledger, or runs it and writes it there."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from compass.probe.requests import Phase
from compass.probe.runner import Preparing, Runner
from compass.probe.store import Store
from compass.probe.trained import lessons
from compass.records import Outcome, ProbeSpec, Status
from compass.units import format_bytes, format_seconds

log = logging.getLogger(__name__)


class Recall(NamedTuple):
    """The outcome of a probe, and whether it was known already."""

    outcome: Outcome
    reused: bool


class Recorded:
    """Runs probes by `runner` and keeps them in `store` under `fingerprint`; without a store, in memory alone."""

    def __init__(self, runner: Runner, store: Store | None, fingerprint: str) -> None:
        self._runner, self._store, self._fingerprint = runner, store, fingerprint
        self.probes: list[tuple[ProbeSpec, Outcome]] = []
        self.keys: set[str] = set()
        """Those of all probes of this run."""
        self.counts: Counter[str] = Counter()
        self._failed: dict[str, Outcome] = {}
        self.trained = lessons(self.history())
        """Measurements by training runs under this fingerprint, oldest first."""

    def probe(self, phase: Phase, spec: ProbeSpec) -> Recall:
        """The outcome of `spec`, counted under `phase`. A probe that failed in this run is not repeated in it."""
        found = self._found(spec)
        if found is not None:
            self.counts["reused"] += 1
        outcome = found or self._made(phase, spec)
        if found is None:
            self._keep(spec, outcome)
        self.probes.append((spec, outcome))
        self.keys.add(spec.key)
        _log(phase, spec, outcome)
        return Recall(outcome, reused=found is not None)

    def knows(self, spec: ProbeSpec) -> bool:
        """Whether the outcome of `spec` is in the ledger, or failed in this run."""
        return self._found(spec) is not None

    def prepare(self, specs: Iterable[ProbeSpec]) -> None:
        """Let the runner prepare for those of `specs` that are not in the ledger."""
        unknown = [spec for spec in specs if not self.knows(spec)]
        if unknown and isinstance(self._runner, Preparing):
            self._runner.prepare(unknown)

    def again(self, phase: Phase, spec: ProbeSpec) -> Outcome:
        """Repeat `spec`, which this run has probed. Both outcomes together replace the first, as the latest probe."""
        index = max(index for index, (asked, _) in enumerate(self.probes) if asked == spec)
        _, before = self.probes.pop(index)
        outcome = together(before, self._made(phase, spec))
        self._keep(spec, outcome)
        self.probes.append((spec, outcome))
        _log(phase, spec, outcome)
        return outcome

    def _made(self, phase: Phase, spec: ProbeSpec) -> Outcome:
        outcome = self._runner.probe(spec)
        self.counts[f"{phase}_probes"] += 1
        self.counts[f"{phase}_steps"] += outcome.n_steps
        self.counts["out_of_memory"] += outcome.status is Status.OUT_OF_MEMORY
        return outcome

    def _found(self, spec: ProbeSpec) -> Outcome | None:
        kept = self._store.find(self._fingerprint, spec) if self._store else None
        return kept or self._failed.get(spec.key)

    def _keep(self, spec: ProbeSpec, outcome: Outcome) -> None:
        if outcome.ok:
            self._failed.pop(spec.key, None)
        else:
            self._failed[spec.key] = outcome
        if self._store:
            self._store.add(self._fingerprint, spec, outcome)

    def history(self) -> list[tuple[ProbeSpec, Outcome]]:
        """Every probe in the store under this fingerprint; without a store, those of this run."""
        return self._store.under(self._fingerprint) if self._store else list(self.probes)


def together(before: Outcome, after: Outcome) -> Outcome:
    """One outcome of two runs of the same probe: the faster one's times and the larger footprint.

    Other programs can only add to a step's time, so the faster run is nearer to the truth. If the second run failed, the
    result is its failure.
    """
    if not after.ok or before.step is None or after.step is None:
        return after
    faster = min(before, after, key=lambda outcome: outcome.step.of_many_s if outcome.step else 0.0)
    return faster.model_copy(
        update={
            "footprint_bytes": max(before.footprint_bytes or 0, after.footprint_bytes or 0),
            "n_steps": before.n_steps + after.n_steps,
            "wall_s": before.wall_s + after.wall_s,
        }
    )


def _log(phase: Phase, spec: ProbeSpec, outcome: Outcome) -> None:
    if outcome.ok and outcome.step is not None:
        found = (
            f"{format_seconds(outcome.step.median_s)} per step, {format_bytes(outcome.live_bytes or 0)} live, "
            f"{format_bytes(outcome.footprint_bytes or 0)} footprint"
        )
    else:
        found = outcome.summary
    log.debug("%s %s %s on %s: %s", phase, spec.key, spec.knobs, outcome.load, found)
