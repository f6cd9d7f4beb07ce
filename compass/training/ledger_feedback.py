"""The measurements of a run, recorded in the ledger, so that the next optimization starts with them.

A ledger that cannot be written is a warning and does not disturb the run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from compass.errors import InputError
from compass.probe.settle import step_time
from compass.probe.store import LEDGER
from compass.probe.trained import record_cycle, record_out_of_memory
from compass.records import Batch, Cycle, Load, TrainedCycle
from compass.training.cycle_report import CycleClock

if TYPE_CHECKING:
    from compass.training.build_run import TrainingRun

log = logging.getLogger(__name__)

FEWEST_BATCHES = 20
"""Batches below which a cycle, cut short at the end of a run, is not recorded."""


def may_feed_back(run: TrainingRun) -> bool:
    """Whether the run's measurements apply to its plan: a single process, and a profile that matches this machine."""
    return bool(run.spec.cache) and not run.spec.stale and run.ranks.n == 1


@dataclass
class LedgerFeedback:
    """Records a run's cycles, and the batches that ran out of memory."""

    run: TrainingRun
    fullest: tuple[Batch, Load] | None = None
    """The largest batch so far. The peak of memory is the whole process's, so it may come from an earlier cycle's batch."""

    def record_cycle(self, cycle: Cycle, clock: CycleClock) -> None:
        """Record the times of a cycle, and the peak of memory until its end."""
        spec, seen = self.run.spec, [*clock.loads, *filter(None, [self.fullest])]
        self.fullest = max(seen, key=lambda pair: spec.plan.bytes_law.live(pair[1]))
        if cycle.n_batches < FEWEST_BATCHES:
            return
        batch, load = self.fullest
        measured = TrainedCycle(
            fullest=batch,
            fullest_load=load,
            mean_load=_mean([load for _, load in clock.loads]),
            step=step_time(clock.step_times),
            footprint_bytes=cycle.peak_bytes,
        )
        with _only_warning():
            record_cycle(Path(spec.cache) / LEDGER, spec.fingerprint, spec.plan, measured)

    def record_out_of_memory(self, batch: Batch, detail: str) -> None:
        """Record that `batch` did not fit under the plan's ceiling.

        Nothing is recorded if other programs left less memory than the budget, or if no ceiling was enforced.
        """
        run, spec = self.run, self.run.spec
        if not spec.ceiling or run.meter.obtainable_bytes() < spec.budget_bytes:
            return
        with _only_warning():
            load = batch.load(run.data.loads)
            record_out_of_memory(Path(spec.cache) / LEDGER, spec.fingerprint, spec.plan, batch, load, detail=detail)


def _mean(loads: Sequence[Load]) -> Load:
    sizes = tuple((name, fmean(load[name] for load in loads)) for name, _ in loads[0].sizes)
    return Load(graphs=round(fmean(load.graphs for load in loads)), sizes=sizes, padded=loads[0].padded)


@contextmanager
def _only_warning() -> Iterator[None]:
    try:
        yield
    except InputError as error:
        log.warning("this run is not recorded in the ledger: %s", error)
