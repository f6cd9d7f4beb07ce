"""The simulator's truth about the memory of many batches, for `benchmarks.batching`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compass.probe.simulation import SimulatedRunner
from compass.records import Batch, BytesLaw, Knobs, Load, ProbeSpec, RuntimeSettings


@dataclass(frozen=True)
class Memory:
    """Outcome of many batches."""

    n_batches: int
    n_over_bound: int
    """Live bytes over the law's bound."""
    n_over_budget: int
    """Footprint of a fresh process that trains on the batch alone over the budget."""
    most_alone: float
    """The largest of these footprints, as a share of the budget."""
    fill: float
    """Their median."""
    in_a_row: float | None
    """Footprint of one process that trains on all of them, as a share of the budget; None: out of memory, or spilt."""

    @property
    def holds_in_a_row(self) -> bool:
        """Whether one process may train on all of them."""
        return self.in_a_row is not None and self.in_a_row <= 1


def in_a_row(
    knobs: Knobs, loads: Sequence[Load], runtime: RuntimeSettings, *, ceiling_bytes: int | None = None
) -> ProbeSpec:
    """One process that trains on all `loads` in order."""
    return ProbeSpec(
        knobs=knobs,
        batches=tuple(Batch(synthetic=load) for load in loads),
        min_steps=len(loads),
        max_steps=len(loads),
        profile=False,
        fresh=True,
        ceiling_bytes=ceiling_bytes,
        timeout_s=1e9,
        runtime=runtime,
    )


def check_memory(
    runner: SimulatedRunner, knobs: Knobs, law: BytesLaw, budget_bytes: int, loads: Sequence[Load]
) -> Memory:
    """Compare every batch's true memory with its predicted bound."""
    live = [runner.true_live_bytes(knobs, load) for load in loads]
    footprints = sorted(runner.true_footprint_bytes(knobs, load) for load in loads)
    outcome = runner.probe(in_a_row(knobs, loads, RuntimeSettings(threads=1)))
    return Memory(
        n_batches=len(loads),
        n_over_bound=sum(n > law.upper_live(load) for n, load in zip(live, loads, strict=True)),
        n_over_budget=sum(n > budget_bytes for n in footprints),
        most_alone=round(footprints[-1] / budget_bytes, 4),
        fill=round(footprints[len(footprints) // 2] / budget_bytes, 4),
        in_a_row=round(outcome.footprint_bytes / budget_bytes, 4) if outcome.ok and outcome.footprint_bytes else None,
    )
