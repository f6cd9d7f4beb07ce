"""The story of a training run: open, announce, go on from where it was, train, judge."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from compass.data.structures.structure_file import StructureError
from compass.errors import CompassError, NonFiniteLoss
from compass.profile import write_text
from compass.records import Progress, Record
from compass.training.build_run import TrainingRun, announce, open_run
from compass.training.checkpoints import (
    BEST,
    Progressed,
    check_split,
    check_unchanged,
    read_checkpoint,
    run_spec_in,
    take_weights,
)
from compass.training.cycle_report import CYCLES, Cycle, CycleClock, drop_rows
from compass.training.evaluation import Evaluation, Predictor, baselines_of, evaluate
from compass.training.guard import batch_of
from compass.training.ledger_feedback import LedgerFeedback, may_teach, teach_out_of_memory
from compass.training.memory_warmup import warm_up_memory
from compass.training.module import Module
from compass.training.ranks import lightning_trainer, start_loggers
from compass.training.run_callback import EPOCHS, RunCallback
from compass.training.run_spec import RunSpec
from compass.training.stream import Position, loader
from compass.training.updates import Updates

if TYPE_CHECKING:
    import pytorch_lightning as pl

log = logging.getLogger(__name__)

RESULTS = "results.json"


class Diverged(CompassError):  # noqa: N818 - it names what happened
    """The loss is not a number or infinite."""

    exit_code = 3

    def __init__(self, value: float, at: Progressed) -> None:
        super().__init__(
            f"the loss became {value} in epoch {at.position.epoch + 1}, after {at.n_updates:,} updates. Checkpoints are kept: "
            "lower training.learning_rate or training.clip_norm, or train in fp32"
        )


class Results(Record):
    """What came of a run."""

    finished: bool
    """False if it was asked to stop."""
    stopped_by: int = 0
    """The signal that asked."""
    at: Progressed
    cycles: tuple[Cycle, ...]
    evaluations: tuple[Evaluation, ...]
    """The best model on every part, and the baselines beside it."""
    split: int
    """Batches that were cut to fit."""
    deferred: int
    out_of_memory: int
    skipped: tuple[str, ...]
    checkpoint: str


def train(spec: RunSpec, folder: Path, watch: Callable[[Progress], None] = lambda _: None) -> Results:
    """Train what `order` says, in this process or as one of several; everything goes into `folder`.

    Raises:
        InputError: something in the order cannot be used.
        OutOfMemoryAgain: a batch does not fit, not even in halves.
        Diverged: the loss is not a number or infinite.
    """
    run = open_run(spec, folder)
    announce(run)
    callback = make_run_callback(run, watch)
    go_on(run, callback)
    trainer = lightning_trainer(spec, run.ranks, run.device, run.folder, callback)
    start_loggers(trainer, {"promised_step_s": run.batch_s}, callback.at.n_updates)
    # As certificates have it: what does not fit fails here and is dealt with, before the system kills somebody.
    ceiling = run.meter.ceiling(spec.budget_bytes)
    if spec.ceiling:
        ceiling.impose()
        callback.ceiling = ceiling
    try:
        if len(run.stream):
            fit(run, trainer, callback)
    finally:
        ceiling.lift()
    return judge(run, callback)


# ----------------------------------------------------------------------------------------------------------- training


def make_run_callback(run: TrainingRun, watch: Callable[[Progress], None]) -> RunCallback:
    """What follows the run."""
    teacher = LedgerFeedback(run) if may_teach(run) else None
    return RunCallback(
        spec=run.spec,
        folder=run.folder,
        module=run.module,
        meter=run.meter,
        device=run.device,
        load_of=lambda item: item.batch.load(run.data.loads),
        clock=CycleClock(run.batch_s, run.bound_bytes, run.spec.config.cycle_batches),
        checkpoints=run.checkpoints,
        evaluate=partial(evaluate_part, run, "val"),
        watch=watch,
        n_batches=run.stream.n_batches,
        place=partial(make_updates, run),
        warm_up_memory=partial(warm_up_largest, run, teacher),
        learn=teacher.tell if teacher else None,
        at=Progressed(split=run.data.split.digest),
    )


def warm_up_largest(run: TrainingRun, teacher: LedgerFeedback | None, updates: Updates) -> None:
    """Run the largest batch before the first; what the process then holds is because of it."""
    if warm_up_memory(updates, run.largest, run.device) and teacher is not None:
        teacher.fullest = run.largest, run.largest.load(run.data.loads)


def make_updates(run: TrainingRun, module: Module) -> Updates:
    """What turns batches into weight updates, once the module is on its device."""
    several = run.ranks.n > 1
    return Updates(
        workload=run.workload,
        model=module.model,
        optimizer=module.optimizer,
        variant=run.spec.plan.choice.knobs.variant,
        rules=run.spec.config.training,
        device=str(module.device),
        guard=run.guard,
        backward=module.manual_backward if several else torch.Tensor.backward,
        alone=module.alone,
        several_processes=several,
        empty_cache=run.meter.empty_cache,
        waiting=run.waiting,
        ran_out=partial(teach_out_of_memory, run) if may_teach(run) else None,
    )


def go_on(run: TrainingRun, callback: RunCallback) -> None:
    """Start from the newest checkpoint, if the run has one and may."""
    content = run.checkpoints.newest() if run.spec.resume else None
    if content is None:
        return
    split, callback.at = callback.at.split, Progressed.model_validate_json(content["progressed"])
    if not run.spec.allow_changes:
        check_unchanged(run_spec_in(content), run.spec)
        check_split(callback.at.split, split)
    callback.at = callback.at.model_copy(update={"split": split})
    callback.resumed = content
    run.waiting = [(batch_of([name]), weight) for name, weight in callback.at.waiting]
    take_weights(run.module.model, content)
    run.module.n_updates_done = callback.at.n_updates
    run.module.time_share = run.spec.amount.gone(callback.at.elapsed_s)
    epoch, place = callback.at.position
    run.stream.start = Position(epoch, place) if place < run.stream.per_epoch else Position(epoch + 1)
    callback.clock.number = callback.at.n_batches // run.spec.config.cycle_batches
    if run.ranks.rank == 0:  # what came after the checkpoint is done again
        drop_rows(run.folder / CYCLES, "number", callback.clock.number)
        drop_rows(run.folder / EPOCHS, "updates", callback.at.n_updates)
    log.info("going on at epoch %d, batch %d", callback.at.position.epoch + 1, callback.at.position.batch + 1)


def fit(run: TrainingRun, trainer: pl.Trainer, callback: RunCallback) -> None:
    """Hand everything to Lightning."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's advice is for those who configure it
            trainer.fit(run.module, loader(run.stream, run.workload, run.spec, run.ranks.rank))
    except NonFiniteLoss as error:
        raise Diverged(error.value, callback.at) from None
    except SystemExit:  # Lightning's answer to an interrupt, whichever signal it was
        if callback.signals.stop is None:
            raise
        raise SystemExit(128 + callback.signals.stop) from None


