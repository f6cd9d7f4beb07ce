"""Samples into batches that fill a budget and never exceed it.

Notation: n samples of F sizes each (nodes, edges, …), D limits.

A batch's upper footprint is affine in its summed sizes in every segment, so that it stays within the budget if and only
if, in every segment,

    Σ_samples rate · sizes  ≤  (budget − baseline) / (ratio · (1 + margin)) − base

The right-hand side is room that the batch shares; what a sample takes of it is a number, its *share*. A cap on graphs and
a cap on the predicted seconds of a step are shares as well. A batch fits if its shares of no limit add up to more than 1.

Batches are filled one after another. Each begins with the samples that have waited longest, in the order given, as many
as fit; the last two of them are put back, and the pair among the next `window` samples (those two included) that leaves
least room takes their place. So the order stays nearly as it was, and few batches are left with room to spare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compass.errors import InputError
from compass.records import Affine, BytesLaw, Load
from compass.units import format_bytes

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

ROUNDING = 1e-9
"""Share of a limit that is left free, so that sums taken in another order round to no more than the limit."""
WINDOW = 32
"""Samples ahead that may be moved up: 528 pairs, of which the best leaves a fraction of a per cent."""


@dataclass(frozen=True)
class TimeLaw:
    """Seconds a step takes as a function of the load: launching kernels or the work, whichever is longer.

    step = (floor^power + (base + Σ per_unit · size)^power)^(1/power)
    """

    per_unit_s: tuple[tuple[str, float], ...]
    """(feature, seconds of work a unit of it costs)."""
    base_s: float = 0.0
    floor_s: float = 0.0
    power: float = 1.0

    @classmethod
    def of(cls, law: Affine | None) -> TimeLaw | None:
        """A plan's `step_law`, where it has one."""
        return None if law is None else cls(per_unit_s=law.per_unit, base_s=law.base)

    def step_s(self, load: Load) -> float:
        """Seconds at `load`."""
        work_s = self.base_s + sum(rate * load[name] for name, rate in self.per_unit_s)
        return float((self.floor_s**self.power + work_s**self.power) ** (1 / self.power))

    def work_within_s(self, step_s: float) -> float:
        """Seconds of work that leave a step at `step_s`; none if launching alone takes that long."""
        return float(max(0.0, step_s**self.power - self.floor_s**self.power) ** (1 / self.power))


@dataclass(frozen=True)
class Limits:
    """What every batch must keep to.

    Raises:
        InputError: not even an empty batch would keep to them, or they cannot be compared with sizes of `features`.
    """

    law: BytesLaw
    budget_bytes: float
    """Of the upper footprint."""
    features: tuple[str, ...] = ("nodes", "edges")
    """What the columns of sizes are."""
    max_graphs: int | None = None
    time_law: TimeLaw | None = None
    max_step_s: float | None = None

    def __post_init__(self) -> None:
        _check_features(self)
        empty = Load(graphs=0, sizes=tuple((name, 0.0) for name in self.features))
        fixed_bytes = self.law.upper_footprint(empty)
        if self.budget_bytes * (1 - ROUNDING) <= fixed_bytes:
            raise InputError(
                "budget_bytes", got=format_bytes(self.budget_bytes), fix="Raise the budget or choose a smaller model.",
                expected=f"more than the {format_bytes(fixed_bytes)} that the model takes without a graph",
            )  # fmt: skip
        if self.max_graphs is not None and self.max_graphs < 1:
            raise InputError("max_graphs", got=str(self.max_graphs), expected="at least 1", fix="Correct it.")
        if self.max_step_s is None:
            return
        if self.time_law is None:
            raise InputError(
                "time_law", got="nothing beside max_step_s", expected="a law that predicts seconds",
                fix="Give one, or leave max_step_s out.",
            )  # fmt: skip
        if self.max_step_s * (1 - ROUNDING) <= self.time_law.step_s(empty):
            raise InputError(
                "max_step_s", got=f"{self.max_step_s:.3g} s", fix="Raise it or choose a smaller model.",
                expected=f"more than the {self.time_law.step_s(empty):.3g} s that a step takes without a graph",
            )  # fmt: skip

    def shares(self, sizes: Floats) -> Floats:
        """(D, n) of each limit that samples of `sizes` (n, F) take; those that another one implies are left out.

        Where a rate is negative, as noise can make it, a share counts as 0: what fits must fit with a sample less.
        """
        rows = [self._segment(piece, sizes) for _, piece in self.law.segments]
        if self.max_graphs is not None:
            rows.append(np.full(len(sizes), 1 / (self.max_graphs + 0.5)))  # whole numbers do not round
        if self.time_law is not None and self.max_step_s is not None:
            law, step_s = self.time_law, self.max_step_s * (1 - ROUNDING)
            room_s = law.work_within_s(step_s) - law.base_s
            rows.append(sizes @ _rates(law.per_unit_s, self.features) / room_s)
        return _binding(np.maximum(np.array(rows), 0.0))

    def _segment(self, piece: Affine, sizes: Floats) -> Floats:
        """(n,) of the room above what `piece` takes without a graph."""
        law = self.law
        live_bytes = (self.budget_bytes * (1 - ROUNDING) - law.baseline_bytes) / law.footprint_ratio
        room_bytes = live_bytes / (1 + law.margin_share) - piece.base
        return np.asarray(sizes @ _rates(piece.per_unit, self.features) / room_bytes, dtype=np.float64)


