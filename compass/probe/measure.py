"""One probe, in the worker: build the model once, time its steps until they settle, then profile one more."""

from __future__ import annotations

import gc
import time
from contextlib import nullcontext
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from compass.device import Others
from compass.errors import NonFiniteLoss
from compass.optimizer_config import TrainingRules
from compass.probe.counting import count_parameters
from compass.probe.failures import classify
from compass.probe.segments import profiled_step
from compass.probe.settle import is_settled, step_time
from compass.records import Load, Outcome, ProbeSpec, Status
from compass.workloads.building import build
from compass.workloads.step import evaluation_step, make_optimizer, on_device, training_step, update

if TYPE_CHECKING:
    from compass.device import Ceiling, Meter
    from compass.records import Batch
    from compass.workloads.protocol import Workload

WARM_STEPS = 2
"""The first allocates the optimizer's state, the second is the first with it."""
N_UPDATES = 5
"""Timed alone."""
KEPT_LOSSES = 3
"""Of the first steps, to compare with another run's."""


def measure(
    spec: ProbeSpec,
    workload: Workload,
    device: str,
    meter: Meter,
    *,
    seed: int,
    training: TrainingRules = TrainingRules(),  # noqa: B008 - frozen
) -> Outcome:
    """Run the training steps that `spec` asks for on `device`. What goes wrong is in the outcome.

    Raises:
        CeilingTooLow: the ceiling is below what the worker already holds.
    """
    started = time.perf_counter()
    meter.reset_peak()
    baseline_bytes = meter.footprint_bytes()
    ceiling = meter.ceiling(spec.ceiling_bytes) if spec.ceiling_bytes is not None else None
    trial = Trial(spec, workload, device, meter, seed, training)
    enforced = False
    try:
        with ceiling or nullcontext():
            enforced = ceiling is not None and ceiling.enforced
            trial.run_steps(ceiling)
        # Outside the ceiling: on a CPU the profiler itself takes room.
        segments = trial.profile() if spec.profile else ()
    except Exception as error:  # noqa: BLE001 - whatever a configuration does is its outcome
        status, detail = classify(error, ceiling=ceiling is not None)
        del error
        # A file name that is not text comes as half a surrogate pair, which has no JSON.
        detail = detail.encode(errors="backslashreplace").decode()
        outcome = Outcome(status=status, detail=detail, load=trial.load)
    else:
        outcome = trial.outcome(segments)
    n_steps, footprint_bytes = trial.n_steps, trial.footprint_bytes
    try:
        footprint_bytes = footprint_bytes or meter.footprint_bytes()
        trial.release()
        if not outcome.ok and ceiling is not None:
            # Where others hold what the ceiling would have allowed, it was not the ceiling that held it back.
            enforced = enforced and meter.obtainable_bytes() >= ceiling.ceiling_bytes
    except Exception:
        if outcome.ok:
            raise
        # A failed kernel poisons its device for the whole process: what it did is known, the rest cannot be asked any more.
    return outcome.model_copy(
        update={
            "enforced": enforced,
            "baseline_bytes": baseline_bytes,
            # Untouched memory may have been given back meanwhile; what was held at the start was held.
            "footprint_bytes": max(baseline_bytes, footprint_bytes),
            "n_steps": n_steps,
            "wall_s": time.perf_counter() - started,
        }
    )


