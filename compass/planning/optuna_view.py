"""Optuna's study, written whichever way a run ends."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from compass.errors import InputError
from compass.planning.experiment import Experiment
from compass.search.storage import write_study
from compass.search.study import Frame
from compass.stages import POLICIES
from compass.stages.timed import TimedStage

log = logging.getLogger(__name__)


@contextmanager
def study_of(lab: Experiment, storage: str | Path | None) -> Iterator[None]:
    """Rebuild the study in `storage` when the block ends, on an error or an interrupt too; never, if it is None.

    That it cannot be written is said and costs the run nothing: the ledger is the truth.
    """
    try:
        yield
    finally:
        if storage is not None:
            try:
                n_shown = write_study(lab.runner.history(), frame_of(lab), storage)
                log.debug("%d probes shown in Optuna's study, %s", n_shown, storage)
            except InputError as error:
                log.warning("Optuna's study is not written: %s", error)


def frame_of(lab: Experiment) -> Frame:
    """What the probes of `lab` are shown against."""
    fingerprint = lab.description.fingerprint
    timed = [policy for policy in POLICIES.values() if isinstance(policy, TimedStage) and lab.reference is not None]
    return Frame(
        machine=f"{fingerprint.device} {fingerprint.key[:8]}",
        config=lab.config,
        budget_bytes=lab.budget_bytes,
        capacities=lab.capacities,
        shares={policy.stage: policy.share(lab.known()) for policy in timed},
        reference=lab.reference,
    )
