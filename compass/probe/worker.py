"""The worker process: `python -m compass.probe.worker` answers requests, one JSON line each, until its input ends.

Answers go to the pipe that was its standard output. After the start, standard output is standard error, so that a model may
print; the parent keeps the end of it. The first request opens the workload and the device.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import traceback
from typing import IO, TYPE_CHECKING, Any

from compass.device import detect, device_of_rank, fingerprint, meter_for, n_alike, resolve, shared_out
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.probe.lazy_imports import Readiness, defer, holds, load_deferred
from compass.probe.ranks import RankPlace
from compass.probe.runtime import describe_runtime
from compass.probe.side_effects import count_forks, leak_remarks, watched
from compass.records import Description, Knobs, ProbeSpec, digest

if TYPE_CHECKING:
    from compass.device import Meter
    from compass.workloads.protocol import Workload


class Worker:
    """One workload on one device."""

    def __init__(  # noqa: PLR0913 - the first request has all
        self,
        *,
        workload: str,
        config: dict[str, Any],
        device: str | None,
        limit_bytes: int | None,
        n_ranks: int = 1,
        place: dict[str, Any] | None = None,
        ready: Readiness = "describing",
    ) -> None:
        """Open them; `place` is that of this process among the ranks of a probe, of `n_ranks` that share out a CPU's memory."""
        from compass.workloads.defaults import family_of, micro_batches, samples_of
        from compass.workloads.registry import FAMILIES, load_workload

        if workload in FAMILIES:
            defer()
        self._config = OptimizerConfig.model_validate(config)
        self._workload = load_workload(workload, self._config)
        self._place = None if place is None else RankPlace.model_validate(place)
        self._device = device_of_rank(resolve(device), 0 if self._place is None else self._place.rank)
        reserve_share = self._config.memory.reserve_share
        hardware = detect(self._device, limit_bytes=limit_bytes, reserve_share=reserve_share)
        self._hardware = shared_out(hardware, n_ranks)
        if self._place is not None:
            self._place = self._place.model_copy(update={"budget_bytes": self._hardware.budget_bytes})
        self._samples = samples_of(self._workload)
        self._family = family_of(self._workload)
        self._micro_batches = micro_batches(self._workload, self._samples)
        self._meter = meter_for(self._device, self._hardware)
        self._loaded: Readiness = "describing"
        self.is_spent = False
        """Whether a failed kernel has made the device unusable for this process."""
        self.load(ready)

    def describe(self, knobs: list[dict[str, Any]]) -> str:
        """The `Description` of machine, samples and `knobs`, as JSON."""
        from compass.probe.counting import count_unfilled

        self._meter.reset_peak()
        known = fingerprint(self._hardware, _digest(self._workload, self._config))
        return Description(
            fingerprint=known.model_copy(update={"runtime": tuple(describe_runtime().items())}),
            hardware=self._hardware,
            features=self._workload.features,
            baseline_bytes=self._meter.footprint_bytes(),
            samples=tuple(self._samples.items()),
            parameters=tuple((one, count_unfilled(self._workload, one)) for one in map(Knobs.model_validate, knobs)),
            family=self._family,
            n_devices=n_alike(self._device),
            micro_batches=self._micro_batches,
        ).model_dump_json()

    def probe(self, spec: dict[str, Any]) -> str:
        """The `Outcome` of `spec`, as JSON."""
        from compass.probe.measure import measure

        rules, remarks, asked = self._config, list[str](), ProbeSpec.model_validate(spec)
        self.load("training" if asked.fresh else "probing")
        with watched(remarks):
            outcome = measure(
                asked,
                self._workload,
                self._device,
                self._meter,
                seed=rules.seed,
                training=rules.training,
                place=self._place,
            )
        self.is_spent = not outcome.ok and _is_unusable(self._meter)
        remarks += leak_remarks(outcome.left_bytes)
        return outcome.model_copy(update={"remarks": tuple(remarks)}).model_dump_json()

    def load(self, ready: Readiness) -> str:
        """Load all modules for the level `ready`. Returns `null`, as JSON."""
        if not holds(self._loaded, ready):
            load_deferred()
            if ready == "training":  # a fresh worker's footprint must include the 80 MiB that training holds
                import pytorch_lightning  # noqa: F401 - takes three seconds, which a lasting worker saves
            self._loaded = ready
            _freeze()
        return "null"


def _digest(workload: Workload, config: OptimizerConfig) -> str:
    """The workload's digest, with what else changes its step."""
    return workload.digest if config.training.keep_gradients else digest(workload.digest, "gradients are dropped")


def _is_unusable(meter: Meter) -> bool:
    """Whether the device no longer answers this process."""
    try:
        meter.synchronize()
    except Exception:  # noqa: BLE001 - each device has errors of its own
        return True
    return False


def _freeze() -> None:
    """Exclude all loaded objects from garbage collection, which runs after every probe."""
    gc.collect()
    gc.freeze()


def serve(requests: IO[str], answers: IO[str]) -> None:
    """Answer every line of `requests` with a line in `answers`: `{"ok": …, "last": …}`, `{"bad_input": …}` or `{"error": …}`.

    `last` is true if this worker cannot run another probe: the parent must replace it.
    """
    worker: Worker | None = None
    for line in requests:
        request = json.loads(line)
        operation = request.pop("op")
        try:
            if operation == "open":
                worker, answer = Worker(**request), json.dumps(describe_runtime())
            else:
                answer = getattr(worker, operation)(**request)
            text = f'{{"ok": {answer}, "last": {json.dumps(worker is not None and worker.is_spent)}}}'
        except InputError as error:
            fields = {"where": error.where, "got": error.got, "expected": error.expected, "fix": error.fix}
            text = json.dumps({"bad_input": fields})
        except Exception:  # noqa: BLE001 - the parent decides, and must not wait for an answer in vain
            text = json.dumps({"error": traceback.format_exc()})
        answers.write(text + "\n")
        answers.flush()


def _die_with_parent() -> None:
    """Make Linux kill this process when its parent ends, for whatever reason.

    To be exact, when the thread that started it ends (prctl(2)): a runner must be used from one thread.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


def main() -> None:
    """Make the two pipes private and serve."""
    _die_with_parent()
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with open(os.devnull, encoding="utf-8") as nothing:  # noqa: PTH123 - for its descriptor
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    if hasattr(os, "register_at_fork"):
        count_forks()
        # A child that a model forks must neither answer in this process's place nor keep the pipe open after its end.
        os.register_at_fork(after_in_child=requests.close)
        os.register_at_fork(after_in_child=answers.close)
    serve(requests, answers)


if __name__ == "__main__":
    main()
