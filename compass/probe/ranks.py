"""A probe of several ranks, as their parent sees it: one worker each, asked at the same time, and one outcome of all."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from compass.probe.process import WorkerProcess
from compass.records import Outcome, Record, Status

MOURNING_S = 5.0
"""Seconds that other ranks have to end by themselves after one has failed: their reason may be the first one."""
_LOST = re.compile(
    r"gloo.*(?:Connection (?:closed|reset) by peer|Timed out|Broken pipe|Connection refused|Socket closed)"
    r"|Connection (?:closed|reset) by peer"
    r"|NCCL (?:communicator was aborted|error)|ncclRemoteError|ncclSystemError|Watchdog caught collective operation timeout"
    r"|DistNetworkError|remote process has exited|Rank \d+ .*(?:failed|aborted)",
    re.IGNORECASE | re.DOTALL,
)
"""The words of gloo, NCCL and torch's store when the other end of a connection has gone."""


def names_lost_rank(text: str) -> bool:
    """Whether an error's `text` says that another rank has gone."""
    return _LOST.search(text) is not None


class RankPlace(Record):
    """The place of a worker among the ranks of a probe."""

    rank: int
    n_ranks: int
    meeting: Path
    """A file, not there yet, by which the ranks find each other."""
    budget_bytes: int = 0
    """Bytes that the process may hold in all, as the worker finds on its device."""

    @property
    def variables(self) -> dict[str, str]:
        """The environment that torchrun gives a rank, which user's code may read."""
        rank, n_ranks = str(self.rank), str(self.n_ranks)
        return {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n_ranks, "LOCAL_WORLD_SIZE": n_ranks}


def ask_ranks(
    workers: Sequence[WorkerProcess], ask: Callable[[WorkerProcess, int], Outcome], *, mourning_s: float = MOURNING_S
) -> Outcome:
    """The outcome of a probe by all `workers`, each asked by `ask` with its rank in a thread; no worker runs any more when this returns.

    Once one has failed, the others wait for it in vain. They are ended after `mourning_s`.
    """
    found: dict[int, Outcome] = {}
    with ThreadPoolExecutor(len(workers)) as pool:
        asked = {pool.submit(ask, worker, rank): rank for rank, worker in enumerate(workers)}
        try:
            _collect(asked, found, mourning_s)
        finally:
            for worker in workers:
                worker.end()
    return outcome_of_ranks([found.get(rank) for rank in range(len(workers))])


def _collect(asked: Mapping[Future[Outcome], int], found: dict[int, Outcome], mourning_s: float) -> None:
    """Put the outcomes into `found` by rank, until all have answered or the mourning for one that failed is over."""
    waiting, until_s = set(asked), None
    while waiting:
        left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
        done, waiting = wait(waiting, timeout=left_s, return_when=FIRST_COMPLETED)
        if not done:
            return
        found.update({asked[one]: one.result() for one in done})
        if until_s is None and not all(outcome.ok for outcome in found.values()):
            until_s = time.monotonic() + mourning_s


def outcome_of_ranks(outcomes: Sequence[Outcome | None]) -> Outcome:
    """One outcome of all ranks, in their order; None: it was ended because another had failed.

    Each figure is the worst rank's. Of failures, the one that explains the others.
    """
    failed = [(rank, one) for rank, one in enumerate(outcomes) if one is not None and not one.ok]
    if failed:
        rank, cause = min(failed, key=lambda pair: _rank_of_cause(pair[1]))
        return cause.model_copy(update={"detail": f"rank {rank} of {len(outcomes)}: {cause.detail}"})
    ended = [one for one in outcomes if one is not None]
    slowest = max(ended, key=lambda one: one.step.median_s if one.step else 0.0)
    worst = {name: _largest(ended, name) for name in _LARGEST}
    return slowest.model_copy(
        update={
            **worst,
            "segments": max(ended, key=lambda one: one.live_bytes or 0).segments,
            "enforced": all(one.enforced for one in ended),
            "ranks": tuple(one for outcome in ended for one in outcome.ranks),
            "others_cores": None,  # the other ranks are programs too
            "remarks": tuple(dict.fromkeys(text for one in ended for text in one.remarks)),
        }
    )


_LARGEST = (
    "live_bytes",
    "footprint_bytes",
    "baseline_bytes",
    "collate_s",
    "update_s",
    "sync_s",
    "latency_s",
    "joined_bytes",
    "left_bytes",
    "wall_s",
)
_CAUSES = (Status.OUT_OF_MEMORY, Status.CRASHED, Status.INVALID, Status.TIMED_OUT)
"""A rank that waits for one that has gone may time out."""


def _rank_of_cause(outcome: Outcome) -> tuple[bool, int]:
    return names_lost_rank(outcome.detail), _CAUSES.index(outcome.status)


def _largest(outcomes: Sequence[Outcome], name: str) -> float | None:
    """The largest value of a field; None where no rank has one."""
    values = [value for value in (getattr(one, name) for one in outcomes) if value is not None]
    return max(values, default=None)
