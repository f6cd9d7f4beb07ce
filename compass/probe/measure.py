"""One probe, in the worker: build the model once, time its steps until they settle, then profile one more step."""

from __future__ import annotations

import gc
import math
import time
from contextlib import nullcontext, suppress
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

from compass.device import OtherPrograms
from compass.errors import NonFiniteLoss, Overflow
from compass.optimizer_config import TrainingRules
from compass.probe.counting import count_parameters
from compass.probe.failures import classify
from compass.probe.own_tensors import OwnTensors
from compass.probe.rank_group import Alone, RankGroup
from compass.probe.segments import ProfiledStep, profiled_step
from compass.probe.settle import N_WARM_STEPS, after_warming, is_settled, step_time
from compass.records import Load, Outcome, ProbeSpec, RankFigures, Status
from compass.workloads.building import build
from compass.workloads.optimizers import make_optimizer
from compass.workloads.step import evaluation_step, has_own_step, on_device, training_step, update

if TYPE_CHECKING:
    from collections.abc import Sequence

    from compass.device import Ceiling, Meter
    from compass.probe.ranks import RankPlace
    from compass.records import Batch
    from compass.workloads.protocol import Workload

N_UPDATES = 5
"""Weight updates that are timed alone."""
N_EXCHANGES = 21
"""Exchanges of a single number whose time is taken."""
N_SYNCS = 4
"""Pairs of steps that show the time of averaging gradients."""
N_LOSSES = 3
"""Losses that an outcome keeps, of the first steps: enough to compare two runs."""


def measure(  # noqa: PLR0913 - each varies on its own
    spec: ProbeSpec,
    workload: Workload,
    device: str,
    meter: Meter,
    *,
    seed: int,
    training: TrainingRules = TrainingRules(),  # noqa: B008 - frozen
    place: RankPlace | None = None,
) -> Outcome:
    """Run the training steps of `spec` on `device`. A failure of the configuration is an outcome, not an exception.

    `place` is that of this process among the ranks of `spec`; None: it is alone.

    Raises:
        CeilingTooLow: the ceiling is below what the worker already holds.
    """
    started = time.perf_counter()
    meter.reset_peak()
    baseline_bytes = meter.footprint_bytes()
    ceiling = meter.ceiling(spec.ceiling_bytes) if spec.ceiling_bytes is not None else None
    trial = Trial(spec, workload, device, meter, seed, training, place)
    outcome, enforced = _attempt(trial, ceiling, profile=spec.profile)
    footprint_bytes, enforced = _end(trial, meter, ceiling, has_failed=not outcome.ok, enforced=enforced)
    return outcome.model_copy(
        update={
            "enforced": enforced,
            "baseline_bytes": baseline_bytes,
            # Memory that was never touched may have been given back since; at the start the process did hold it.
            "footprint_bytes": max(baseline_bytes, footprint_bytes),
            "n_steps": trial.n_steps,
            "wall_s": time.perf_counter() - started,
        }
    )


def _attempt(trial: Trial, ceiling: Ceiling | None, *, profile: bool) -> tuple[Outcome, bool]:
    """All steps of `trial`, and whether `ceiling` was enforced for those that are timed.

    The profiled step runs outside the ceiling, because on a CPU the profiler itself takes memory.
    """
    enforced = False
    try:
        with ceiling or nullcontext():
            enforced = ceiling is not None and ceiling.enforced
            trial.run_steps(ceiling)
        segments = trial.profile() if profile else ()
    except Exception as error:  # noqa: BLE001 - every failure of a configuration is an outcome
        status, detail = classify(error, ceiling=ceiling is not None)
        # A file name that is not text arrives with half a surrogate pair, which JSON cannot hold.
        detail = detail.encode(errors="backslashreplace").decode()
        return Outcome(status=status, detail=detail, load=trial.load), enforced
    return trial.outcome(segments), enforced


def _end(trial: Trial, meter: Meter, ceiling: Ceiling | None, *, has_failed: bool, enforced: bool) -> tuple[int, bool]:
    """The peak footprint of `trial`, whose tensors are released, and whether the ceiling was the limit that held.

    If other programs hold the memory that the ceiling would have allowed, a failure is not the ceiling's.
    A failed kernel makes the device unusable for the whole process: then the figures so far are returned.
    """
    footprint_bytes = trial.footprint_bytes
    try:
        footprint_bytes = footprint_bytes or meter.footprint_bytes()
        trial.release()
        if has_failed and ceiling is not None:
            enforced = enforced and meter.obtainable_bytes() >= ceiling.ceiling_bytes
    except Exception:
        if not has_failed:
            raise
    return footprint_bytes, enforced


