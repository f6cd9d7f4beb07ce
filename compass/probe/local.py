"""The runner of this machine: probes in worker processes, a lasting one to calibrate and fresh ones to certify."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from compass.device import device_of_rank
from compass.errors import WorkerError
from compass.optimizer_config import OptimizerConfig
from compass.probe.failures import classify_exit
from compass.probe.lazy_imports import Readiness
from compass.probe.process import WorkerDied, WorkerProcess, WorkerStartError, WorkerTimedOut
from compass.probe.ranks import RankPlace, ask_ranks
from compass.probe.side_by_side import SideBySide, is_of_memory
from compass.records import Description, Knobs, Outcome, ProbeSpec, RuntimeSettings, Status
from compass.temporary import TemporaryFolder

log = logging.getLogger(__name__)

SIGKILL = -9
"""Return code of a process that was killed; Windows has no such signal."""
PROBING: Readiness = "probing"
TRAINING: Readiness = "training"
DESCRIBE_TIMEOUT_S = 300.0
"""Enough to count the parameters of a whole space, for which each model is built once, without values."""


class LocalRunner:
    """Probes on this machine. The calling process builds no model and touches no accelerator."""

    def __init__(
        self,
        config: OptimizerConfig,
        runtime: RuntimeSettings,
        *,
        workload: str = "visnet",
        device: str | None = None,
        limit_bytes: int | None = None,
        n_ranks: int = 1,
    ) -> None:
        """`n_ranks` processes are to train together: on a CPU they share out the memory."""
        self._runtime = runtime
        self._opening: dict[str, Any] = {
            "workload": workload,
            "config": config.model_dump(mode="json"),
            "device": device,
            "limit_bytes": limit_bytes,
            "n_ranks": n_ranks,
        }
        self._lasting: dict[RuntimeSettings, WorkerProcess] = {}
        self._fresh: dict[RuntimeSettings, WorkerProcess] = {}
        """Started in advance, and not used yet."""
        self._n_ranks = n_ranks
        self._side_by_side: SideBySide | None = None
        """The accelerators of several ranks, while memory is probed on all of them."""

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine, the samples' loads, and the trainable parameters of `knobs`."""
        request = {"op": "describe", "knobs": [item.model_dump(mode="json") for item in knobs]}
        try:
            answer = self._started(self._lasting, self._runtime, "describing").ask(
                request, timeout_s=DESCRIBE_TIMEOUT_S
            )
        except (WorkerDied, WorkerTimedOut) as error:
            raise WorkerError(f"the worker could not describe itself: {error}") from error
        description = Description.model_validate(answer)
        if self._n_ranks > 1 and not description.hardware.on_host and self._side_by_side is None:
            first = description.hardware.device
            self._side_by_side = SideBySide(
                self._n_ranks, lambda spec, place: self._of_device(spec, device_of_rank(first, place)), _probe
            )
        return description

    def prepare(self, specs: Iterable[ProbeSpec]) -> None:
        """Start the workers for `specs` side by side, because each start takes seconds.

        Where there are several accelerators, probes of memory alone are begun on all of them.
        """
        specs = list(specs)
        if self._side_by_side is not None:
            self._side_by_side.begin(filter(is_of_memory, specs))
            specs = [spec for spec in specs if not is_of_memory(spec)]
        for spec in specs:
            if spec.ranks > 1:  # they run alone, so their workers start when it is their turn
                continue
            if not spec.fresh:
                self._alive(self._lasting, spec.runtime, "probing").send({"op": "load", "ready": "probing"})
            else:
                self._alive(self._fresh, spec.runtime, "training")
        for workers, ready in ((self._lasting, PROBING), (self._fresh, TRAINING)):
            for runtime in list(workers):
                self._started(workers, runtime, ready)

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Run `spec` in the lasting worker, or in a fresh one if it demands that; under a ceiling, no other worker runs."""
        if spec.ranks > 1:
            return self._probe_in_ranks(spec)
        if self._side_by_side is not None and (begun := self._side_by_side.take(spec)) is not None:
            return begun
        if not spec.fresh:
            return _probe(self._started(self._lasting, spec.runtime, PROBING), spec)
        if spec.ceiling_bytes is not None:
            self.close()  # beside an idle worker that held 2.5 GB, steps took a fifth longer
        worker = self._started(self._fresh, spec.runtime, TRAINING)
        try:
            return _probe(worker, spec)
        finally:
            self._fresh.pop(spec.runtime).kill()

    def _probe_in_ranks(self, spec: ProbeSpec) -> Outcome:
        """Run `spec` in as many fresh workers as it has ranks, each on a device of its own; no other worker runs."""
        self.close()
        folder, workers = TemporaryFolder(), list[WorkerProcess]()
        try:
            for rank in range(spec.ranks):
                place = RankPlace(rank=rank, n_ranks=spec.ranks, meeting=folder.path / "ranks")
                opening = self._opening | {"ready": TRAINING, "place": place.model_dump(mode="json")}
                workers.append(WorkerProcess(spec.runtime, opening, place.variables))
            for worker in workers:
                worker.wait()
            return ask_ranks(workers, lambda worker, rank: _probe(worker, spec.of_rank(rank)))
        finally:
            for worker in workers:
                worker.kill()
            folder.remove()

    def close(self) -> None:
        """End every worker."""
        if self._side_by_side is not None:
            self._side_by_side.end()
            self._side_by_side = None
        for workers in (self._lasting, self._fresh):
            for worker in workers.values():
                worker.kill()
            workers.clear()

    def _of_device(self, spec: ProbeSpec, device: str) -> WorkerProcess:
        """A worker under the settings of `spec` on one of several devices."""
        worker = WorkerProcess(spec.runtime, self._opening | {"ready": PROBING, "device": device})
        worker.wait()
        return worker

    def _alive(
        self, workers: dict[RuntimeSettings, WorkerProcess], runtime: RuntimeSettings, ready: Readiness
    ) -> WorkerProcess:
        """The worker of `runtime` in `workers`, started if there is none or if it has died."""
        worker = workers.get(runtime)
        if worker is None or not worker.is_alive:
            if worker is not None:
                worker.kill()
            worker = workers[runtime] = WorkerProcess(runtime, self._opening | {"ready": ready})
        return worker

    def _started(
        self, workers: dict[RuntimeSettings, WorkerProcess], runtime: RuntimeSettings, ready: Readiness
    ) -> WorkerProcess:
        """The worker of `runtime`, after it has started. One death on the way may be an accident, so that another is started.

        Raises:
            WorkerStartError: it died twice, was stopped or said nothing.
        """
        worker = self._alive(workers, runtime, ready)
        try:
            worker.wait()
        except WorkerStartError as error:
            if not isinstance(error.__cause__, WorkerDied):
                raise
            log.warning("%s; starting another", error)
            worker.kill()
            worker = self._alive(workers, runtime, ready)
            worker.wait()
        return worker


def _probe(worker: WorkerProcess, spec: ProbeSpec) -> Outcome:
    request = {"op": "probe", "spec": spec.model_dump(mode="json")}
    try:
        return Outcome.model_validate(worker.ask(request, timeout_s=spec.timeout_s))
    except WorkerTimedOut as error:
        return Outcome(status=Status.TIMED_OUT, detail=str(error), wall_s=spec.timeout_s)
    except WorkerDied as error:
        ceiling = spec.ceiling_bytes is not None
        status, detail = classify_exit(error.returncode, error.stderr_tail, ceiling=ceiling)
        # The kernel kills if the machine's memory runs out; a ceiling would have refused an allocation earlier.
        enforced = ceiling and error.returncode != SIGKILL
        footprint_bytes = worker.peak_footprint_bytes or None
        return Outcome(status=status, detail=detail, footprint_bytes=footprint_bytes, enforced=enforced)
