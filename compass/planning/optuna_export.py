"""The probes as an Optuna study, written when a run ends, however it ends."""

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
from compass.stages.policy import EVERY_MODEL

log = logging.getLogger(__name__)


@contextmanager
def study_of(experiment: Experiment, storage: str | Path | None) -> Iterator[None]:
    """Rebuild the study in `storage` when the block ends, after an error or an interrupt too; never if `storage` is None.

    A study that cannot be written is logged and costs the run nothing: the ledger holds the probes.
    """
    try:
        yield
    finally:
        if storage is not None:
            try:
                n_shown = write_study(experiment.runner.history(), frame_of(experiment), storage)
                log.debug("Optuna's study in %s shows %d probes", storage, n_shown)
            except InputError as error:
                log.warning("Optuna's study could not be written: %s", error)


def frame_of(experiment: Experiment) -> Frame:
    """The machine, the budget and the reference that the study's probes are compared with."""
    fingerprint = experiment.description.fingerprint
    timed = [stage for stage, policy in POLICIES.items() if policy.timed and experiment.reference is not None]
    return Frame(
        machine=f"{fingerprint.device} {fingerprint.key[:8]}",
        config=experiment.config,
        budget_bytes=experiment.budget_bytes,
        capacities=experiment.capacities,
        shares={stage: experiment.config.space.share(stage) or EVERY_MODEL for stage in timed},
        reference=experiment.reference,
    )