# ------------------------------------------------------------------------------------------------------------ judging


def evaluate_part(run: TrainingRun, part: str) -> Evaluation | None:
    """The model as it is on one part of the data; every rank its share, if they are there. None if nothing can be said."""
    ids = getattr(run.data.split, part)
    if not ids or not run.data.labels or not hasattr(run.workload, "predict"):
        return None
    predictor = Predictor(
        workload=run.workload,
        guard=run.guard,
        loads=run.data.loads,
        max_graphs=run.spec.plan.choice.batch_size,
        variant=run.spec.plan.choice.knobs.variant,
        device=run.device,
    )
    answers = predictor.predict(run.module.model, run.ranks.share(ids))
    return evaluate(part, run.ranks.gathered(answers), run.data.labels)


def beside(run: TrainingRun) -> tuple[Evaluation, ...]:
    """What needs no model; nothing, where the ligands cannot be read any more."""
    try:
        return baselines_of(run.data)
    except StructureError as error:
        log.warning("no baselines to compare with: %s", error)
        return ()


def judge(run: TrainingRun, callback: RunCallback) -> Results:
    """The best model on every part, beside what needs no model; written by the first rank."""
    best = run.checkpoints.folder / BEST
    finished = callback.signals.stop is None
    if finished and best.exists():
        run.module.model.load_state_dict(read_checkpoint(best)["model"])
    run.module.model.to(run.device)
    judged = [evaluate_part(run, part) for part in ("train", "val", "test")] if finished else []
    found = [item for item in judged if item is not None]
    updates = run.module.updates
    counts = updates.counts if updates else None
    results = Results(
        finished=finished,
        stopped_by=0 if finished else callback.signals.stop or 0,
        at=callback.at,
        cycles=tuple(callback.cycles),
        evaluations=(*found, *(beside(run) if found and run.ranks.rank == 0 else ())),
        split=counts.split if counts else 0,
        deferred=counts.deferred if counts else 0,
        out_of_memory=counts.out_of_memory if counts else 0,
        skipped=tuple(counts.skipped) if counts else (),
        checkpoint=str(best if best.exists() else ""),
    )
    if run.ranks.rank == 0:
        write_text(results.model_dump_json(indent=2) + "\n", run.folder / RESULTS)
    return results
