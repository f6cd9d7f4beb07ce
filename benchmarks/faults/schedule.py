"""How many faults of which kind happen to which command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.faults.kinds import Kind
from benchmarks.faults.targets import (
    Optimize,
    OptimizeToy,
    OptimizeViSNet,
    Scan,
    Target,
    Train,
    TrainLoaders,
    TrainRanks,
)

MOUNTED = ("disk full", "read-only")
"""Kinds that need the right to mount disks."""


SHARES: Mapping[type[Target], int] = {
    Train: 44,
    TrainLoaders: 24,
    Optimize: 36,
    OptimizeToy: 9,
    TrainRanks: 9,
    OptimizeViSNet: 4,
    Scan: 389,
}
"""Of 515 faults, in the order in which they happen. A fault of a scan takes a second, one of two ranks most of a minute."""
QUICK: tuple[type[Target], ...] = (Optimize, Train, Scan)


def planned(
    n_faults: int, chosen: Sequence[Kind], *, only: Sequence[str] = (), quick: bool = False
) -> Iterator[tuple[type[Target], dict[Kind, int]]]:
    """For each command the kinds that can happen to it, each with a number of faults; in all about `n_faults`."""
    targets = [one for one in (QUICK if quick else SHARES) if not only or any(word in one.name for word in only)]
    whole = sum(SHARES[one] for one in targets)
    for target in targets:
        possible = [kind for kind in chosen if suits(target, kind)]
        share = round(n_faults * SHARES[target] / whole)
        each, more = divmod(share, max(1, len(possible)))
        wanted = {kind: each + (place < more) for place, kind in enumerate(possible)}
        if any(wanted.values()):
            yield target, {kind: n for kind, n in wanted.items() if n}


def suits(target: type[Target], kind: Kind) -> bool:
    """Whether a kind of fault can happen to a command, and says something that another command does not say quicker."""
    if kind.signal:
        return kind.whom == "parent" or target.has_children
    return not target.is_slow
