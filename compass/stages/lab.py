"""Where stages get their knowledge: the machine, the probes made so far, and the models fitted to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from compass.cost.models import CostModels, fit
from compass.cost.observation import Probe
from compass.optimizer_config import OptimizerConfig
from compass.probe.recorded import Recorded
from compass.probe.requests import Phase, micro_probes, timing_probe
from compass.records import (
    Allocator,
    Choice,
    Description,
    Knobs,
    Outcome,
    ProbeSpec,
    Progress,
    RuntimeSettings,
    Variant,
)
from compass.search.knowledge import Knowledge
from compass.search.pruning import Pruned
from compass.search.work import Work


@dataclass
class Lab:
    """One machine, one workload, one dataset. Every probe made here sharpens `known`."""

    config: OptimizerConfig
    runner: Recorded
    description: Description
    work: Work
    threads: int
    capacities: Mapping[Knobs, int]
    dataset_size: int
    data_cap: int
    watch: Callable[[Progress], None] = lambda _: None
    reference: Choice | None = None
    pruned: Pruned = field(default_factory=Pruned)
    _fitted: tuple[int, CostModels] | None = None

    @property
    def budget_bytes(self) -> int:
        """What a training process may hold in all."""
        return self.description.hardware.budget_bytes

    @property
    def calibrated_allocator(self) -> Allocator:
        """The allocator that times are compared under: the timed stages'."""
        return self.config.stages.prototyping.allocator

    def runtime(self, allocator: Allocator) -> RuntimeSettings:
        """The runtime settings of a worker."""
        return RuntimeSettings(threads=self.threads, allocator=allocator)

    def probe(self, phase: Phase, spec: ProbeSpec) -> Outcome:
        """Make a probe, or find it in the ledger."""
        return self.runner.probe(phase, spec)

    def calibrate(self, kinds: Iterable[Variant]) -> None:
        """Micro-probes for the memory model, and a few timings on the real sample."""
        kinds = tuple(kinds)
        rules, runtime = self.config.probe, self.runtime(self.calibrated_allocator)
        specs = list(micro_probes(rules, kinds, self.description.features, runtime))
        batch = self.work.typical(min(rules.anchor_graphs, self.dataset_size))
        specs += [
            timing_probe(rules, Knobs(layers=layers, channels=channels, variant=kind), batch, runtime)
            for kind in kinds
            for layers, channels in rules.anchor_architectures
        ]
        spent_s = 0.0
        for n_done, spec in enumerate(specs):
            remaining_s = spent_s / n_done * (len(specs) - n_done) if n_done else None
            self.tell("calibrate", str(spec.knobs), n_done, len(specs), remaining_s)
            spent_s += self.probe("calibrate", spec).wall_s
        self.tell("calibrate", "done", len(specs), len(specs), 0.0)

    def known(self) -> Knowledge:
        """What all probes so far tell."""
        n_probes = len(self.runner.probes)
        if self._fitted is None or self._fitted[0] != n_probes:
            probes = [Probe(spec, self._with_load(spec, outcome)) for spec, outcome in self.runner.probes]
            models = fit(self.description, probes, self.config.memory, self.calibrated_allocator)
            self._fitted = (n_probes, models)
        return Knowledge(
            config=self.config,
            costs=self._fitted[1],
            work=self.work,
            capacities=self.capacities,
            budget_bytes=self.budget_bytes,
            dataset_size=self.dataset_size,
            data_cap=self.data_cap,
            reference=self.reference,
            pruned=self.pruned,
        )

    def _with_load(self, spec: ProbeSpec, outcome: Outcome) -> Outcome:
        """`outcome`, with the load it was asked for where it ended before it could say."""
        if outcome.load is not None and outcome.load.sizes:
            return outcome
        batch, samples = spec.batches[-1], dict(self.description.samples)
        loads = [samples[name] * copies for name, copies in batch.members]
        load = batch.synthetic or sum(loads[1:], loads[0])
        return outcome.model_copy(update={"load": load})

    def tell(self, phase: Phase, what: str, n_done: int, n_expected: int, remaining_s: float | None = None) -> None:
        """Let whoever watches know."""
        self.watch(Progress(phase=phase, what=what, n_done=n_done, n_expected=n_expected, remaining_s=remaining_s))
