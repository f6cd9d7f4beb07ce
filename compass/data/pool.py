"""Worker processes that may die: a death costs one task and no other."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import chain, islice
from multiprocessing import active_children, get_context, parent_process
from typing import Any, TypeVar

from compass.errors import WorkerError
from compass.interrupts import interrupts_wait

T = TypeVar("T")
R = TypeVar("R")

CHUNK = 8
"""Tasks per message to a worker: few, because after a death they are repeated one by one."""
LOOK_S = 5.0
"""Interval at which a pool that gives no result is looked at."""
_MOST_WORKERS = 61
"""Windows cannot wait for more processes at once."""

_work: dict[str, Callable[[Any], Any]] = {}
"""The function of this worker process."""


def each(
    work: Callable[[T], R], tasks: Iterable[T], *, n_workers: int, died: Callable[[T], R]
) -> Generator[list[tuple[T, R]]]:
    """Yield lists of (task, result) in the order of completion, from `n_workers` processes.

    When a process dies, all tasks under way are lost, and the one that caused it is unknown. They are repeated one by one;
    `died` gives the result of a task that ends its process again.

    Args:
        work: function of a task, pickled once per process.
        tasks: drawn as they are needed, so their number is unlimited.
        n_workers: processes.
        died: gives the result for a task that ends its process; called in this process.

    Raises:
        WorkerError: processes do not start.
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
    """Yield results until the tasks run out or a process dies; the tasks under way go to `suspects`."""
    under_way: dict[Future[list[R]], tuple[T, ...]] = {}
    with _pool(work, n_workers) as pool:
        while True:
            # Only a little ahead of the workers: waiting tasks use memory and are lost together.
            while not suspects and len(under_way) < n_workers + 2 and (chunk := next(chunks, None)):
                try:
                    under_way[_submit(pool, _do, chunk)] = chunk
                except BrokenProcessPool:
                    suspects += chunk
            if not under_way:
                return
            for future in _first_done(pool, under_way):
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
                    future = _submit(pool, _do, (task,))
                    _first_done(pool, [future])
                    (result,) = future.result()
                except BrokenProcessPool:
                    yield [(task, died(task))]
                    break
                yield [(task, result)]


def _first_done(pool: ProcessPoolExecutor, futures: Iterable[Future[Any]]) -> set[Future[Any]]:
    """The futures that are done, at least one.

    A process that is killed while it writes a result leaves a part of it in the pipe. The pool then waits for the rest for ever,
    because the other processes, and this one, hold the pipe open.
    """
    while True:
        done, _ = wait(futures, timeout=LOOK_S, return_when=FIRST_COMPLETED)
        if done:
            return done
        processes = list((pool._processes or {}).values())  # noqa: SLF001 - nothing public tells
        if any(process.exitcode is not None for process in processes):
            for process in processes:
                process.kill()
            with suppress(OSError):
                pool._result_queue._writer.close()  # type: ignore[attr-defined]  # noqa: SLF001


def _require_start(pool: ProcessPoolExecutor) -> None:
    """Check that a process starts, so that a later death is caused by a task."""
    try:
        _submit(pool, os.getpid).result()
    except BrokenProcessPool:
        raise WorkerError(
            "worker processes: got one that ended before its first task; expected it to start. Its messages are above."
        ) from None


@contextmanager
def _pool(work: Callable[[T], R], n_workers: int) -> Iterator[ProcessPoolExecutor]:
    others = set(active_children())
    pool = ProcessPoolExecutor(n_workers, get_context("spawn"), _begin, (work,))
    try:
        yield pool
    except BaseException:
        for process in set(active_children()) - others:  # an interrupt does not wait for tasks that may hang
            process.terminate()
        raise
    finally:
        _end(pool)


def _end(pool: ProcessPoolExecutor) -> None:
    """Let the processes of `pool` end.

    An idle process waits for its next task with a lock in its hand. If it is killed now, the others never learn that they should
    end, and the pool would wait for them for ever.
    """
    processes = list((pool._processes or {}).values())  # noqa: SLF001 - nothing public tells
    thread: threading.Thread | None = getattr(pool, "_executor_manager_thread", None)
    pool.shutdown(wait=False, cancel_futures=True)
    while thread is not None and thread.is_alive():
        thread.join(LOOK_S)
        if any(process.exitcode for process in processes):
            for process in processes:
                process.kill()


def _submit(pool: ProcessPoolExecutor, call: Callable[..., R], *given: Any) -> Future[R]:
    """Give `pool` a call, for which it may start another process."""
    with interrupts_wait(), _nameless_script():
        return pool.submit(call, *given)


@contextmanager
def _nameless_script() -> Iterator[None]:
    """Let processes that start in the block not run the user's script again.

    They would, to find what was defined in it, and a script without `if __name__ == "__main__":` would start processes again. Our
    work is defined in this package.
    """
    script = vars(sys.modules["__main__"])
    names: dict[str, Any] = {name: script[name] for name in ("__spec__", "__file__") if name in script}
    script.update(dict.fromkeys(names))
    try:
        yield
    finally:
        script.update(names)


def _begin(work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # where it cannot be kept away
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    _work["work"] = work


def _end_with_the_parent() -> None:
    """End this process when the parent is killed: otherwise it waits on the pool's pipes for ever."""
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(tasks: tuple[Any, ...]) -> list[Any]:
    return [_work["work"](task) for task in tasks]
