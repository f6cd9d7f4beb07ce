"""The results of a run, as its folder keeps them."""

from __future__ import annotations

from compass.records import Cycle, Evaluation, Record, RunVerdict
from compass.training.checkpoints import Progressed


class Results(Record):
    """The results of a run."""

    finished: bool
    """False if a signal stopped it."""
    stopped_by: int = 0
    """The number of that signal."""
    at: Progressed
    cycles: tuple[Cycle, ...]
    evaluations: tuple[Evaluation, ...]
    """The best model on every part of the data, followed by the baselines."""
    verdict: RunVerdict
    split: int
    """Batches that were cut to the free memory."""
    deferred: int
    """Samples that did not fit even alone, and waited."""
    out_of_memory: int
    """How often memory ran out; the update was repeated in smaller parts."""
    not_finite: int = 0
    """Updates that were left out because their loss or their gradient was not finite."""
    skipped: tuple[str, ...]
    """Ids of samples that did not fit during a whole epoch."""
    checkpoint: str
    """The best model's file; empty without one."""
    unwritten: tuple[tuple[str, str], ...] = ()
    """Files that could not be written, each with the reason; known to the process of the run alone."""

    def __repr__(self) -> str:
        return f"<training {'finished' if self.finished else 'stopped'}: {self.verdict}>"
