"""The runner of this machine: probes in worker processes, one that lasts for calibrating, fresh ones for proof."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from compass.errors import WorkerError
from compass.optimizer_config import OptimizerConfig
from compass.probe.failures import classify_exit
from compass.probe.process import WorkerDied, WorkerProcess, WorkerTimedOut
from compass.records import Description, Knobs, Outcome, ProbeSpec, RuntimeSettings, Status

log = logging.getLogger(__name__)

DESCRIBE_TIMEOUT_S = 300.0
"""Counting the parameters of a whole space builds each model once, without memory."""


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
    ) -> None:
        self._runtime = runtime
        self._opening: dict[str, Any] = {
            "workload": workload,
            "config": config.model_dump(mode="json"),
            "device": device,
            "limit_bytes": limit_bytes,
        }
        self._lasting: dict[RuntimeSettings, WorkerProcess] = {}

    def describe(self, knobs: Iterable[Knobs] = ()) -> Description:
        """The machine, the samples' loads, and the trainable parameters of `knobs`."""
        request = {"op": "describe", "knobs": [item.model_dump(mode="json") for item in knobs]}
        worker = self._worker(self._runtime)
        try:
            return Description.model_validate(worker.ask(request, timeout_s=DESCRIBE_TIMEOUT_S))
        except (WorkerDied, WorkerTimedOut) as error:
            self._drop(worker)
            raise WorkerError(f"the worker could not describe itself: {error}") from error
        except BaseException:
            self._drop(worker)  # an answer that nobody waited for would be taken for the next one's
            raise

    def probe(self, spec: ProbeSpec) -> Outcome:
        """Run `spec` in the lasting worker, or in a fresh one if it asks for that."""
        worker = WorkerProcess(spec.runtime, self._opening) if spec.fresh else self._worker(spec.runtime)
        try:
            outcome = self._ask(worker, spec)
        except BaseException:
            self._drop(worker)
            raise
        if spec.fresh or outcome.status in (Status.TIMED_OUT, Status.CRASHED):
            self._drop(worker)
        return outcome

    def close(self) -> None:
        """End every worker."""
        for worker in list(self._lasting.values()):
            self._drop(worker)

    def _ask(self, worker: WorkerProcess, spec: ProbeSpec) -> Outcome:
        request = {"op": "probe", "spec": spec.model_dump(mode="json")}
        try:
            return Outcome.model_validate(worker.ask(request, timeout_s=spec.timeout_s))
        except WorkerTimedOut as error:
            return Outcome(status=Status.TIMED_OUT, detail=str(error), wall_s=spec.timeout_s)
        except WorkerDied as error:
            self._drop(worker)
            status, detail = classify_exit(error.returncode, error.stderr_tail, ceiling=spec.ceiling_bytes is not None)
            return Outcome(status=status, detail=detail, footprint_bytes=worker.peak_footprint_bytes)

    def _worker(self, runtime: RuntimeSettings) -> WorkerProcess:
        worker = self._lasting.get(runtime)
        if worker is not None and not worker.is_alive:  # killed while idle, which is no probe's fault
            self._drop(worker)
            worker = None
        if worker is None:
            worker = self._lasting[runtime] = WorkerProcess(runtime, self._opening)
        return worker

    def _drop(self, worker: WorkerProcess) -> None:
        worker.kill()
        self._lasting = {runtime: kept for runtime, kept in self._lasting.items() if kept is not worker}
