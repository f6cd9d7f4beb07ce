"""The simulator's truth about the memory of many batches, for `benchmarks.batching`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compass.probe.simulation import SimulatedRunner
from compass.probe.simulation.allocator import CachingAllocator
from compass.probe.simulation.memory import _Process
from compass.records import BytesLaw, Knobs, Load


class RefusedError(Exception):
    """Not even an empty cache leaves room."""


class Forgiving(CachingAllocator):
    """Under a limit, as PyTorch behaves: when the device refuses a segment, the cache is emptied and it tries again.

    The simulator's own allocator takes the first refusal for the end, which is right for a proof of one batch; batches of
    ever other sizes fill the cache with segments that fit none of the others.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__()
        self.limit_bytes = limit_bytes
        self.n_emptied = 0

    def _reserve(self, size: int, *, small: bool) -> int:
        block = super()._reserve(size, small=small)
        if self.reserved > self.limit_bytes:
            self.n_emptied += 1
            for pool in (self._small, self._large):
                whole = [(n, b) for n, b in pool if self._before[b] == self._after[b]]  # no neighbours on either side
                for n_bytes, idle in whole:
                    pool.remove((n_bytes, idle))
                    self._is_free[idle] = False
                    self.reserved -= n_bytes
        if self.reserved > self.limit_bytes:
            raise RefusedError
        return block


@dataclass(frozen=True)
class Memory:
    """What became of so many batches."""

    n_batches: int
    n_over_bound: int
    """Live bytes over the law's bound."""
    n_over_budget: int
    """Footprint of a fresh process that trains on the batch alone over the budget."""
    n_refused: int
    """In one process for all of them, though the cache was emptied."""
    n_emptied: int
    """Steps in that process for which the cache was emptied."""
    largest_footprint: float
    """Of a fresh process, as a share of the budget."""


def check_memory(
    runner: SimulatedRunner, knobs: Knobs, law: BytesLaw, budget_bytes: int, loads: Sequence[Load]
) -> Memory:
    """Compare every batch's true memory with what was promised of it."""
    machine = runner.machine
    live = [runner.true_live_bytes(knobs, load) for load in loads]
    footprints = [runner.true_footprint_bytes(knobs, load) for load in loads]
    process = _Process(knobs, machine.cublas_workspace_bytes, "requested")
    cache = process.memory = Forgiving(budget_bytes - machine.context_bytes)
    for n_bytes in process.weights:
        cache.malloc(n_bytes)
    n_refused = n_emptied = 0
    for load in loads:
        before = cache.n_emptied
        try:
            process.step((load.graphs, round(load["nodes"]), round(load["edges"])))
        except RefusedError:
            n_refused = len(loads)  # what comes after is anybody's guess: nothing is proven
            break
        n_emptied += cache.n_emptied > before
    return Memory(
        n_batches=len(loads),
        n_over_bound=sum(n > law.upper_live(load) for n, load in zip(live, loads, strict=True)),
        n_over_budget=sum(n > budget_bytes for n in footprints),
        n_refused=n_refused,
        n_emptied=n_emptied,
        largest_footprint=max(footprints) / budget_bytes,
    )
