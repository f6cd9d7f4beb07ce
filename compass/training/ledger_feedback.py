"""What a run tells the ledger, so that the next optimization starts wiser. A ledger that cannot be written costs training nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compass.errors import InputError
from compass.probe.settle import step_time
from compass.probe.store import LEDGER
from compass.probe.trained import record_cycle, record_out_of_memory
from compass.records import Batch, Load, TrainedCycle
from compass.training.build_run import TrainingRun
from compass.training.cycle_report import Cycle, CycleClock

log = logging.getLogger(__name__)

FEWEST_TOLD = 20
"""Batches from which on a cycle, cut short at the end of a run, says something to the ledger."""


def may_teach(run: TrainingRun) -> bool:
    """Whether what happens here is what the plan is for: one process, on what the profile was measured on."""
    return bool(run.spec.cache) and not run.spec.stale and run.ranks.n == 1


@dataclass
class LedgerFeedback:
    """Tells the ledger of the run's cycles."""

    run: TrainingRun
    fullest: tuple[Batch, Load] | None = None
    """Of all that ran so far: the peak is that of the whole process, and may be an earlier cycle's."""

    def tell(self, cycle: Cycle, clock: CycleClock) -> None:
        """What a cycle took, and what was held until its end."""
        law, seen = self.run.spec.plan.bytes_law, [*clock.loads, *filter(None, [self.fullest])]
        self.fullest = max(seen, key=lambda pair: law.live(pair[1]))
        if cycle.n_batches < FEWEST_TOLD:
            return
        batch, load = self.fullest
        learnt = TrainedCycle(
            fullest=batch,
            fullest_load=load,
            mean_load=_mean([load for _, load in clock.loads]),
            step=step_time(clock.step_times),
            footprint_bytes=cycle.peak_bytes,
        )
        with _harmless():
            record_cycle(_ledger(self.run), self.run.spec.fingerprint, self.run.spec.plan, learnt)


def teach_out_of_memory(run: TrainingRun, batch: Batch, detail: str) -> None:
    """That a batch did not fit under the plan's own ceiling. Where less was to be had, it was another program's doing."""
    if not run.spec.ceiling or run.meter.obtainable_bytes() < run.spec.budget_bytes:
        return
    with _harmless():
        load = batch.load(run.data.loads)
        record_out_of_memory(_ledger(run), run.spec.fingerprint, run.spec.plan, batch, load, detail=detail)


def _mean(loads: Sequence[Load]) -> Load:
    total = Load.total((load, 1) for load in loads)
    sizes = tuple((name, size / len(loads)) for name, size in total.sizes)
    return Load(graphs=round(total.graphs / len(loads)), sizes=sizes)


def _ledger(run: TrainingRun) -> Path:
    return Path(run.spec.cache) / LEDGER


@contextmanager
def _harmless() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        log.warning("the ledger does not learn of this: %s", error)
