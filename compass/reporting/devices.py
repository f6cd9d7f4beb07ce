"""What several devices do together, and what other numbers of them would buy."""

from __future__ import annotations

from compass.records import DevicesRow, StagePlan
from compass.records.nouns import counted, of_batch
from compass.reporting.figure import Table
from compass.reporting.words import rate, rate_unit, share
from compass.units import format_count, format_duration


def devices_words(plan: StagePlan, noun: str = "") -> str:
    """The ranks of a plan in a sentence; empty for one device. `noun` is the workload's."""
    ranks = plan.ranks
    if ranks is None:
        return ""
    where = f" on {counted(ranks.n_nodes, 'machines')}" if ranks.n_nodes > 1 else ""
    waiting = (
        ""
        if ranks.imbalance is None
        else f"; ranks wait {share(ranks.imbalance)} of their time for the slowest of them"
    )
    together = f"{counted(ranks.n_ranks, 'ranks')}{where} train {counted(ranks.global_batch, of_batch(noun))} in a step"
    return f"{together} at {share(ranks.efficiency)} of the throughput of as many single ones{waiting}"


def devices_table(plan: StagePlan, noun: str = "") -> Table:
    """What 1, 2, 4, 8 … devices buy for one plan; no rows for a plan of one device."""
    headers = ("devices", "batch", "of all", rate_unit(noun), "epoch", "efficiency", "imbalance", "from")
    return Table(headers, () if plan.ranks is None else tuple(_devices_row(row) for row in plan.ranks.devices))


def _devices_row(row: DevicesRow) -> tuple[str, ...]:
    return (
        format_count(row.n_devices),
        format_count(row.batch_size),
        format_count(row.global_batch),
        rate(row.throughput),
        format_duration(row.epoch_s),
        share(row.efficiency),
        "" if row.imbalance is None else share(row.imbalance),
        "a run" if row.is_measured else "prediction",
    )
