"""The check before every step: a batch that exceeds the free memory is cut into parts that fit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from compass.records import Batch, BytesLaw, Load

STALE_S = 0.1
"""How old a figure of free memory may be, in seconds. Asking the system takes 0.3 ms, which would slow steps of 20 ms."""
MISTRUST = 0.9
"""Factor on the budget after an out-of-memory: the law was off by some per cent, or another program took memory."""
RECOVERY = 1.005
"""Factor on the budget after every successful update: the whole budget is back after some twenty."""


class Guard:
    """Cuts batches to the free memory."""

    def __init__(
        self,
        law: BytesLaw,
        loads: Mapping[str, Load],
        budget_bytes: float,
        obtainable_bytes: Callable[[], float],
        least_batch: int = 1,
    ) -> None:
        """Describe the memory.

        Args:
            law: predicts the memory of the model that is trained.
            loads: the load of every sample, by id.
            budget_bytes: the largest footprint of this process.
            obtainable_bytes: returns the largest footprint that this process could reach now without touching the memory of
                other processes.
            least_batch: the fewest samples that the model can be trained on: two, if it normalises over a batch.
        """
        self._law, self._loads, self._budget_bytes = law, loads, budget_bytes
        self._obtainable_bytes, self._least_batch = obtainable_bytes, least_batch
        self._trust = 1.0
        self._asked_s, self._obtained_bytes = -math.inf, 0.0

    def available_bytes(self) -> float:
        """The largest upper footprint that a batch may have now."""
        if time.monotonic() - self._asked_s > STALE_S:
            self._obtained_bytes, self._asked_s = self._obtainable_bytes(), time.monotonic()
        return self._trust * min(self._budget_bytes, self._obtained_bytes)

    def needs_bytes(self, members: Sequence[str]) -> float:
        """The upper footprint of a batch of the samples `members`."""
        return self._law.upper_footprint(Load.total((self._loads[name], 1) for name in members))

    def parts(self, batch: Batch) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
        """(`batch`, halved as often as needed to fit, the smallest parts that do not fit even alone)."""
        available_bytes = self.available_bytes()
        members = [name for name, copies in batch.members for _ in range(copies)]
        if self.needs_bytes(members) <= available_bytes:
            return (batch,), ()
        fitting: list[Batch] = []
        beyond: list[Batch] = []
        waiting: list[Sequence[str]] = [members]
        while waiting:
            group = waiting.pop()
            if self.needs_bytes(group) <= available_bytes:
                fitting.append(batch_of(group))
            elif len(parts := self._halved(group)) == 1:
                beyond.append(batch_of(group))
            else:
                waiting += reversed(parts)
        return tuple(fitting), tuple(beyond)

    def smaller(self, batch: Batch) -> tuple[Batch, ...]:
        """`batch` in halves; whole, if these were smaller than the model can be trained on."""
        members = [name for name, copies in batch.members for _ in range(copies)]
        return tuple(batch_of(part) for part in self._halved(members))

    def _halved(self, members: Sequence[str]) -> list[Sequence[str]]:
        if len(members) < 2 * self._least_batch:
            return [members]
        middle = (len(members) + 1) // 2
        return [members[:middle], members[middle:]]

    def record(self, *, ok: bool) -> None:
        """Record whether an update succeeded: after an out-of-memory less of the budget is used for some time."""
        self._trust = min(1.0, self._trust * RECOVERY) if ok else self._trust * MISTRUST
        if not ok:
            self._asked_s = -math.inf


def batch_of(members: Sequence[str]) -> Batch:
    """A batch with each of `members` once."""
    return Batch(members=tuple((name, 1) for name in members))


def n_graphs(batch: Batch) -> int:
    """Samples in `batch`."""
    return sum(copies for _, copies in batch.members)
