"""The story, top to bottom: calibrate → fit → search → confirm → profile."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from compass.cost.parameters import capacities
from compass.data.oversize import oversize
from compass.data.scan.catalogue import Catalogue
from compass.device import available_cores
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.planning.certify import certify_stage
from compass.planning.experiment import Experiment
from compass.planning.optuna_view import study_of
from compass.planning.runtime import choose_loaders, choose_settings, compare_allocators
from compass.planning.strategies import search_stage
from compass.probe.local import LocalRunner
from compass.probe.recorded import Recorded
from compass.probe.runner import Runner
from compass.probe.store import LEDGER, Store, default_cache
from compass.profile import Ledger, Profile, read_earlier, write_profile
from compass.records import (
    STAGES,
    DatasetSummary,
    Description,
    Knobs,
    ProbeNote,
    Progress,
    RuntimeChoice,
    RuntimeSettings,
    Stage,
    StageFailure,
    StagePlan,
    Variant,
)
from compass.search.family import follow
from compass.search.sample_loads import make_sample_loads
from compass.search.space import architectures, data_cap, knobs_of, variants
from compass.search.storage import JOURNAL, check_storage
from compass.stages import POLICIES
from compass.stages.validation import follows
from compass.units import format_bytes
from compass.version import __version__

log = logging.getLogger(__name__)

Asked = Callable[[OptimizerConfig], Sequence[Knobs]]
"""Models that are asked about by name, once it is known what the workload makes of the configuration."""


@dataclass(frozen=True)
class Request:
    """What the user asks for."""

    config: OptimizerConfig = field(default_factory=OptimizerConfig)
    stages: tuple[Stage, ...] = STAGES
    workload: str = "visnet"
    device: str | None = None
    memory_limit_bytes: int | None = None
    dataset_size: int | None = None
    """Complexes to train on; None: the configured default."""
    out: Path = Path("hardware_profile.json")
    cache: Path | None = None
    """Folder of the probe store; None: the user's cache folder."""
    storage: str | None = None
    """Where Optuna's study goes: a URL, or a journal's path. None: a journal beside the probe store, if there is one."""


def optimize(
    request: Request, *, runner: Runner | None = None, watch: Callable[[Progress], None] = lambda _: None
) -> Profile:
    """Find and certify_stage a plan for each stage, write the profile after each, and return it.

    Raises:
        InputError: something in the request cannot be used.
        WorkerError: no probe can be made on this machine.
    """
    started = time.monotonic()
    request = scanned(request, watch)
    if runner is None:
        build_graphs(request.config, watch)
    earlier = read_earlier(request.out)
    storage = study_place(request, runner)
    with laboratory(request, runner, watch, earlier=earlier) as lab, study_of(lab, storage):
        lab.settings += tuple(filter(None, [compare_allocators(lab)]))
        lab.calibrate(wanted_variants(lab.config))
        paper = POLICIES["production"].rank(lab.known())
        lab.reference = paper.pick if paper else None
        blank = blank_profile(request, lab)
        warn_of_loss(request, earlier, blank)
        profile = blank.with_earlier(earlier)
        for policy in [search_stage(POLICIES[stage], lab) for stage in STAGES if stage in request.stages]:
            profile = with_result(profile, certify_stage(policy, lab), lab, time.monotonic() - started)
            write_profile(profile, request.out)
        return profile


def scanned(request: Request, watch: Callable[[Progress], None]) -> Request:
    """`request` with the catalogue of its dataset, read now unless it was; unchanged if it names none."""
    rules = request.config.dataset
    if not rules.path or rules.catalogue:
        return request
    from compass.data.scan.scan import ScanProgress, scan  # whoever brings no dataset need not wait for it

    def tell(now: ScanProgress) -> None:
        watch(Progress(phase="scan", what=rules.path, n_done=now.n_done, n_expected=now.n_expected))

    catalogue = scan(Path(rules.path), request.config, request.cache or default_cache(), watch=tell)
    found = Catalogue.open(catalogue)
    for warning in found.about.warnings:
        log.warning("%s", warning)
    if not found.usable:
        raise InputError(
            f"dataset {rules.path}", got=f"{len(found.rows)} complexes, none of them usable", expected="at least one",
            fix=f"See what is wrong with them: compass scan {rules.path}",
        )  # fmt: skip
    rules = rules.model_copy(update={"catalogue": str(catalogue)})
    return replace(request, config=request.config.model_copy(update={"dataset": rules}))


def build_graphs(config: OptimizerConfig, watch: Callable[[Progress], None]) -> None:
    """Build the graphs of the dataset, if there is one, as training does first: certificates then load as training will."""
    if config.dataset.catalogue:
        from compass.data.graphs.graph_packing import pack_graphs

        def tell(n_done: int, n_expected: int) -> None:
            watch(Progress(phase="scan", what="building graphs", n_done=n_done, n_expected=n_expected))

        pack_graphs(config, watch=tell)


