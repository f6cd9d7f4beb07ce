"""Before every step: whether the batch fits what is free now, and what to do if it does not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence

from compass.records import Affine, Batch, BytesLaw, Load

STALE_S = 0.1
"""How long ago "now" may be: asking the system takes 0.3 ms, which steps of 20 ms would notice."""
MISTRUST = 0.9
"""What is left of the budget after an out-of-memory: the law was wrong by some per cent, or something else took the room."""
RECOVERY = 1.005
"""Growth with every update that goes well: the whole budget is back after some twenty."""


class Guard:
    """Cuts batches to what is free."""

    def __init__(
        self, law: BytesLaw, loads: Mapping[str, Load], budget_bytes: float, obtainable_bytes: Callable[[], float]
    ) -> None:
        """Watch over a budget.

        Args:
            law: the memory of the model that is trained.
            loads: of every sample.
            budget_bytes: what the process may hold in all.
            obtainable_bytes: what it could hold in all right now, others' memory left alone.
        """
        self._law, self._loads, self._budget_bytes = law, loads, budget_bytes
        self._obtainable_bytes = obtainable_bytes
        self._trust = 1.0
        self._asked_s, self._obtained_bytes = -math.inf, 0.0

    def room_bytes(self) -> float:
        """What a batch's upper footprint may be now."""
        if time.monotonic() - self._asked_s > STALE_S:
            self._obtained_bytes, self._asked_s = self._obtainable_bytes(), time.monotonic()
        return self._trust * min(self._budget_bytes, self._obtained_bytes)

    def needs_bytes(self, members: Sequence[str]) -> float:
        """The upper footprint of a batch of these samples."""
        return self._law.upper_footprint(Load.total((self._loads[name], 1) for name in members))

    def parts(self, batch: Batch) -> tuple[tuple[Batch, ...], tuple[Batch, ...]]:
        """`batch` in as few halves of halves as fit, and the single samples that do not fit by themselves."""
        room_bytes = self.room_bytes()
        members = [name for name, copies in batch.members for _ in range(copies)]
        if self.needs_bytes(members) <= room_bytes:
            return (batch,), ()
        fitting: list[Batch] = []
        beyond: list[Batch] = []
        waiting = [members]
        while waiting:
            group = waiting.pop()
            if self.needs_bytes(group) <= room_bytes:
                fitting.append(batch_of(group))
            elif len(group) == 1:
                beyond.append(batch_of(group))
            else:
                waiting += halves(group)
        return tuple(fitting), tuple(beyond)

    def tell(self, *, ok: bool) -> None:
        """How an update went."""
        self._trust = min(1.0, self._trust * RECOVERY) if ok else self._trust * MISTRUST
        if not ok:
            self._asked_s = -math.inf


def halves(members: Sequence[str]) -> list[list[str]]:
    """The second half, then the first, as a stack takes them."""
    middle = (len(members) + 1) // 2
    return [list(members[middle:]), list(members[:middle])]


def batch_of(members: Sequence[str]) -> Batch:
    """Every sample once."""
    return Batch(members=tuple((name, 1) for name in members))


def n_graphs(batch: Batch) -> int:
    """Samples in `batch`."""
    return sum(copies for _, copies in batch.members)


def with_buckets(law: BytesLaw, capacity: int) -> BytesLaw:
    """`law` with a second copy of the gradients, as DDP holds one while it sorts them into buckets."""
    held = 4.0 * capacity
    segments = tuple((name, Affine(base=piece.base + held, per_unit=piece.per_unit)) for name, piece in law.segments)
    return law.model_copy(update={"segments": segments})
