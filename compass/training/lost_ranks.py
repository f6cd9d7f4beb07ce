"""A process of several that train together ends, and the others notice it where they wait for it."""

from __future__ import annotations

import os

from compass.commands import command
from compass.errors import CompassError
from compass.probe.ranks import names_lost_rank
from compass.training.build_run import TrainingRun


class RankLost(CompassError):  # noqa: N818 - it names what happened
    """Another process of the run has ended, so that no gradient can be shared any more."""

    exit_code = 1

    def __init__(self, run: TrainingRun) -> None:
        kept, again = run.checkpoints.kept
        flags = {"--out": str(run.folder)}
        by_torchrun = "TORCHELASTIC_RUN_ID" in os.environ
        if not by_torchrun:
            flags["--devices"] = str(run.spec.n_devices)
        super().__init__(
            f"process {run.ranks.rank} of {run.ranks.n}: another process of this run has ended, and it cannot go on alone. {kept} with "
            f"`{command('train', flags, [again])}`{', started by torchrun as before' if by_torchrun else ''}"
        )


def is_lost(error: BaseException, run: TrainingRun) -> bool:
    """Whether `error` says that another process of `run` has ended."""
    if run.ranks.n == 1:
        return False
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, RuntimeError | OSError) and names_lost_rank(f"{type(link).__name__}: {link}"):
            return True
        link = link.__cause__ or link.__context__
    return False