class Trial:
    """The state of one probe: a model, its optimizer and the times of its steps."""

    def __init__(
        self, spec: ProbeSpec, workload: Workload, device: str, meter: Meter, seed: int, training: TrainingRules
    ) -> None:
        self._spec, self._workload, self._device, self._meter = spec, workload, device, meter
        self._seed, self._training = seed, training
        self._model: torch.nn.Module | None = None
        self._optimizer: Any = None
        self._batch: Any = None
        self.load: Load | None = None
        """Of the present batch; before there is one, of the first."""
        self.n_steps = 0
        self.step_s: list[float] = []
        """Of the steps on the last batch's load, once warm."""
        self._collate_s: list[float] = []
        """Of every batch of real samples."""
        self.losses: list[float] = []
        """Of every step."""
        self.update_s: float | None = None
        self.left_bytes: int | None = None
        """By the profiled step."""
        self.others_cores: float | None = None
        """During the steps."""
        self.footprint_bytes = 0
        """The peak of all steps, once they are done; without the profiler's."""

    def run_steps(self, ceiling: Ceiling | None = None) -> None:
        """Every batch once, in order, then the last until its time has settled; all under `ceiling`, if there is one."""
        spec = self._spec
        sequence = spec.sequence
        loads = [self._workload.load(batch) for batch in sequence]
        self.load = loads[0]
        torch.manual_seed(self._seed)
        with torch.device(self._device):
            self._model = build(self._workload, spec.knobs).train()
        self._optimizer = make_optimizer(self._model, spec.knobs.variant, self._training)
        n_warm = min(WARM_STEPS, spec.min_steps - 1)
        n_least = max(spec.min_steps, len(sequence))
        n_most = max(spec.max_steps, n_least)
        held: Batch | None = None
        others = Others()
        while self.n_steps < n_most:
            index = min(self.n_steps, len(sequence) - 1)
            if self.n_steps == len(spec.batches) - 1:
                held = self._evaluate(spec.evaluated) or held
            if sequence[index] != held:
                held, self.load = sequence[index], loads[index]
                self._hold(held)
            step_s = self._timed_step()
            if ceiling is not None and self.n_steps <= WARM_STEPS:
                ceiling.tighten()
            if self.n_steps > n_warm and self.load == loads[-1]:
                self.step_s.append(step_s)
            if self.n_steps >= n_least and is_settled(step_time(self.step_s), spec.settle_share):
                break
        self.others_cores = others.cores()
        self.footprint_bytes = self._meter.footprint_bytes()
        if spec.fresh:
            self.update_s = self._timed_update()

    def profile(self) -> tuple[tuple[str, int], ...]:
        """One more step of the last batch, with each segment's peak of live bytes."""
        assert self._model is not None  # noqa: S101 - run_steps() built it
        if self._spec.timed is not None:
            self._hold(self._spec.batches[-1])
        blocks = self._workload.blocks(self._model)
        seen = profiled_step(self._step, self._model, blocks, self._optimizer, self._batch, self._meter)
        self.n_steps += 1
        self.left_bytes = seen.left_bytes
        return seen.segments

    def outcome(self, segments: tuple[tuple[str, int], ...]) -> Outcome:
        """What was found, for a probe that ran to its end."""
        load, timed_load = self.load, None
        if self._spec.timed is not None:
            load, timed_load = self._workload.load(self._spec.batches[-1]), self.load
        if self._meter.spilled():
            return Outcome(
                status=Status.OUT_OF_MEMORY, detail="spilled: more was reserved than the device has", load=load
            )
        assert self._model is not None  # noqa: S101 - run_steps() built it
        live_bytes = max((n_bytes for _, n_bytes in segments), default=self._meter.peak_live_bytes())
        return Outcome(
            status=Status.OK,
            load=load,
            timed_load=timed_load,
            parameters=count_parameters(self._model),
            step=step_time(self.step_s),
            live_bytes=live_bytes,
            segments=segments,
            collate_s=median(self._collate_s) if self._collate_s else None,
            update_s=self.update_s,
            losses=tuple(self.losses[:KEPT_LOSSES]),
            left_bytes=self.left_bytes,
            others_cores=self.others_cores,
        )

    def release(self) -> None:
        """Let go of every tensor."""
        self._model = self._optimizer = self._batch = None
        gc.collect()
        self._meter.empty_cache()

    def _hold(self, batch: Batch) -> None:
        """Put `batch` on the device; never two of them at once."""
        self._batch = None
        started = time.perf_counter()
        collated = self._workload.collate(batch)
        if batch.members:
            self._collate_s.append(time.perf_counter() - started)
        self._batch = on_device(collated, self._device)

    def _evaluate(self, batches: tuple[Batch, ...]) -> Batch | None:
        """The loss of each of `batches` without gradients; the one that is held when it is done."""
        assert self._model is not None  # noqa: S101 - run_steps() built it
        for batch in batches:
            self._hold(batch)
            evaluation_step(self._workload, self._model, self._batch, self._spec.knobs.variant)
        return batches[-1] if batches else None

    def _step(self) -> float:
        assert self._model is not None  # noqa: S101 - run_steps() built it
        variant = self._spec.knobs.variant
        return training_step(self._workload, self._model, self._optimizer, self._batch, variant, self._training)

    def _timed_update(self) -> float:
        """Median seconds of what a step spends on the weights alone: training, which gathers batches, spends it on one in several."""
        assert self._model is not None  # noqa: S101 - run_steps() built it
        took_s = []
        for _ in range(N_UPDATES):
            self._meter.synchronize()
            started = time.perf_counter()
            self._optimizer.zero_grad(set_to_none=False)
            update(self._model, self._optimizer, self._training)
            self._meter.synchronize()
            took_s.append(time.perf_counter() - started)
        return median(took_s)

    def _timed_step(self) -> float:
        self._meter.synchronize()
        started = time.perf_counter()
        try:
            self.losses.append(self._step())
        except NonFiniteLoss as error:
            error.add_note(f"at step {self.n_steps}")
            raise
        self._meter.synchronize()
        step_s = time.perf_counter() - started
        self.n_steps += 1
        if self.n_steps <= WARM_STEPS:
            self._meter.sample()
        return step_s
