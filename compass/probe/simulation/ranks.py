"""Simulated machines with several devices: what ranks add to the steps of a process that trains alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from compass.probe.ranks import outcome_of_ranks
from compass.probe.runner import Runner
from compass.records import Description, Knobs, Outcome, ProbeSpec, RankCosts, RankFigures, RankShare, StepTime


class SimulatedRanks:
    """A `Runner` of `n_devices` devices, each like the machine of `runner`; `truth` is what several of them cost."""

    def __init__(self, runner: Runner, n_devices: int, truth: RankCosts, shares: Sequence[RankShare] = ()) -> None:
        """`shares` are those of unequal devices."""
        self._shares = shares
        self._runner, self._n_devices, self._truth = runner, n_devices, truth
        self.n_together = 0
        """Probes of several ranks."""

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine, with its number of devices."""
        return self._runner.describe(knobs).model_copy(update={"n_devices": self._n_devices})

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Simulate `spec`, of several ranks one after another: the slowest sets the pace."""
        if spec.ranks == 1:
            return self._runner.probe(spec)
        self.n_together += 1
        if not self._shares:  # all are alike
            return self._of_rank(spec, 1.0)
        parts = [self._of_rank(spec.of_rank(rank), share.speed) for rank, share in enumerate(self._shares)]
        figures = [
            RankFigures(
                device="simulated",
                budget_bytes=share.budget_bytes,
                alone_s=part.step and part.step.median_s - (part.sync_s or 0.0),
            )
            for part, share in zip(parts, self._shares, strict=True)
        ]
        return outcome_of_ranks(parts).model_copy(update={"ranks": tuple(figures)})

    def close(self) -> None:
        """End the simulated process."""
        self._runner.close()

    def _of_rank(self, spec: ProbeSpec, speed: float) -> Outcome:
        """One rank's part of `spec`."""
        truth, ceiling = self._truth, spec.ceiling_bytes
        room_bytes = None if ceiling is None else ceiling - truth.host_bytes
        outcome = self._runner.probe(spec.model_copy(update={"ranks": 1, "ceiling_bytes": room_bytes}))
        if outcome.step is None:
            return outcome
        capacity = outcome.parameters or 1
        return outcome.model_copy(
            update={
                "step": self._together(outcome.step, speed, capacity, spec.ranks),
                "footprint_bytes": (outcome.footprint_bytes or 0) + truth.host_bytes,
                "joined_bytes": truth.host_bytes,
                "latency_s": truth.latency_s,
                "sync_s": truth.sync_of(capacity, spec.ranks),
            }
        )

    def _together(self, step: StepTime, speed: float, capacity: int, n_ranks: int) -> StepTime:
        low_s, median_s, high_s, mean_s = (
            self._truth.step_s(seconds / speed, capacity, n_ranks)
            for seconds in (step.low_s, step.median_s, step.high_s, step.of_many_s)
        )
        return StepTime(low_s=low_s, median_s=median_s, high_s=high_s, n_steps=step.n_steps, mean_s=mean_s)
