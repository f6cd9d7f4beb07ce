"""The prober runs probes, repeats doubtful certificates, and keeps each probe beside its prediction."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from compass.planning.forecast import Forecast, stage_part
from compass.probe.recorded import Recorded
from compass.probe.requests import Phase
from compass.records import Expectation, Outcome, ProbeSpec, Progress, Stage, Status, Variant

log = logging.getLogger(__name__)

Watch = Callable[[Progress], None]

BEYOND_DOUBT = 3.0
"""Standard deviations of a prediction: a chance of one in seven hundred."""


def ignore_progress(_: Progress) -> None:
    """The progress callback of a caller that shows none."""


@dataclass(frozen=True)
class Probed:
    """A probe and its outcome, beside the prediction before it ran."""

    spec: ProbeSpec
    outcome: Outcome
    expected: Expectation | None
    """None: nothing could be predicted yet."""
    reused: bool
    """The ledger held the outcome."""
    phase: Phase
    stage: Stage | None
    """None: it serves every stage."""

    @property
    def is_slow(self) -> bool:
        """Whether its step was slower than predicted by more than the prediction can be wrong."""
        expected, step = self.expected, self.outcome.step
        if expected is None or expected.step_s is None or expected.spread is None or step is None:
            return False
        return step.median_s > expected.step_s * (1 + BEYOND_DOUBT * expected.spread)

    def is_faster_than(self, before: Probed) -> bool:
        """Whether its median step is below the interval of `before`: more than chance explains."""
        step, step_before = self.outcome.step, before.outcome.step
        return step is not None and step_before is not None and step.median_s < step_before.low_s


class Prober:
    """Runs probes through `runner`, which finds known ones in the ledger, and reports progress to `watch`."""

    def __init__(
        self,
        runner: Recorded,
        *,
        certify_again: int,
        watch: Watch = ignore_progress,
        forecast: Forecast | None = None,
    ) -> None:
        self._runner, self._certify_again, self._watch = runner, certify_again, watch
        self.forecast = forecast or Forecast()
        self._crashing: set[Variant] = set()
        """Variants of which a probe crashed twice in a row."""
        self.probed: list[Probed] = []
        """Every probe of this run, in order; repetitions are one."""

    def probe(
        self, phase: Phase, spec: ProbeSpec, *, stage: Stage | None = None, expected: Expectation | None = None
    ) -> Probed:
        """Run a probe, or find it in the ledger.

        A crash while calibrating is tried once more, since a device may crash for a reason of its own and all that follows rests on
        the probe.
        """
        began_s = time.monotonic()
        outcome, reused = self._runner.probe(phase, spec)
        if spec.fresh and not reused:
            self.forecast.started(time.monotonic() - began_s - outcome.wall_s)
        if phase == "calibrate" and not reused:
            outcome = self._tried_again(phase, spec, outcome)
        probed = Probed(spec, outcome, expected, reused, phase, stage)
        self.probed.append(probed)
        return probed

    def certify(self, spec: ProbeSpec, *, stage: Stage, expected: Expectation | None) -> Probed:
        """Run a certificate, and repeat it while it is clearly slower than predicted: another program may have run beside it.

        If a repetition is not faster, the measurement is believed and not the prediction. One that crashed is tried once more.
        """
        probed = self.probe("certify", spec, stage=stage, expected=expected)
        if not probed.reused:
            outcome = self._tried_again("certify", spec, probed.outcome)
            self.probed[-1] = probed = replace(probed, outcome=outcome)
        for _ in range(self._certify_again):
            if probed.reused or not probed.is_slow:
                break
            log.info("%s: slower than predicted, measuring again", spec.knobs)
            before, probed = probed, self.repeat(probed)
            if not probed.is_faster_than(before):
                break
        return probed

    def _tried_again(self, phase: Phase, spec: ProbeSpec, outcome: Outcome) -> Outcome:
        """The `outcome` of `spec`, or that of a second try if it crashed; not for a variant of which a second try crashed too."""
        if outcome.status is not Status.CRASHED or spec.knobs.variant in self._crashing:
            return outcome
        log.info("%s: crashed, trying again", spec.knobs)
        again = self._runner.again(phase, spec)
        if again.status is Status.CRASHED:
            self._crashing.add(spec.knobs.variant)
        return again

    def repeat(self, probed: Probed) -> Probed:
        """Run a probe of this run once more; the outcome of both takes its place."""
        outcome = self._runner.again(probed.phase, probed.spec)
        repeated = replace(probed, outcome=outcome, reused=False)
        self.probed[self.probed.index(probed)] = repeated
        return repeated

    def knows(self, spec: ProbeSpec) -> bool:
        """Whether the ledger holds the outcome of `spec`."""
        return self._runner.knows(spec)

    def prepare(self, specs: Iterable[ProbeSpec]) -> None:
        """Start the processes that `specs` will need, if they are not in the ledger."""
        self._runner.prepare(specs)

    def report(  # noqa: PLR0913 - each varies on its own
        self,
        phase: Phase,
        text: str,
        n_done: int,
        n_expected: int,
        *,
        stage: Stage | None = None,
        part: str = "",
        done_share: float = 0.0,
    ) -> None:
        """Report that the next of `n_expected` steps begins, described by `text`.

        `part` is the forecast's, if not the phase, and `done_share` how much of it is done, if that is known.
        """
        part = part or (phase if stage is None else stage_part(phase, stage))
        in_all_s = self.forecast.enter(part, done_share)
        self._watch(
            Progress(
                phase=phase,
                what=text,
                n_done=n_done,
                n_expected=n_expected,
                in_all_s=in_all_s,
                later_s=min(in_all_s, self.forecast.later_s()),
                stage=self.forecast.place(stage),
            )
        )
