"""A runner that remembers: every probe is answered from the ledger, or made and written to it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from compass.probe.requests import Phase
from compass.probe.runner import Preparing, Runner
from compass.probe.store import Store
from compass.probe.trained import lessons
from compass.records import Outcome, ProbeSpec, Status
from compass.units import format_bytes, format_seconds

log = logging.getLogger(__name__)


class Recorded:
    """Probes through `runner`, remembered in `store` under `fingerprint`."""

    def __init__(self, runner: Runner, store: Store | None, fingerprint: str) -> None:
        self._runner, self._store, self._fingerprint = runner, store, fingerprint
        self.probes: list[tuple[ProbeSpec, Outcome]] = []
        self.counts: Counter[str] = Counter()
        self._failed: dict[str, Outcome] = {}
        self.trained = lessons(self.history())
        """What training under this fingerprint has taught so far, oldest first."""

    def probe(self, phase: Phase, spec: ProbeSpec) -> Outcome:
        """The outcome of `spec`, counted under `phase`. What failed in this run is not tried again in it."""
        outcome = self._found(spec)
        if outcome is not None:
            self.counts["reused"] += 1
        else:
            outcome = self._made(phase, spec)
            self._keep(spec, outcome)
        self.probes.append((spec, outcome))
        _log(phase, spec, outcome)
        return outcome

    def prepare(self, specs: Iterable[ProbeSpec]) -> None:
        """Let the runner make ready for those of `specs` that it will have to make."""
        unknown = [spec for spec in specs if self._found(spec) is None]
        if unknown and isinstance(self._runner, Preparing):
            self._runner.prepare(unknown)

    def again(self, phase: Phase, spec: ProbeSpec) -> Outcome:
        """Make `spec`, which this run has asked, once more; what both runs say together takes its place, as the last."""
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
        if not outcome.ok:
            self._failed[spec.key] = outcome
        if self._store:
            self._store.add(self._fingerprint, spec, outcome)

    def history(self) -> list[tuple[ProbeSpec, Outcome]]:
        """Every probe ever made under this fingerprint; without a store, those of this run."""
        return self._store.under(self._fingerprint) if self._store else list(self.probes)


def together(before: Outcome, after: Outcome) -> Outcome:
    """One answer of two runs of the same probe: the calmer's times, for what else runs only adds to them, and the larger footprint.

    What failed the second time failed.
    """
    if not after.ok or before.step is None or after.step is None:
        return after
    calmer = min(before, after, key=lambda outcome: outcome.step.of_many_s if outcome.step else 0.0)
    return calmer.model_copy(
        update={
            "footprint_bytes": max(before.footprint_bytes or 0, after.footprint_bytes or 0),
            "n_steps": before.n_steps + after.n_steps,
            "wall_s": before.wall_s + after.wall_s,
        }
    )


def _log(phase: Phase, spec: ProbeSpec, outcome: Outcome) -> None:
    if outcome.ok and outcome.step is not None:
        found = (
            f"{format_seconds(outcome.step.median_s)} a step, {format_bytes(outcome.live_bytes or 0)} live, "
            f"{format_bytes(outcome.footprint_bytes or 0)} in all"
        )
    else:
        found = f"{outcome.status}: {outcome.detail}"
    log.debug("%s %s %s on %s: %s", phase, spec.key, spec.knobs, outcome.load, found)
