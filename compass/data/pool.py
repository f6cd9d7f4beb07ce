"""Worker processes that may die: one that does costs the task it was at, not the others."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import chain, islice
from multiprocessing import active_children, get_context, parent_process
from typing import Any, TypeVar

from compass.errors import WorkerError

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 8
"""Tasks that travel together: few enough to lose little time when they must be done again one by one."""
_MOST_WORKERS = 61
"""Windows waits for no more at once."""

_work: dict[str, Callable[[Any], Any]] = {}
"""What this process, a worker, is here for."""


def each(
    work: Callable[[T], R], tasks: Iterable[T], *, n_workers: int, died: Callable[[T], R]
) -> Generator[list[tuple[T, R]]]:
    """(task, its result), some at a time and as they come, from `n_workers` processes.

    A process that dies takes all tasks under way with it, and does not say which one it was at. They are then done again
    one by one; for the one that its process dies of again, `died` gives the result.

    Args:
        work: what is done with a task, pickled once for each process.
        tasks: drawn as they are needed, so that there may be any number.
        n_workers: processes.
        died: the result for a task that brings its process down, called in this process.

    Raises:
        WorkerError: processes do not even start.
    """
    chunks = _chunks(tasks)
    while first := next(chunks, None):
        suspects: list[T] = []
        yield from _together(work, chain((first,), chunks), min(n_workers, _MOST_WORKERS), suspects)
        yield from _one_by_one(work, suspects, died)


def _chunks(tasks: Iterable[T]) -> Iterator[tuple[T, ...]]:
    source = iter(tasks)
    while chunk := tuple(islice(source, CHUNK)):
        yield chunk


def _together(
    work: Callable[[T], R], chunks: Iterator[tuple[T, ...]], n_workers: int, suspects: list[T]
) -> Iterator[list[tuple[T, R]]]:
    """Results until the tasks run out or a process dies; what was under way by then goes to `suspects`."""
    under_way: dict[Future[list[R]], tuple[T, ...]] = {}
    with _pool(work, n_workers) as pool:
        while True:
            # A little ahead of the workers, and no more: what waits is held in memory, and lost together.
            while not suspects and len(under_way) < n_workers + 2 and (chunk := next(chunks, None)):
                try:
                    under_way[pool.submit(_do, chunk)] = chunk
                except BrokenProcessPool:
                    suspects += chunk
            if not under_way:
                return
            done, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for future in done:
                chunk = under_way.pop(future)
                try:
                    results = future.result()
                except BrokenProcessPool:
                    suspects += chunk
                else:
                    yield list(zip(chunk, results, strict=True))


def _one_by_one(work: Callable[[T], R], tasks: Iterable[T], died: Callable[[T], R]) -> Iterator[list[tuple[T, R]]]:
    left = deque(tasks)
    while left:
        with _pool(work, 1) as pool:
            _require_start(pool)
            while left:
                task = left.popleft()
                try:
                    (result,) = pool.submit(_do, (task,)).result()
                except BrokenProcessPool:
                    yield [(task, died(task))]
                    break
                yield [(task, result)]


def _require_start(pool: ProcessPoolExecutor) -> None:
    """Make sure that it is the task's fault when a process dies."""
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool:
        raise WorkerError(
            "worker processes: got one that ended before it was given anything; expected it to start. Look above for its "
            'own words; a script that starts them needs `if __name__ == "__main__":` around what it does.'
        ) from None


@contextmanager
def _pool(work: Callable[[T], R], n_workers: int) -> Iterator[ProcessPoolExecutor]:
    others = set(active_children())
    pool = ProcessPoolExecutor(n_workers, get_context("spawn"), _begin, (work,))
    try:
        yield pool
    except BaseException:
        for process in set(active_children()) - others:  # an interrupt does not wait for what may be hanging
            process.terminate()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(work: Callable[[Any], Any]) -> None:
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the parent decides what ends
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _work["work"] = work


def _end_with_the_parent() -> None:
    """Ends this process when the parent is killed: the pool's pipes alone would keep it waiting for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(tasks: tuple[Any, ...]) -> list[Any]:
    return [_work["work"](task) for task in tasks]
