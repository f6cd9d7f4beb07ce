"""An experiment: one machine, one workload, one dataset, and the models fitted to the probes so far."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from compass.cost.models import CostModels, fit_costs
from compass.cost.observation import Probe
from compass.cost.ranks import RankedCosts
from compass.optimizer_config import OptimizerConfig
from compass.probe.preload import library_name
from compass.probe.recorded import Recorded
from compass.probe.requests import synthetic_batches
from compass.probe.site import Host
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
    ProbeSpec,
    RankCosts,
    RankShare,
    RuntimeChoice,
    RuntimeSettings,
    Status,
)
from compass.search.knowledge import Knowledge, sizes_row
from compass.search.pruning import Pruned
from compass.search.sample_loads import SampleLoads
from compass.search.space import has_one_model

Probes = tuple[tuple[ProbeSpec, Outcome], ...]


@dataclass
class Experiment:
    """The state that stages decide from. `costs` and `known` follow from it; each new probe makes them more precise."""

    config: OptimizerConfig
    runner: Recorded
    """The machine, and every probe of this run."""
    description: Description
    sample_loads: SampleLoads
    settings: RuntimeSettings
    """Runtime settings of the calibration. A stage may train under another allocator."""
    capacities: Mapping[Knobs, int]
    """Trainable parameters of every model in the space."""
    dataset_size: int
    """Complexes."""
    data_cap: float
    """Parameters that the dataset can feed; infinite: no limit."""
    dataset: DatasetSummary | None = None
    runtime_choices: tuple[RuntimeChoice, ...] = ()
    """How each runtime setting was chosen."""
    allocators: tuple[Allocator, ...] = ()
    """Those beside the calibration's that were measured."""
    least_batch: int = 1
    """Fewest graphs that a model can be trained on: two with a layer that normalises over samples."""
    n_warming: int = 0
    """Steps that are slow at first beyond the usual two, as where kernels are chosen by trying them."""
    reference: Choice | None = None
    """The production stage's choice, to which scores relate: on paper until it is certified."""
    pruned: Pruned = field(default_factory=Pruned)
    n_devices: int = 1
    """Ranks on this machine."""
    n_nodes: int = 1
    """Machines with as many ranks each."""
    rank_costs: RankCosts | None = None
    """What a rank costs beyond a process alone; None: one device, or not measured yet."""
    shares: tuple[RankShare, ...] = ()
    """What each rank may hold and how fast it is, where they differ."""
    host: Host | None = None
    """The computer around the device; None: the one that this process runs on."""
    spilled: set[str] = field(default_factory=set)
    """Keys of certificates whose memory seems to have moved to the host: they count as having run out of it."""
    _fitted: tuple[Probes, int, CostModels] | None = None
    _last: tuple[int, Knowledge] | None = field(init=False, default=None)
    """Facts about what cannot work, and what was known with them."""

    @property
    def n_ranks(self) -> int:
        """Processes that train together, over all machines."""
        return self.n_devices * self.n_nodes

    @property
    def budget_bytes(self) -> int:
        """Memory that a training process may hold in all; of unequal ranks, the one that may hold least."""
        return min([self.description.hardware.budget_bytes, *(one.budget_bytes for one in self.shares)])

    @property
    def noun(self) -> str:
        """What the workload's data consist of, in the plural; empty: of complexes, in batches of graphs."""
        return self.description.family.noun

    @property
    def has_one_model(self) -> bool:
        """Whether depth and width are no choice."""
        return has_one_model(self.capacities)

    @property
    def on_cpu(self) -> bool:
        """Whether the device is a CPU, where launching costs nothing and step times vary more."""
        return self.description.hardware.on_host

    @property
    def calibrated_allocator(self) -> Allocator:
        """The allocator of the calibration, to which times under others are relative."""
        return self.config.stages.calibration_allocator

    @property
    def micro_batches(self) -> tuple[Batch, ...]:
        """The small batches of the micro-probes."""
        return self.description.micro_batches or synthetic_batches(self.config.probe)

    def runtime(self, allocator: Allocator) -> RuntimeSettings:
        """The runtime settings of a worker under `allocator`."""
        library = library_name(allocator) if self.host is None else self.host.library(allocator)
        return self.settings.model_copy(update={"allocator": allocator, "library": library})

    def known(self) -> Knowledge:
        """Everything that a stage decides from: the same object while nothing is added, which then knows its answers."""
        for spec, outcome in self.runner.probes:
            if outcome.ok or outcome.status is Status.INVALID:
                self.pruned.observe(spec.knobs, None if outcome.ok else outcome.summary)
        known, n_facts = self._known(), self.pruned.n_facts
        if self._last is None or self._last[0] != n_facts or not _is_same(known, self._last[1]):
            self._last = n_facts, known
        return self._last[1]

    def _known(self) -> Knowledge:
        return Knowledge(
            n_ranks=self.n_ranks,
            config=self.config,
            costs=self.costs(),
            work=self.sample_loads,
            capacities=self.capacities,
            budget_bytes=self.budget_bytes,
            dataset_size=self.dataset_size,
            data_cap=self.data_cap,
            least_batch=self.least_batch,
            reference=self.reference,
            pruned=self.pruned,
            allocators=(self.calibrated_allocator, *self.allocators),
            noun=self.noun,
        )

    def costs(self) -> CostModels:
        """The cost models of a rank, fitted to all probes so far; for one device those of a process alone."""
        alone = self._costs_alone()
        return alone if self.rank_costs is None else RankedCosts.of(alone, self.rank_costs, self.capacities)

    def _costs_alone(self) -> CostModels:
        """The cost models of a process alone. Probes of ranks count without what ranks add, once that is known."""
        probes = tuple(self.runner.probes)
        if self._fitted is None or self._fitted[:2] != (probes, len(self.spilled)):
            samples = dict(self.description.samples)
            observed = [Probe(spec, with_load(spec, outcome, samples)) for spec, outcome in self._evidence()]
            runtime = self.runtime(self.calibrated_allocator)
            models = fit_costs(self.description, observed, self.config.memory, runtime, self.capacities)
            self._fitted = (probes, len(self.spilled), models)
        return self._fitted[2]

    def _evidence(self) -> list[tuple[ProbeSpec, Outcome]]:
        """The outcomes to fit: training under this fingerprint and this run's probes, of the variants that a stage may choose.

        The trial of another weight update is of none of them. An anchor whose single graph already fills a step's time is probed
        with the same spec for every load. It counts once.
        """
        searched = {knobs.variant for knobs in self.capacities}
        of_run = [pair for pair in map(self._alone, self.runner.probes) if pair and pair[0].knobs.variant in searched]
        probed = {spec.knobs.variant for spec, _ in of_run}
        refused = {"status": Status.OUT_OF_MEMORY, "step": None, "segments": (), "detail": "it seems to have spilled"}
        of_run = [(spec, one.model_copy(update=refused) if spec.key in self.spilled else one) for spec, one in of_run]
        trained = [(spec, outcome) for spec, outcome in self.runner.trained if spec.knobs.variant in probed]
        return trained + list({spec.key: (spec, outcome) for spec, outcome in of_run}.values())

    def _alone(self, probe: tuple[ProbeSpec, Outcome]) -> tuple[ProbeSpec, Outcome] | None:
        """A probe as a process alone would have met it; None: of ranks whose costs are not known."""
        spec, outcome = probe
        if spec.ranks == 1:
            return probe
        if self.rank_costs is None:
            return None
        return self.rank_costs.alone(spec, outcome, self.capacities.get(spec.knobs, 0))

    def trained(self, knobs: Knobs, batch_size: int, runtime: RuntimeSettings) -> Outcome | None:
        """The last training cycle with these knobs, batch size and runtime; None if there is none."""
        found = [
            outcome
            for spec, outcome in self.runner.trained
            if (spec.knobs, spec.runtime) == (knobs, runtime)
            and outcome.step is not None
            and outcome.timed_load is not None
            and outcome.timed_load.graphs == batch_size
        ]
        return found[-1] if found else None

    def expected(self, spec: ProbeSpec) -> Expectation | None:
        """The prediction of a probe on real samples; None for synthetic ones and for variants without a memory model."""
        costs = self.costs() if spec.ranks > 1 else self._costs_alone()
        knobs, allocator = spec.knobs, spec.runtime.allocator
        memory = self.expected_memory(spec, costs)
        if memory is None or not costs.time.knows(knobs.variant):
            return memory
        sizes = sizes_row(self.sample_loads.load(spec.sequence[-1]))
        capacity = self.capacities.get(knobs, 0)
        step_s = float(costs.step_s(knobs, capacity, sizes, allocator)[0])
        spread = costs.spread_of_runs(knobs, capacity, sizes, allocator)
        return memory.model_copy(update={"step_s": step_s, "spread": spread})

    def expected_memory(self, spec: ProbeSpec, costs: CostModels) -> Expectation | None:
        """The memory that `costs` predict of a probe; None where `expected` gives none."""
        if spec.batches[-1].synthetic is not None or not costs.memory.knows(spec.knobs.variant):
            return None
        law = costs.bytes_law(spec.knobs, spec.runtime.allocator)
        loads = [self.sample_loads.load(batch) for batch in spec.batches]
        return Expectation(
            live_bytes=law.live(loads[-1]), footprint_bound_bytes=max(law.upper_footprint(load) for load in loads)
        )


def _is_same(one: Knowledge, other: Knowledge) -> bool:
    """Whether both are made of the same objects; numbers, words and names are compared."""
    parts = [(getattr(one, part.name), getattr(other, part.name)) for part in fields(one) if part.init]
    return all(a is b or (isinstance(a, (int, float, str, tuple)) and a == b) for a, b in parts)


def with_load(spec: ProbeSpec, outcome: Outcome, samples: Mapping[str, Load]) -> Outcome:
    """`outcome` with the load that was asked for, if it ended before the load was counted.

    A certificate may run out of memory on a batch smaller than its first, which is the largest: that one's memory was
    still held. It then gets the first batch's load.
    """
    if outcome.load is None or not outcome.load.sizes:
        return outcome.model_copy(update={"load": spec.batches[-1].load(samples)})
    if outcome.status is not Status.OUT_OF_MEMORY or len(spec.batches) == 1:
        return outcome
    first = spec.batches[0].load(samples)
    is_larger = all(first[name] >= size for name, size in outcome.load.sizes)
    return outcome.model_copy(update={"load": first}) if is_larger else outcome
