"""A training run from start to end: open, announce, resume, train, evaluate."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from compass.checksum import json_with_checksum
from compass.commands import command
from compass.errors import CompassError, NonFiniteLoss
from compass.files import write_text
from compass.records import Cycle, Evaluation, Progress, RunVerdict
from compass.records.training import CYCLES, EPOCHS, RESULTS
from compass.training.announcement import announce
from compass.training.build_run import TrainingRun, open_run
from compass.training.checkpoints import (
    BEST,
    BrokenWeights,
    Progressed,
    check_split,
    check_unchanged,
    load_weights,
    run_spec_in,
)
from compass.training.cycle_report import drop_rows, epoch_headers
from compass.training.disk_errors import one_line_for_disk_errors
from compass.training.guard import batch_of
from compass.training.last_evaluation import evaluate_last
from compass.training.loggers import start_loggers
from compass.training.lost_ranks import RankLost, is_lost
from compass.training.ranks import lightning_trainer
from compass.training.results import Results
from compass.training.run_callback import RunCallback
from compass.training.run_spec import RunSpec
from compass.training.stream import Position, end_loaders, loader, reason_of_dead_loader
from compass.training.updates import Counts
from compass.training.verdict import STOPPED, no_verdict
from compass.units import format_seconds

if TYPE_CHECKING:
    import pytorch_lightning as pl

log = logging.getLogger(__name__)

SLOWER = 3.0
"""A lower learning rate that is suggested is this many times lower."""


class Diverged(CompassError):  # noqa: N818 - it names what happened
    """The loss, its gradient or a weight is not finite, and stays so."""

    exit_code = 3

    def __init__(self, error: NonFiniteLoss | BrokenWeights, run: TrainingRun, at: Progressed) -> None:
        rules = run.spec.config.training
        is_loss = isinstance(error, NonFiniteLoss)
        row = f", {rules.most_not_finite} times in a row" if is_loss else ""
        # Weights are looked at after their update was counted, which may have ended the epoch.
        epoch = at.position.epoch + (is_loss or at.position.batch > 0)
        super().__init__(f"{error}{row}, in epoch {epoch}, after {at.n_updates:,} updates. {_slower_again(run)}")


class NothingLearnt(CompassError):  # noqa: N818 - it names what happened
    """Every update of a run was left out: its model is the one that it began with."""

    exit_code = 3

    def __init__(self, run: TrainingRun, at: Progressed) -> None:
        were = "the only update was" if at.n_updates == 1 else f"all {at.n_updates:,} updates were"
        super().__init__(f"{were} left out: loss or gradient was not finite. {_slower_again(run)}")


def _slower_again(run: TrainingRun) -> str:
    """What to do where losses or gradients are not finite, in a sentence without its full stop."""
    rate = run.spec.config.training.learning_rate / SLOWER
    kept, flag = run.checkpoints.kept
    flags = [flag, *(["--allow-changes"] if flag == "--resume" else []), "--set", f"training.learning_rate={rate:.2g}"]
    again = command("train", {"--out": str(run.folder)}, flags)
    return f"{kept} with a lower learning rate: `{again}`; or lower training.clip_norm, or train in fp32"


class LoaderDied(CompassError):  # noqa: N818 - it names what happened
    """A process that loads batches was ended from outside."""

    exit_code = 1

    def __init__(self, reason: str, run: TrainingRun) -> None:
        kept, flag = run.checkpoints.kept
        again = command("train", {"--out": str(run.folder)}, [flag])
        super().__init__(f"a process that loads batches has ended: {reason}. {kept} with `{again}`")


def run_training(spec: RunSpec, folder: Path, watch: Callable[[Progress], None] = lambda _: None) -> Results:
    """Train as `spec` says, in this process alone or as one of several; all files are written into `folder`.

    Raises:
        InputError: a setting cannot be used, or the disk is full or read-only.
        OutOfMemoryAgain: a batch does not fit, not even in its smallest parts.
        Diverged: the loss is not a finite number.
        NothingLearnt: no update had a finite loss and gradient.
        LoaderDied: a process that loads batches was ended from outside.
        RankLost: another process of the run has ended.
    """
    with one_line_for_disk_errors(folder):
        run = open_run(spec, folder)
        try:
            return _trained(run, watch)
        except (RuntimeError, OSError) as error:
            if is_lost(error, run):
                raise RankLost(run) from None
            raise


def _trained(run: TrainingRun, watch: Callable[[Progress], None]) -> Results:
    """The results of a run that has been opened."""
    spec = run.spec
    announce(run)
    callback = RunCallback(run, watch)
    resume(run, callback)
    trainer = lightning_trainer(spec, run.ranks, run.device, run.folder, callback)
    start_loggers(trainer, spec, {"predicted_batch_s": run.batch_s}, callback.at.n_updates)
    # The ceiling of the certificate: a batch that does not fit fails here, before the system runs short and kills a process.
    ceiling = run.meter.ceiling(spec.budget_of(run.ranks.rank))
    if spec.ceiling:
        ceiling.impose()
        callback.ceiling = ceiling
    try:
        if len(run.stream):
            _fit(run, trainer, callback)
    finally:
        ceiling.lift()
    if callback.signals.stop is None and callback.at.n_made == 0 < callback.at.n_updates:
        raise NothingLearnt(run, callback.at)
    return evaluate_run(run, callback)


def resume(run: TrainingRun, callback: RunCallback) -> None:
    """Continue from the newest checkpoint, if the run has one and `resume` is set.

    Raises:
        InputError: settings or the split have changed without `allow_changes`, or the weights do not fit the model.
    """
    content = run.checkpoints.newest() if run.spec.resume else None
    if content is None:
        return
    at = Progressed.model_validate_json(content["progressed"])
    if not run.spec.allow_changes:
        check_unchanged(run_spec_in(content), run.spec)
        check_split(at.split, run.data.split.digest)
    if at.best is not None and run.checkpoints.best() is None:
        log.warning("the best model so far is lost: the best one of the epochs from here on takes its place")
        at = at.model_copy(update={"best": None})
    callback.at = at.model_copy(update={"split": run.data.split.digest})
    callback.resumed = content
    load_weights(run.module.model, content)
    _set_position(run, callback, at)
    left = callback.display.left
    left_s = left.training_s(at.n_batches, at.elapsed_s) + left.evaluation_s()
    place = at.position.epoch + 1, at.position.batch + 1
    log.info("resuming at epoch %d, batch %d: %s left", *place, format_seconds(left_s))


def evaluate_run(run: TrainingRun, callback: RunCallback) -> Results:
    """The results of a run, with the best model's metrics beside the baselines'; the first rank writes them."""
    path = run.checkpoints.folder / BEST
    finished = callback.signals.stop is None
    best = run.checkpoints.best()
    if finished and best is not None:
        run.module.model.load_state_dict(best["model"])
    elif finished and path.exists():
        log.warning("the best model cannot be read: the model of the last update is evaluated")
    run.module.model.to(run.device)
    evaluations, verdict = _judged(run, callback, finished=finished)
    counts = run.module.updates.counts if run.module.updates else Counts()
    results = Results(
        finished=finished,
        stopped_by=0 if finished else callback.signals.stop or 0,
        at=callback.at,
        cycles=tuple(callback.cycles),
        evaluations=evaluations,
        verdict=verdict,
        split=counts.split,
        deferred=counts.deferred,
        out_of_memory=counts.out_of_memory,
        not_finite=callback.at.n_left_out,
        skipped=tuple(counts.skipped),
        checkpoint="" if best is None else str(path),
    )
    if run.ranks.rank == 0 and not callback.unwritten.reasons:  # else a run that is resumed would count as finished
        with callback.unwritten.going_on(RESULTS):
            write_text(json_with_checksum(results.model_dump(mode="json")), run.folder / RESULTS)
    return results.model_copy(update={"unwritten": tuple(callback.unwritten.reasons.items())})


def _set_position(run: TrainingRun, callback: RunCallback, at: Progressed) -> None:
    """Put the stream, the schedule, the cycles and the tables of a resumed run to `at`."""
    run.waiting = [(batch_of([name]), weight) for name, weight in at.waiting]
    run.module.n_updates_done = at.n_updates
    run.module.time_share = run.spec.amount.elapsed_share(at.elapsed_s)
    epoch, place = at.position
    run.stream.start = Position(epoch, place) if place < run.stream.per_epoch else Position(epoch + 1)
    callback.clock.number = at.n_batches // run.spec.config.cycle_batches
    # Batches after the checkpoint are trained again, and so is an epoch that its time cut short.
    if run.ranks.rank == 0:
        callback.clock.number = drop_rows(run.folder / CYCLES, "ends_at", at.n_batches, [[*Cycle.model_fields]])
        drop_rows(run.folder / EPOCHS, "epoch", run.stream.start.epoch, epoch_headers())


def _fit(run: TrainingRun, trainer: pl.Trainer, callback: RunCallback) -> None:
    """Train with Lightning; raise its errors as ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice is meant for code that configures it
            trainer.fit(run.module, loader(run.stream, run.workload, run.spec, run.ranks.rank))
    except (NonFiniteLoss, BrokenWeights) as error:
        raise Diverged(error, run, callback.at) from None
    except RuntimeError as error:
        if not (reason := reason_of_dead_loader(error)):
            raise
        if callback.signals.stop is None:
            raise LoaderDied(reason, run) from None
        raise SystemExit(128 + callback.signals.stop) from None  # the signal went to all processes
    except SystemExit as error:  # Lightning exits on a signal, with a code that does not name it
        number = signal_behind(error, callback.signals.stop)
        if number is None:
            raise
        raise SystemExit(128 + number) from None
    finally:
        end_loaders()


def signal_behind(error: SystemExit, stop: int | None) -> int | None:
    """The signal on which Lightning exits: `stop`, or one that came before the run listened itself; None if there was none.

    Without this, a SIGTERM before the first batch ended the run with code 0, as if it were finished.
    """
    from pytorch_lightning.utilities.exceptions import SIGTERMException

    if stop is None and isinstance(error, SIGTERMException):
        return signal.SIGTERM
    if stop is None and isinstance(error.__context__, KeyboardInterrupt):
        return signal.SIGINT
    return stop


def _judged(run: TrainingRun, callback: RunCallback, *, finished: bool) -> tuple[tuple[Evaluation, ...], RunVerdict]:
    """The evaluations of a run's model and of the baselines, and the verdict; a stopped run has neither."""
    n_updates = callback.at.n_made
    if not finished:
        return (), no_verdict(STOPPED, n_updates, run.spec.config.training.few_updates)
    evaluations, verdict = evaluate_last(run, n_updates, callback.unwritten, callback.display.show_last)
    for found in evaluations:
        log.debug("%s", found)
    log.debug("%s", verdict)
    return evaluations, verdict