def dataset_of(config: OptimizerConfig) -> DatasetSummary | None:
    """What the configured dataset is like; None if there is none."""
    if not config.dataset.catalogue:
        return None
    from compass.data.sizes import summarise

    return summarise(Catalogue.open(Path(config.dataset.catalogue)), config.dataset)


@contextmanager
def laboratory(
    request: Request,
    runner: Runner | None,
    watch: Callable[[Progress], None],
    also: Asked = lambda _: (),
    earlier: Profile | None = None,
) -> Iterator[Experiment]:
    """The lab of this machine, or of `runner`, whose probes are not kept; closed when the block ends.

    What an `earlier` profile of the same machine settled on is not measured again.
    """
    settings = first_settings(request.config, earlier)
    # A worker takes seconds to start, in which this process can load what fitting takes.
    threading.Thread(target=importlib.import_module, args=("scipy.optimize",), daemon=True).start()
    machine = runner or local_runner(request, settings)
    store = None if runner else Store((request.cache or default_cache()) / LEDGER)

    def reopened(lab: Experiment, settings: RuntimeSettings) -> Experiment:
        """The lab under other settings and so under another fingerprint, for every figure is another one."""
        nonlocal machine
        if settings == lab.base:
            return lab
        machine.close()
        machine = local_runner(request, settings)
        other = open_lab(request, machine, store, settings, watch, also)
        other.runner.counts.update(lab.runner.counts)
        return other

    try:
        lab = open_lab(request, machine, store, settings, watch, also)
        if runner is None:
            known = settled(earlier, lab)
            if known is None:
                # What lies there may be another machine's profile, and its threads not all of this one's.
                lab = reopened(lab, first_settings(request.config))
            better, choices = known or choose_settings(lab)
            lab = reopened(lab, better)
            lab.settings = choices
        yield lab
    finally:
        machine.close()
        if store:
            store.close()


def study_place(request: Request, runner: Runner | None) -> str | Path | None:
    """Where Optuna's study goes; None: nowhere. A place that cannot be used is refused before anything is measured."""
    if request.storage is None:
        return None if runner else (request.cache or default_cache()) / JOURNAL
    check_storage(request.storage)
    return request.storage


def first_settings(config: OptimizerConfig, earlier: Profile | None = None) -> RuntimeSettings:
    """What the machine is looked at under: as configured, as it was settled before, or what an idle machine is likely to settle on."""
    rules = config.runtime
    before = earlier.calibrated_runtime if earlier and earlier.config.runtime == rules else None
    return RuntimeSettings(
        threads=rules.threads or (before.threads if before else available_cores()),
        allocator=config.stages.prototyping.allocator,
        waiting=rules.waiting or (before.waiting if before else "spin"),
    )


def settled(earlier: Profile | None, lab: Experiment) -> tuple[RuntimeSettings, tuple[RuntimeChoice, ...]] | None:
    """The settings that `earlier` chose on this very machine; None if it is of another, or chose by another configuration."""
    if lab.base == first_settings(lab.config):  # then the trials are in the ledger
        return None
    if earlier is None or earlier.fingerprint != lab.description.fingerprint:
        return None
    choices = tuple(choice for choice in earlier.runtime if choice.setting in {"threads", "waiting"})
    return (lab.base, choices) if choices else None


def local_runner(request: Request, settings: RuntimeSettings) -> LocalRunner:
    """The runner of this machine."""
    return LocalRunner(
        request.config,
        settings,
        workload=request.workload,
        device=request.device,
        limit_bytes=request.memory_limit_bytes,
    )