class Trial:
    """The state of one probe: a model, its optimizer, the batch on the device, and the measurements so far."""

    def __init__(  # noqa: PLR0913, PLR0917 - all that a probe depends on
        self,
        spec: ProbeSpec,
        workload: Workload,
        device: str,
        meter: Meter,
        seed: int,
        training: TrainingRules,
        place: RankPlace | None = None,
    ) -> None:
        self._place = place
        self._ranks = Alone()
        self._shared: Any = workload
        """The workload, whose loss has the mean gradient of all ranks."""
        self._spec, self._workload, self._device, self._meter = spec, workload, device, meter
        self._seed, self._training = seed, training
        self._model: torch.nn.Module | None = None
        self._optimizer: Any = None
        self._own_tensors = OwnTensors() if has_own_step(workload) else None
        self._held: Batch | None = None
        """The batch on the device, as the spec names it."""
        self._batch: Any = None
        """The same, as the model takes it."""
        self.load: Load | None = None
        """Load of the present training batch; before the first step, of the first batch."""
        self.n_steps = 0
        self.step_s: list[float] = []
        """Times of the steps with the last batch's load, after warm-up."""
        self._collate_s: list[float] = []
        """Times to collate each batch of real samples."""
        self.losses: list[float] = []
        self.update_s: float | None = None
        self.sync_s: float | None = None
        self.latency_s: float | None = None
        self.joined_bytes: int | None = None
        self.alone_s: float | None = None
        """Median time of steps without averaging gradients."""
        self.left_bytes: int | None = None
        """Live bytes that the profiled step left behind."""
        self.others_cores: float | None = None
        """Cores that other programs kept busy during the steps."""
        self.footprint_bytes = 0
        """Peak over all steps but the profiled one, once they are done."""

    def run_steps(self, ceiling: Ceiling | None = None) -> None:
        """Run each batch once, in order, then the last one until its time has settled; all under `ceiling`, if given."""
        spec = self._spec
        loads = [self._workload.load(batch) for batch in spec.sequence]
        self.load = loads[0]
        self._build()
        n_warm = min(N_WARM_STEPS, spec.min_steps - 1)
        n_least = max(spec.min_steps, len(loads))
        n_most = max(spec.max_steps, n_least)
        others = OtherPrograms()
        while self.n_steps < n_most:
            self._take_batch(loads)
            step_s = self._timed_step()
            if ceiling is not None and self.n_steps <= N_WARM_STEPS:
                ceiling.tighten()
            if self.n_steps > n_warm and self.load == loads[-1]:
                self.step_s.append(step_s)
            if self.n_steps >= n_least and self._ranks.all(
                is_settled(step_time(after_warming(self.step_s)), spec.settle_share)
            ):
                break
        self._ranks.check_weights(self._built)
        self.others_cores = others.busy_cores()
        self.footprint_bytes = self._meter.footprint_bytes()
        if (spec.fresh or spec.batches[-1].members) and not has_own_step(self._workload):
            self.update_s = self._timed_update()
        if spec.ranks > 1 and spec.ceiling_bytes is None:
            self.latency_s = self._timed_latency()
            self.sync_s = max(self.latency_s, self._timed_sync())

    def profile(self) -> tuple[tuple[str, int], ...]:
        """One more step of the last of the spec's batches: (segment, its peak of live bytes)."""
        if self._spec.timed is not None:
            self._hold(self._spec.batches[-1])
        seen = self._profiled_step()
        if not self._ranks.all(
            not seen.left_bytes
        ):  # the profiler misses what is freed of memory from before it started; now it knows all of it
            seen = self._profiled_step()
        self.left_bytes = seen.left_bytes
        return seen.segments

    def outcome(self, segments: tuple[tuple[str, int], ...]) -> Outcome:
        """The outcome of a probe that ran to its end."""
        load, timed_load = self.load, None
        if self._spec.timed is not None:
            load, timed_load = self._workload.load(self._spec.batches[-1]), self.load
        if self._meter.spilled():
            return Outcome(
                status=Status.OUT_OF_MEMORY, detail="spilled: more was reserved than the device has", load=load
            )
        live_bytes = max((n_bytes for _, n_bytes in segments), default=self._meter.peak_live_bytes())
        return Outcome(
            status=Status.OK,
            load=load,
            timed_load=timed_load,
            parameters=count_parameters(self._built),
            step=step_time(after_warming(self.step_s)),
            live_bytes=live_bytes,
            segments=segments,
            collate_s=median(self._collate_s) if self._collate_s else None,
            update_s=self.update_s,
            sync_s=self.sync_s,
            latency_s=self.latency_s,
            joined_bytes=self.joined_bytes,
            ranks=self._own_figures(),
            losses=tuple(loss for loss in self.losses[:N_LOSSES] if math.isfinite(loss)),
            left_bytes=self.left_bytes,
            others_cores=self.others_cores,
        )

    def _own_figures(self) -> tuple[RankFigures, ...]:
        """This rank alone; nothing without ranks."""
        if self._place is None:
            return ()
        return (RankFigures(device=self._device, budget_bytes=self._place.budget_bytes, alone_s=self.alone_s),)

    def release(self) -> None:
        """Drop every tensor and empty the allocator's cache."""
        self._model = self._optimizer = self._batch = self._held = None
        self._shared, self._ranks = self._workload, Alone()
        if self._spec.knobs.variant.compiled:
            torch.compiler.reset()  # else the ninth model in this process would run uncompiled, without a word
        gc.collect()
        self._meter.empty_cache()

    @property
    def _built(self) -> torch.nn.Module:
        assert self._model is not None  # noqa: S101 - run_steps() builds it first
        return self._model

    def _build(self) -> None:
        """Build the model on the device, with its optimizer."""
        if self._own_tensors is not None:
            self._own_tensors.note()
        if self._place is not None:  # before the model, whose memory would hide what the meeting takes
            before_bytes = self._meter.footprint_bytes()
            self._ranks = RankGroup(self._place, self._device)
            self.joined_bytes = max(0, self._meter.footprint_bytes() - before_bytes)
        torch.manual_seed(self._seed)
        with torch.device(self._device):
            self._model = build(self._workload, self._spec.knobs).train()
        if self._place is not None:
            self._shared = self._ranks.share(self._workload, self._model)
        self._optimizer = make_optimizer(self._workload, self._model, self._spec.knobs.variant, self._training)

    def _take_batch(self, loads: Sequence[Load]) -> None:
        """Hold the next step's batch; before the last of the spec's batches, evaluate.

        `loads` are those of the spec's sequence. An evaluation leaves its last batch on the device.
        """
        if self.n_steps == len(self._spec.batches) - 1:
            for evaluated in self._spec.evaluated:
                self._hold(evaluated)
                evaluation_step(self._workload, self._built, self._batch, self._spec.knobs.variant)
        place = min(self.n_steps, len(loads) - 1)
        self.load = loads[place]
        if self._spec.sequence[place] != self._held:
            self._hold(self._spec.sequence[place])

    def _hold(self, batch: Batch) -> None:
        """Put `batch` on the device in place of the present one: two at once would raise the peak."""
        self._batch = self._held = None
        own = self._tensors_of_step()
        started = time.perf_counter()
        collated = self._workload.collate(batch)
        if batch.members:
            self._collate_s.append(time.perf_counter() - started)
        if self._own_tensors is not None:
            self._own_tensors.note(own)
        self._batch, self._held = on_device(collated, self._device), batch

    def _profiled_step(self) -> ProfiledStep:
        blocks, others = self._workload.blocks(self._built), self._tensors_of_step
        self.n_steps += 1
        return profiled_step(self._step, self._built, blocks, self._optimizer, self._batch, self._meter, others=others)

    def _tensors_of_step(self) -> Sequence[torch.Tensor]:
        """Those that the workload's own step keeps, if it makes one."""
        return () if self._own_tensors is None else self._own_tensors.made_since()

    def _step(self) -> float:
        """One update. Where fp16's scale was too large, it is made again with half of it: a probe measures whole updates."""
        variant = self._spec.knobs.variant
        while True:
            with suppress(Overflow):
                return training_step(self._shared, self._built, self._optimizer, self._batch, variant, self._training)

    def _timed_update(self) -> float:
        """Median seconds that a weight update takes alone: training with gathered batches makes one for several batches."""
        took_s = []
        for _ in range(N_UPDATES):
            self._meter.synchronize()
            started = time.perf_counter()
            self._optimizer.zero_grad(set_to_none=False)
            update(self._built, self._optimizer, self._training)
            self._meter.synchronize()
            took_s.append(time.perf_counter() - started)
        return median(took_s)

    def _timed_latency(self) -> float:
        """Median seconds in which the ranks exchange a single number."""
        took_s = []
        for _ in range(N_EXCHANGES):
            self._meter.synchronize()
            started = time.perf_counter()
            self._ranks.exchange()
            self._meter.synchronize()
            took_s.append(time.perf_counter() - started)
        return median(took_s)

    def _timed_sync(self) -> float:
        """Median seconds by which averaging gradients makes a step longer, from steps with it and without in turn."""
        with_s, without_s = [], []
        for _ in range(N_SYNCS):
            with_s.append(self._timed_step())
            with self._ranks.without_sync():
                without_s.append(self._timed_step())
        self.alone_s = median(without_s)
        return max(0.0, median(with_s) - self.alone_s)

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
        if self.n_steps <= N_WARM_STEPS:
            self._meter.sample()
        return step_s