def pack(sizes: Floats, order: Indices, limits: Limits, *, window: int = WINDOW) -> list[Indices]:
    """The samples that `order` names, as batches within `limits`; only the last may have much room left.

    Never more batches than plain filling in order would make.

    Args:
        sizes: (n, F), not negative.
        order: (m,) which samples, and in which order; each at most once.
        limits: what every batch keeps to.
        window: how many samples ahead may be moved up.

    Raises:
        ValueError: a sample exceeds the limits by itself.
    """
    shares = limits.shares(sizes)[:, order]
    too_large = (shares > 1).any(axis=0)
    if too_large.any():
        raise ValueError(f"{too_large.sum()} samples exceed the limits by themselves")
    plain = _fill_in_order(shares)
    topped_up = _fill_topped_up(shares, window)
    # Moving a sample up may spoil a later fit, so that nothing but counting shows which is better.
    return [order[batch] for batch in (topped_up if len(topped_up) <= len(plain) else plain)]


def levels(batches: list[Indices], shares: Floats) -> Floats:
    """(b,) how full each batch is: the largest sum of its `shares` (D, n) of a limit."""
    return np.array([shares[:, batch].sum(axis=1).max() for batch in batches])


def sit_out(batches: list[Indices], n_idle: int, epoch: int) -> tuple[list[Indices], Indices]:
    """`batches` without `n_idle` single samples, others in every epoch."""
    if n_idle <= 0:
        return batches, np.zeros(0, dtype=np.int64)
    single = sorted(
        (place for place, batch in enumerate(batches) if len(batch) == 1), key=lambda place: batches[place][0]
    )
    idle = {single[(epoch * n_idle + turn) % len(single)] for turn in range(n_idle)}
    return [b for place, b in enumerate(batches) if place not in idle], np.concatenate(
        [batches[place] for place in idle]
    )


def split(batches: list[Indices], n_batches: int, sizes: Floats) -> list[Indices]:
    """`n_batches` batches: those with most samples are halved, every other sample by size, until there are as many."""
    while len(batches) < n_batches:
        largest = max(range(len(batches)), key=lambda place: len(batches[place]))
        by_size = batches[largest][np.argsort(sizes[batches[largest]], kind="stable")]
        batches = [*batches[:largest], by_size[::2], *batches[largest + 1 :], by_size[1::2]]
    return batches


