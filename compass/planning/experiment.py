"""Where stages get their knowledge: the machine, the probes made so far, and the models fitted to them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from compass.cost.models import CostModels, fit_costs
from compass.cost.observation import Probe
from compass.optimizer_config import OptimizerConfig
from compass.planning.probe_log import expectation, is_faster, is_slow, note
from compass.probe.recorded import Recorded
from compass.probe.requests import Phase, micro_probes, more_micro_probes, synthetic_batches, timing_probe
from compass.records import (
    Allocator,
    Batch,
    Choice,
    DatasetSummary,
    Description,
    Expectation,
    Knobs,
    Load,
    Outcome,
    ProbeNote,
    ProbeSpec,
    Progress,
    RuntimeChoice,
    RuntimeSettings,
    Stage,
    Status,
    Variant,
)
from compass.search.knowledge import Knowledge
from compass.search.pruning import Pruned
from compass.search.sample_loads import SampleLoads

log = logging.getLogger(__name__)


@dataclass
class Experiment:
    """One machine, one workload, one dataset. Every probe made here sharpens `known`."""

    config: OptimizerConfig
    runner: Recorded
    description: Description
    work: SampleLoads
    base: RuntimeSettings
    """What the worker runs under that is calibrated on; a stage may have another allocator."""
    capacities: Mapping[Knobs, int]
    dataset_size: int
    data_cap: int
    watch: Callable[[Progress], None] = lambda _: None
    dataset: DatasetSummary | None = None
    settings: tuple[RuntimeChoice, ...] = ()
    """What was fixed before anything was measured, and why."""
    reference: Choice | None = None
    pruned: Pruned = field(default_factory=Pruned)
    stage: Stage | None = None
    """Which is being decided; None while calibrating."""
    notes: list[ProbeNote] = field(default_factory=list)
    """Every probe of this run, beside what was predicted of it."""
    _fitted: tuple[int, CostModels] | None = None

    @property
    def budget_bytes(self) -> int:
        """What a training process may hold in all."""
        return self.description.hardware.budget_bytes

    @property
    def calibrated_allocator(self) -> Allocator:
        """The allocator that times are compared under: the timed stages'."""
        return self.config.stages.prototyping.allocator

    @property
    def micro_batches(self) -> tuple[Batch, ...]:
        """What is calibrated on."""
        return self.description.micro_batches or synthetic_batches(self.config.probe)

    def runtime(self, allocator: Allocator) -> RuntimeSettings:
        """The runtime settings of a worker."""
        return self.base.model_copy(update={"allocator": allocator})

    def probe(self, phase: Phase, spec: ProbeSpec) -> Outcome:
        """Make a probe, or find it in the ledger."""
        expected, n_reused = self._expected(phase, spec), self.runner.counts["reused"]
        outcome = self.runner.probe(phase, spec)
        self._note(phase, spec, outcome, expected, reused=self.runner.counts["reused"] > n_reused)
        return outcome

    def certify(self, spec: ProbeSpec) -> Outcome:
        """Make a certificate, and make it again while it is beyond doubt slower than was predicted: something else was running.

        One that is as slow again is believed, and the prediction is not.
        """
        outcome = self.probe("certify", spec)
        for _ in range(self.config.probe.certify_again):
            last = self.notes[-1]
            if last.reused or not is_slow(last):
                break
            log.info("%s: slower than predicted, once more", spec.knobs)
            outcome = self.runner.again("certify", spec)
            self._fitted = None
            self.notes.pop()
            self._note("certify", spec, outcome, last.expected, reused=False)
            if not is_faster(self.notes[-1], last):
                break
        return outcome

    def _note(
        self, phase: Phase, spec: ProbeSpec, outcome: Outcome, expected: Expectation | None, *, reused: bool
    ) -> None:
        # A process on the CPU goes on holding what earlier probes took: its footprint tells only in a fresh one.
        told = note(spec, outcome, telling=spec.fresh or not self.on_cpu, phase=phase, stage=self.stage)
        self.notes.append(told.model_copy(update={"expected": expected, "reused": reused}))

    def _expected(self, phase: Phase, spec: ProbeSpec) -> Expectation | None:
        """What is known of a probe before it is made.

        Runtime settings are compared before anything is known; made-up graphs are what knowledge is made of. Of time nothing is
        said until calibration ends, nor under another allocator than the one that times are compared under. While calibrating,
        what chose the load is known.
        """
        if phase == "runtime" or spec.batches[-1].synthetic is not None:
            return None
        calibrating = phase == "calibrate"
        costs = self._fitted[1] if calibrating and self._fitted else self.costs()
        alike = not self.on_cpu or spec.runtime.allocator == self.calibrated_allocator
        return expectation(costs, self.work, self.capacities, spec, timed=alike and not calibrating)

    def micro(self, kinds: Iterable[Variant]) -> list[ProbeSpec]:
        """The micro-probes that the memory model is fitted to."""
        runtime = self.runtime(self.calibrated_allocator)
        telling = tuple(dict.fromkeys(kind.of_memory for kind in kinds))
        micro = list(micro_probes(self.config.probe, telling, self.micro_batches, runtime, n_steps=self._micro_steps))
        if self.on_cpu and micro:  # in a process of its own, which holds before its first step what training will
            micro[0] = micro[0].model_copy(update={"fresh": True})
        return micro

    def calibrate(self, kinds: Iterable[Variant]) -> None:
        """Micro-probes for the memory model, and a few timings on the real sample."""
        kinds = tuple(kinds)
        n_anchors = sum(len(self._anchors(kind)) for kind in kinds) * len(self._anchor_step_s)
        micro = self.micro(kinds)
        for n_done, spec in enumerate(micro):
            self.tell("calibrate", str(spec.knobs), n_done, len(micro) + n_anchors)
            self.probe("calibrate", spec)
        kinds = tuple(kind for kind in kinds if self._runs(kind))
        anchors = [
            Knobs(layers=depth, channels=width, variant=kind) for kind in kinds for depth, width in self._anchors(kind)
        ]
        first = anchors if self.on_cpu else launching(anchors)
        for alone in [self.timing(knobs, at_most=1, profile=self.on_cpu) for knobs in first]:
            if alone is not None:
                self.probe("calibrate", alone)
        for n_pass, within_s in enumerate(self._anchor_step_s):
            batch_of = self.work.contrasting if self.on_cpu and n_pass == 0 else self.work.typical
            # Profiled, for they show whether the memory model holds on real samples and at other widths. Where no graph fits,
            # made-up ones tell little, but not nothing.
            specs = [
                self.timing(knobs, within_s=within_s, profile=True, batch_of=batch_of)
                or timing_probe(self.config.probe, knobs, micro[0].batches[0], micro[0].runtime, on_cpu=self.on_cpu)
                for knobs in anchors
            ]
            for n_done, spec in enumerate(specs, len(micro) + n_pass * len(anchors)):
                self.tell("calibrate", str(spec.knobs), n_done, len(micro) + n_anchors)
                self.probe("calibrate", spec)
        for kind in dict.fromkeys(kind.of_memory for kind in kinds):
            self._doubt_memory(kind)
        for kind in kinds:
            self._require_timing(kind)

    def _require_timing(self, kind: Variant) -> None:
        """Set aside a variant if no step of its time model could be timed: on an accelerator, micro-probes tell nothing of time."""
        if not self.costs().time.knows(kind):
            failed = [outcome for spec, outcome in self.runner.probes if spec.knobs.variant == kind and not outcome.ok]
            reason = f"{failed[-1].status}: {failed[-1].detail}" if failed else "no step could be timed"
            self.pruned.set_aside(kind, reason)

    def _doubt_memory(self, kind: Variant) -> None:
        """Probe more where what was seen of a variant contradicts its memory model."""
        rules, runtime = self.config.probe, self.runtime(self.calibrated_allocator)
        if self.costs().memory.misfits[kind] <= rules.poor_fit:
            return
        log.info("%s: memory does not follow the usual form, probing more", kind)
        for spec in more_micro_probes(rules, kind, self.micro_batches, runtime, n_steps=self._micro_steps):
            self.probe("calibrate", spec)
        memory = self.costs().memory
        if memory.misfits[kind] > rules.poor_fit:
            log.warning("%s: live bytes are known to %.1f%% only", kind, 100 * memory.misfits[kind])

    @property
    def _micro_steps(self) -> int:
        return self.config.probe.micro_steps if self.on_cpu else 1

    @property
    def on_cpu(self) -> bool:
        """Whether the device is a CPU: launching costs nothing there, and steps differ more."""
        return self.description.hardware.on_host

    def is_launching(self, knobs: Knobs, step_s: float) -> bool:
        """Whether most of a step on an accelerator is launching it, which one process takes half as long again for as another."""
        return not self.on_cpu and self.costs().launch_s(knobs) > step_s / 2

    @property
    def _anchor_step_s(self) -> tuple[float, ...]:
        rules = self.config.probe
        return rules.anchor_step_s_cpu if self.on_cpu else (rules.anchor_step_s,)

    @property
    def longest_timed_s(self) -> float:
        """Seconds that a step of a timing probe may be expected to take."""
        return max(self._anchor_step_s)

    def _runs(self, kind: Variant) -> bool:
        """Whether any micro-probe of `kind` ran; if none did, the stages are told why."""
        outcomes = [outcome for spec, outcome in self.runner.probes if spec.knobs.variant.of_memory == kind.of_memory]
        if any(outcome.ok and outcome.segments for outcome in outcomes):  # a trial of runtime settings is not profiled
            return True
        self.pruned.set_aside(kind, f"{outcomes[-1].status}: {outcomes[-1].detail}")
        return False

    def time(self, knobs: Knobs, phase: Phase) -> Outcome | None:
        """Time `knobs` as `timing` has it; None if no graph fits."""
        spec = self.timing(knobs)
        return None if spec is None else self.probe(phase, spec)

    def timing(
        self,
        knobs: Knobs,
        *,
        at_most: int | None = None,
        within_s: float | None = None,
        profile: bool = False,
        batch_of: Callable[[int], Batch] | None = None,
    ) -> ProbeSpec | None:
        """`knobs` on as large a batch (typical, unless `batch_of` says another) as memory and patience allow; None if no graph fits."""
        longest_s = self.longest_timed_s if within_s is None else within_s
        known, costs = self.known(), self.costs()
        rules, law = self.config.probe, costs.bytes_law(knobs, self.calibrated_allocator)
        room_bytes = law.baseline_bytes + rules.anchor_share * (self.budget_bytes - law.baseline_bytes)
        is_timed = costs.time.knows(knobs.variant)
        batch_of = batch_of or self.work.typical

        def suits(n: int) -> bool:
            load = self.work.load(batch_of(n))
            return law.upper_footprint(load) <= room_bytes and (not is_timed or known.step_s(knobs, load) <= longest_s)

        n_graphs = min(known.most_graphs(suits), at_most or known.batch_cap)
        if n_graphs == 0 and law.upper_footprint(self.work.load(batch_of(1))) <= self.budget_bytes:
            n_graphs = 1
        if n_graphs == 0:
            return None
        batch, runtime = batch_of(n_graphs), self.runtime(self.calibrated_allocator)
        step_s = known.step_s(knobs, self.work.load(batch)) if is_timed else 0.0
        return timing_probe(rules, knobs, batch, runtime, on_cpu=self.on_cpu, profile=profile, step_s=step_s)

    def _anchors(self, kind: Variant) -> tuple[tuple[int, int], ...]:
        rules = self.config.probe
        if self.on_cpu:
            return rules.anchor_checkpointing_cpu if kind.is_factor else rules.anchor_architectures_cpu
        return rules.anchor_checkpointing if kind.is_factor else rules.anchor_architectures

    def costs(self) -> CostModels:
        """The models, fitted to all probes so far."""
        n_probes = len(self.runner.probes)
        if self._fitted is None or self._fitted[0] != n_probes:
            samples = dict(self.description.samples)
            probes = [Probe(spec, with_load(spec, outcome, samples)) for spec, outcome in self._telling()]
            models = fit_costs(self.description, probes, self.config.memory, self.runtime(self.calibrated_allocator))
            self._fitted = (n_probes, models)
        return self._fitted[1]

    def _telling(self) -> list[tuple[ProbeSpec, Outcome]]:
        """What the models are fitted to: training under this fingerprint, of variants that this run looks at, and this run.

        An anchor whose one graph already takes its time is asked for at every load: one question, and one answer to fit.
        """
        kinds = {spec.knobs.variant for spec, _ in self.runner.probes}
        asked = {spec.key: (spec, outcome) for spec, outcome in self.runner.probes}
        return [known for known in self.runner.trained if known[0].knobs.variant in kinds] + list(asked.values())

    def trained(self, knobs: Knobs, batch_size: int, runtime: RuntimeSettings) -> Outcome | None:
        """The last cycle that was trained so; None if none was."""
        found = [
            outcome
            for spec, outcome in self.runner.trained
            if (spec.knobs, spec.runtime) == (knobs, runtime)
            and outcome.step is not None
            and outcome.timed_load is not None
            and outcome.timed_load.graphs == batch_size
        ]
        return found[-1] if found else None

    def known(self) -> Knowledge:
        """What a stage decides with."""
        return Knowledge(
            config=self.config,
            costs=self.costs(),
            work=self.work,
            capacities=self.capacities,
            budget_bytes=self.budget_bytes,
            dataset_size=self.dataset_size,
            data_cap=self.data_cap,
            reference=self.reference,
            pruned=self.pruned,
        )

    def tell(self, phase: Phase, what: str, n_done: int, n_expected: int, remaining_s: float | None = None) -> None:
        """Let whoever watches know."""
        self.watch(Progress(phase=phase, what=what, n_done=n_done, n_expected=n_expected, remaining_s=remaining_s))


def launching(anchors: Sequence[Knobs]) -> list[Knobs]:
    """Those of which one graph shows what launching takes, so that the other loads can be chosen: the first of each variant, the deepest."""
    first = {knobs.variant: knobs for knobs in reversed(anchors)}
    deepest = sorted(anchors, key=lambda knobs: knobs.layers)[-1:]
    return list(dict.fromkeys([*reversed(first.values()), *deepest]))


def with_load(spec: ProbeSpec, outcome: Outcome, samples: Mapping[str, Load]) -> Outcome:
    """`outcome`, with the load it was asked for where it ended before it could say.

    A certificate that ran out on a smaller batch than its first one, the largest, ran out on what that one had left behind.
    """
    if outcome.load is None or not outcome.load.sizes:
        return outcome.model_copy(update={"load": spec.batches[-1].load(samples)})
    if outcome.status is not Status.OUT_OF_MEMORY or len(spec.batches) == 1:
        return outcome
    first = spec.batches[0].load(samples)
    is_larger = all(first[name] >= size for name, size in outcome.load.sizes)
    return outcome.model_copy(update={"load": first}) if is_larger else outcome