def open_lab(
    request: Request,
    machine: Runner,
    store: Store | None,
    settings: RuntimeSettings,
    watch: Callable[[Progress], None],
    also: Asked = lambda _: (),
) -> Experiment:
    """Look at the machine and the data, and lay out the space; what is asked for `also` need not lie in it."""
    description = machine.describe()
    config = follow(request.config, description.family)
    budget_bytes = description.hardware.budget_bytes
    check_room(description, config)
    named = list(also(config))
    kinds = wanted_variants(config)
    shapes = architectures(config.space, budget_bytes)
    log.info("%s with %s to use", description.hardware.name, format_bytes(budget_bytes))

    def count(knobs: list[Knobs]) -> dict[Knobs, int]:
        return dict(machine.describe(knobs).parameters)

    plain = capacities(knobs_of(shapes, kinds[:1]), lambda asked: count(list(asked)))
    by_shape = {(knobs.layers, knobs.channels): capacity for knobs, capacity in plain.items()}
    data = dataset_of(config)
    known_size = data.n_trained if data else len(description.samples)
    assumed_size = known_size if data or known_size > 1 else config.dataset.default_size
    dataset_size = assumed_size if request.dataset_size is None else request.dataset_size
    isolated: tuple[str, ...] = ()
    if config.dataset.oversize == "isolate" and known_size > 1:
        isolated = oversize({name: load.sizes for name, load in description.samples}, config.dataset.oversize_share)
    return Experiment(
        config=config,
        runner=Recorded(machine, store, description.fingerprint.key),
        description=description,
        work=make_sample_loads(description.samples, dataset_size, isolated, config.seed),
        base=settings,
        # Precision and checkpointing leave the parameters alone.
        capacities={
            **{knobs: by_shape[knobs.layers, knobs.channels] for knobs in knobs_of(shapes, kinds)},
            **(count(named) if named else {}),
        },
        dataset_size=dataset_size,
        dataset=data,
        data_cap=data_cap(config.space.data_cap, dataset_size),
        watch=watch,
    )


def check_room(description: Description, config: OptimizerConfig) -> None:
    """Refuse a budget that an idle worker nearly fills."""
    needed = description.baseline_bytes + config.memory.idle_headroom_bytes
    if description.hardware.budget_bytes < needed:
        raise InputError(
            "memory limit", got=format_bytes(description.hardware.budget_bytes),
            expected=f"at least {format_bytes(needed)}, of which an idle worker holds "
            f"{format_bytes(description.baseline_bytes)}",
            fix="Raise --memory-limit or free memory.",
        )  # fmt: skip


def wanted_variants(config: OptimizerConfig) -> list[Variant]:
    """Every variant that any stage chooses from."""
    return list(dict.fromkeys(kind for stage in STAGES for kind in variants(config.space, config.stages[stage])))


def blank_profile(request: Request, lab: Experiment) -> Profile:
    """A profile of this machine without any stage."""
    return Profile(
        compass_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=lab.description.fingerprint,
        hardware=lab.description.hardware,
        workload=request.workload,
        dataset_size=lab.dataset_size,
        dataset=lab.dataset,
        data_cap=lab.data_cap,
        reference=lab.reference,
        runtime=lab.settings,
        config=lab.config,
    )


def warn_of_loss(request: Request, earlier: Profile | None, now: Profile) -> None:
    """Say which stages of the profile that is replaced will be gone, for they answer another question."""
    if earlier is None or earlier.question == now.question:
        return
    lost = [stage for stage in (*earlier.plans, *earlier.failures) if stage not in request.stages]
    if lost:
        log.warning("%s: not kept, for they were planned for another machine, dataset size, memory limit or version: %s",
                    request.out, ", ".join(lost))  # fmt: skip


def with_result(profile: Profile, result: StagePlan | StageFailure, lab: Experiment, wall_s: float) -> Profile:
    """`profile` with one stage's plan or failure, and the ledger as it now stands."""
    plans = {stage: plan for stage, plan in profile.plans.items() if stage != result.stage}
    failures = {stage: failure for stage, failure in profile.failures.items() if stage != result.stage}
    runtime = tuple(choice for choice in profile.runtime if choice.stage != result.stage)
    if isinstance(result, StagePlan):
        on_cpu = profile.hardware.kind == "cpu"
        loading = choose_loaders(result, available_cores(), profile.config.runtime, on_cpu=on_cpu)
        plans[result.stage] = result.model_copy(update={"loader_workers": int(loading.chosen)})
        runtime = (*runtime, loading)
    if "validation" in plans:
        text = follows(plans["validation"], plans.get("prototyping"))
        plans["validation"] = plans["validation"].model_copy(update={"follows": text})
    if isinstance(result, StagePlan):
        log.info("%s: %s, batch %d: %s", result.stage, result.choice.knobs, result.choice.batch_size, result.why)
    else:
        failures[result.stage] = result
        log.error("%s: nothing found, %s binds: %s", result.stage, result.limited_by, result.reason)
    return profile.model_copy(
        update={
            "plans": plans,
            "failures": failures,
            "runtime": runtime,
            "ledger": Ledger(**lab.runner.counts, wall_s=wall_s),
            "trail": with_notes(profile.trail, lab.notes, result.stage),
        }
    )


def with_notes(before: Iterable[ProbeNote], notes: Sequence[ProbeNote], stage: Stage) -> tuple[ProbeNote, ...]:
    """This run's `notes` of calibration and of `stage`, which it decided, around those of `before` on stages that stand as they were."""
    kept = [one for one in before if one.stage not in {None, stage}]
    return (*(one for one in notes if one.stage is None), *kept, *(one for one in notes if one.stage == stage))
