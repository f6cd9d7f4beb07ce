"""Probes of memory alone, made by several devices of one kind at once, before they are asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue

from compass.errors import WorkerError
from compass.probe.process import WorkerProcess
from compass.records import Outcome, ProbeSpec, RuntimeSettings


def is_of_memory(spec: ProbeSpec) -> bool:
    """Whether no time is read from `spec`, so that it may run beside others: it makes one step in a lasting process."""
    return spec.max_steps == 1 and not spec.fresh and spec.ceiling_bytes is None and spec.ranks == 1


class SideBySide:
    """Runs probes on several devices at once, with a worker process on each, and keeps an outcome until it is asked for."""

    def __init__(
        self,
        n_devices: int,
        start: Callable[[ProbeSpec, int], WorkerProcess],
        ask: Callable[[WorkerProcess, ProbeSpec], Outcome],
    ) -> None:
        """`start` starts a worker for a spec on the device of a place below `n_devices`; `ask` has it run the spec."""
        self._start, self._ask = start, ask
        self._pool = ThreadPoolExecutor(n_devices)
        self._idle: SimpleQueue[int] = SimpleQueue()
        for place in range(n_devices):
            self._idle.put(place)
        self._workers: dict[tuple[int, RuntimeSettings], WorkerProcess] = {}
        self._asked: dict[str, Future[Outcome | None]] = {}

    def begin(self, specs: Iterable[ProbeSpec]) -> None:
        """Let the devices run `specs`, in this order."""
        for spec in specs:
            if spec.key not in self._asked:
                self._asked[spec.key] = self._pool.submit(self._made, spec)

    def take(self, spec: ProbeSpec) -> Outcome | None:
        """The outcome of a spec that was begun, once it is there; None: it was not, or its device had no worker for it."""
        future = self._asked.pop(spec.key, None)
        outcome = None if future is None else future.result()
        if not self._asked:
            self._end_workers()  # beside idle workers, certificates would have less memory
        return outcome

    def end(self) -> None:
        """End all workers; what was begun and not taken is lost."""
        for future in self._asked.values():
            future.cancel()
        self._end_workers()
        for future in self._asked.values():
            with contextlib.suppress(CancelledError):
                future.result()
        self._asked.clear()
        self._end_workers()
        self._pool.shutdown()

    def _made(self, spec: ProbeSpec) -> Outcome | None:
        place = self._idle.get()
        try:
            worker = self._workers.get((place, spec.runtime))
            if worker is None or not worker.is_alive:
                worker = self._workers[place, spec.runtime] = self._start(spec, place)
            return self._ask(worker, spec)
        except WorkerError:
            return None
        finally:
            self._idle.put(place)

    def _end_workers(self) -> None:
        while self._workers:
            self._workers.popitem()[1].kill()