# ------------------------------------------------------------------------------------------------------ the inside


def _check_features(limits: Limits) -> None:
    needed = {name for _, piece in limits.law.segments for name, _ in piece.per_unit}
    if limits.time_law is not None:
        needed |= {name for name, _ in limits.time_law.per_unit_s}
    missing = sorted(needed - set(limits.features))
    if missing:
        raise InputError(
            "features", got=", ".join(limits.features) or "none", expected=f"{', '.join(missing)} among them",
            fix="Name the columns of the sizes as the law does.",
        )  # fmt: skip


def _rates(per_unit: tuple[tuple[str, float], ...], features: tuple[str, ...]) -> Floats:
    """(F,) in the order of the columns."""
    by_name = dict(per_unit)
    return np.array([by_name.get(name, 0.0) for name in features])


def _binding(shares: Floats) -> Floats:
    """The rows of `shares` (D, n) that no other row is at least as large as everywhere."""
    kept: list[Floats] = []
    for row in shares[np.argsort(-shares.sum(axis=1), kind="stable")]:  # whatever implies a row comes before it
        if not any((row <= other).all() for other in kept):
            kept.append(row)
    return np.array(kept)


def _fill_in_order(shares: Floats) -> list[Indices]:
    """Columns of `shares` (D, n) as batches: on until the next one does not fit."""
    filled, n, start = np.cumsum(shares, axis=1), shares.shape[1], 0
    batches = []
    while start < n:
        before = filled[:, start - 1] if start else np.zeros(len(filled))
        ends = [row.searchsorted(level + 1, side="right") for row, level in zip(filled, before, strict=True)]
        end = max(start + 1, int(min(ends)))
        batches.append(np.arange(start, end))
        start = end
    return batches


def _fill_topped_up(shares: Floats, window: int) -> list[Indices]:
    """Columns of `shares` (D, n) as batches, by the rule at the head of this file."""
    pairs = np.triu_indices(window + 1, 1)  # the last place stands for nothing: a pair with it is a single
    n, head, reach = shares.shape[1], 0, 2 * window
    waiting = np.arange(0)
    batches = []
    while len(waiting) or head < n:
        tail = min(n, head + max(0, reach - len(waiting)))
        waiting, head = np.concatenate([waiting, np.arange(head, tail)]), tail
        ahead = shares[:, waiting]
        filled = np.cumsum(ahead, axis=1)
        n_fitting = int(np.searchsorted(filled.max(axis=0), 1.0, side="right"))
        if n_fitting == len(waiting) and head < n:
            reach *= 2
            continue
        taken = np.zeros(len(waiting), dtype=bool)
        if n_fitting == len(waiting):
            taken[:] = True
        else:
            n_kept = max(1, n_fitting - 2)
            taken[:n_kept] = True
            taken[n_kept + _top_up(ahead[:, n_kept : n_kept + window], filled[:, n_kept - 1], pairs, window)] = True
        batches.append(waiting[taken])
        waiting = waiting[~taken]
    return batches


def _top_up(offered: Floats, level: Floats, pairs: tuple[Indices, Indices], window: int) -> Indices:
    """Which of `offered` (D, w) to add at `level` (D,): pairs or singles, each the fullest fit, until none fits."""
    candidates = np.full((len(offered), window + 1), np.inf)
    candidates[:, : offered.shape[1]] = offered
    candidates[:, window] = 0.0
    chosen: list[int] = []
    while (candidates[:, :window] <= (1 - level)[:, None]).all(axis=0).any():
        reached = candidates[:, pairs[0]] + candidates[:, pairs[1]] + level[:, None]
        fullest = reached.max(axis=0)
        best = int(np.where(fullest <= 1, fullest, -1).argmax())
        for place in (int(pairs[0][best]), int(pairs[1][best])):
            if place < window:
                chosen.append(place)
                candidates[:, place] = np.inf
        level = reached[:, best]
    return np.array(chosen, dtype=np.int64)
