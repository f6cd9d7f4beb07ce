"""What a run logs before its first batch: the model, the data, the expected time and memory, and a warning of few updates."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING

from compass.records.nouns import counted, of_batch, of_data
from compass.training.time_plan import TimePlan, make_time_plan
from compass.units import format_bytes, format_count, format_seconds

if TYPE_CHECKING:
    from compass.training.build_run import TrainingRun

log = logging.getLogger(__name__)


def announce(run: TrainingRun) -> None:
    """Log what will be trained, and the expected time and memory; warn of few weight updates."""
    plan, stream, split = run.spec.plan, run.stream, run.data.split
    times = make_time_plan(run)
    log.info("%s: %s, %s parameters", plan.stage, plan.choice.knobs, format_count(plan.choice.capacity))
    n_train, n_val, n_test = map(len, (split.train, split.val, split.test))
    data = counted(n_train, of_data(run.spec.noun))
    log.info("%s for training, %d for validation, %d for test: %s", data, n_val, n_test, split.why)
    log.info(
        "%d batches per epoch%s, %.1f %s each, %d per update; learning rate %s",
        stream.per_epoch,
        f" on each of {run.ranks.n} ranks" if run.ranks.n > 1 else "",
        run.sampler.mean_graphs,
        of_batch(run.spec.noun),
        stream.accumulate,
        "as the model sets it" if run.module.has_own_optimizer else f"{run.module.base_rate:.2g}",
    )
    log.info("%s", expected_times(run, times))
    if warning := few_updates_warning(run, times):
        log.warning("%s", warning)


def expected_times(run: TrainingRun, times: TimePlan) -> str:
    """The expected time of an epoch, of a cycle and of the whole run with its parts, and the memory."""
    n_cycle = run.spec.config.cycle_batches
    parts = [f"{times.n_expected / n_cycle:.1f} cycles"]
    if times.n_validations:
        n = min(times.n_validations, math.ceil(times.n_expected / times.per_epoch))
        parts.append(f"{n} validations of {format_seconds(times.validation_s)}")
    if times.last_s:
        parts.append(f"{format_seconds(times.last_s + times.baselines_s)} for the last evaluation")
    per_process = " per process" if run.ranks.n > 1 else ""
    return (
        f"expected: {format_seconds(times.batch_s * times.per_epoch)} per epoch, {format_seconds(times.batch_s * n_cycle)} "
        f"per cycle of {n_cycle} batches, {format_seconds(times.total_s)} in all ({', '.join(parts)}), "
        f"at most {format_bytes(run.spec.budget_of(run.ranks.rank))} of memory{per_process}"
    )


def few_updates_warning(run: TrainingRun, times: TimePlan) -> str | None:
    """A warning if the run will make few weight updates, with the changes that would give enough; else None."""
    few, accumulate = run.spec.config.training.few_updates, run.stream.accumulate
    n_updates = max(1, round(run.stream.n_updates * times.n_expected / times.n_batches))
    if n_updates >= few:
        return None
    changes = [_longer(run, times, few / n_updates)]
    if accumulate > 1:
        fewer = max(1, math.floor(accumulate * n_updates / few))
        graphs = max(1, math.floor(fewer * run.sampler.mean_graphs * run.ranks.n))
        reached = round(times.n_expected / fewer)
        changes.append(f"a smaller effective batch (--set batch.effective_batch={graphs}: about {reached:,} updates)")
    count = "1 weight update" if n_updates == 1 else f"{n_updates:,} weight updates"
    graphs_per_update = run.sampler.mean_graphs * run.ranks.n * run.stream.n_batches / run.stream.n_updates
    return (
        f"only {count} in all, of {counted(graphs_per_update, of_batch(run.spec.noun))} each: a model learns little in fewer than {few:,} "
        f"(training.few_updates). What would change that: {' or '.join(changes)}"
    )


def _longer(run: TrainingRun, times: TimePlan, factor: float) -> str:
    """The limit of the run, `factor` times as far, as a flag."""
    amount = run.spec.amount
    if amount.max_time_s is not None and times.unlimited_s > amount.max_time_s:
        return f"more time (--max-time {math.ceil(amount.max_time_s * factor / 60)}min)"
    if amount.cycles is not None:
        return f"more cycles (--cycles {math.ceil(amount.cycles * factor)})"
    epochs = amount.epochs or run.spec.config.training.epochs
    return f"more epochs (--epochs {math.ceil(epochs * factor)})"
