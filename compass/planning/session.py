"""From a request to an experiment: the dataset is scanned, the machine opened, its runtime settings chosen."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from compass.cost.memory import Shape, shape_of
from compass.cost.parameters import capacities
from compass.data.oversize import oversize
from compass.data.scan.catalogue import Catalogue
from compass.device import available_cores
from compass.errors import InputError
from compass.optimizer_config import BatchRules, OptimizerConfig
from compass.planning.experiment import Experiment
from compass.planning.forecast import Forecast
from compass.planning.prober import Prober, Watch, ignore_progress
from compass.planning.request import Request
from compass.planning.runtime import choose_settings
from compass.planning.speed_settings import choose_speed_settings
from compass.planning.trust import remember_workload
from compass.probe.local import LocalRunner
from compass.probe.preload import library_name
from compass.probe.recorded import Recorded
from compass.probe.runner import Runner
from compass.probe.site import Host, Site
from compass.probe.store import LEDGER, Store, default_cache
from compass.profile import Profile
from compass.records import (
    AXES,
    STAGES,
    DatasetSummary,
    Description,
    Knobs,
    Progress,
    RuntimeChoice,
    RuntimeSettings,
    Variant,
)
from compass.records.nouns import counted
from compass.search.family import follow
from compass.search.sample_loads import make_sample_loads
from compass.search.space import architectures, data_cap, knobs_of, variants, with_tried_values
from compass.search.storage import JOURNAL, check_storage
from compass.units import format_bytes, format_count

log = logging.getLogger(__name__)

TRIED_AXES = {axis.name for axis in AXES if axis.is_tried}
"""Settings that are chosen with the runtime settings, once on a machine."""

NamedModels = Callable[[OptimizerConfig], Sequence[Knobs]]
"""Models that the user names, as a function of the configuration that the workload leaves; they need not lie in the space."""


def no_models(_: OptimizerConfig) -> Sequence[Knobs]:
    """Name no model beside those of the space."""
    return ()


# ------------------------------------------------------------------------------------------------------- the dataset


def scanned(request: Request, watch: Watch) -> Request:
    """`request` with the catalogue of its dataset, which is read now if it was not yet; unchanged if it names no dataset.

    Raises:
        InputError: the dataset cannot be read, or none of its complexes can be used.
    """
    rules = request.config.dataset
    if not rules.path or rules.catalogue:
        return request
    from compass.data.scan.scan import ScanProgress, scan_source  # not needed, and so not loaded, without a dataset

    def report(now: ScanProgress) -> None:
        watch(Progress(phase="scan", what=rules.path, n_done=now.n_done, n_expected=now.n_expected))

    catalogue = scan_source(Path(rules.path), request.config, request.cache or default_cache(), watch=report)
    found = Catalogue.open(catalogue)
    for warning in found.about.warnings:
        log.warning("%s", warning)
    if not found.usable:
        raise InputError(
            f"dataset {rules.path}",
            got=f"{len(found.rows)} complexes, none of them usable",
            expected="at least one",
            fix=f"See the problem of each complex: compass scan {rules.path}",
        )
    rules = rules.model_copy(update={"catalogue": str(catalogue)})
    return replace(request, config=request.config.model_copy(update={"dataset": rules}))


def without_catalogue(config: OptimizerConfig) -> OptimizerConfig:
    """`config` without the file that a scan wrote, which lies in the user's cache: other commands scan again, which is quick."""
    return config.model_copy(update={"dataset": config.dataset.model_copy(update={"catalogue": ""})})


def build_graphs(config: OptimizerConfig, watch: Watch) -> None:
    """Build the dataset's graphs, if there is a dataset. Training does the same first, so certificates load as training will."""
    if config.dataset.catalogue:
        from compass.data.graphs.graph_packing import pack_graphs

        def report(n_done: int, n_expected: int) -> None:
            watch(Progress(phase="scan", what="building graphs", n_done=n_done, n_expected=n_expected))

        pack_graphs(config, watch=report)


def dataset_of(config: OptimizerConfig) -> DatasetSummary | None:
    """The summary of the configured dataset; None without one."""
    if not config.dataset.catalogue:
        return None
    from compass.data.sizes import summarise_sizes

    return summarise_sizes(Catalogue.open(Path(config.dataset.catalogue)), config.dataset)


def study_place(request: Request, runner: Runner | Site | None) -> str | Path | None:
    """Where Optuna's study is written; None: nowhere, as by default of another machine.

    Raises:
        InputError: the place cannot be used. It is checked here, before anything is measured.
    """
    if request.storage is None:
        return None if runner else (request.cache or default_cache()) / JOURNAL
    check_storage(request.storage)
    return request.storage


# ------------------------------------------------------------------------------------------------------- the machine


@contextmanager
def open_experiment(
    request: Request,
    runner: Runner | Site | None,
    watch: Watch = ignore_progress,
    also: NamedModels = no_models,
    earlier: Profile | None = None,
    forecast: Forecast | None = None,
) -> Iterator[tuple[Experiment, Prober]]:
    """The experiment on this machine, and its prober; or on another site, or on a runner. Processes end with the block.

    Runtime settings that an `earlier` profile of this machine chose are not measured again. With a runner, none are, and its
    probes are not kept.
    """
    # A worker takes seconds to start. Meanwhile, this process loads the module that fitting needs.
    threading.Thread(target=importlib.import_module, args=("scipy.optimize",), daemon=True).start()
    forecast = forecast or Forecast()
    watch(Progress(phase="runtime", what="starting a worker", n_done=0, n_expected=1, in_all_s=forecast.left_s()))
    remember_workload(request.workload)
    if isinstance(runner, Site):
        with closing(_Machine(request, runner, watch, also, forecast)) as machine:
            yield machine.open_with_chosen_settings(earlier)
        return
    if runner is not None:
        with closing(runner):
            settings = first_settings(request.config, earlier, n_ranks=request.n_devices)
            experiment = make_experiment(request, runner, None, settings, also)
            yield experiment, make_prober(experiment, watch, forecast)
        return
    store = Store((request.cache or default_cache()) / LEDGER)
    here = Site(lambda settings: local_runner(request, settings), store)
    with closing(store), closing(_Machine(request, here, watch, also, forecast)) as machine:
        yield machine.open_with_chosen_settings(earlier)


class _Machine:
    """A machine, through one runner at a time: other runtime settings need another one."""

    def __init__(self, request: Request, site: Site, watch: Watch, also: NamedModels, forecast: Forecast) -> None:
        self._request, self._site, self._watch, self._also, self._forecast = request, site, watch, also, forecast
        self._runner: Runner | None = None

    def open_with_chosen_settings(self, earlier: Profile | None) -> tuple[Experiment, Prober]:
        """The experiment under the settings that `earlier` chose on this machine, else under those that are measured now."""
        config, host, n_ranks = self._request.config, self._site.host, self._request.n_devices
        experiment, prober = self._open(first_settings(config, earlier, host, n_ranks))
        config = follow(config, experiment.description.family)
        kept = kept_settings(earlier, experiment)
        if kept is None:
            # `earlier` may be of another machine, with fewer threads than this one has cores.
            experiment, prober = self._reopened(experiment, prober, first_settings(config, None, host, n_ranks))
            kept = choose_settings(experiment, prober)
        settings, choices = kept
        experiment, prober = self._reopened(experiment, prober, settings)
        if not TRIED_AXES & {choice.setting for choice in choices}:
            choices += choose_speed_settings(experiment, prober, config)
        experiment.runtime_choices = choices
        take_tried_values(experiment, config, choices)
        return experiment, prober

    def _open(self, settings: RuntimeSettings) -> tuple[Experiment, Prober]:
        self._runner = self._site.open_runner(settings)
        experiment = make_experiment(self._request, self._runner, self._site.store, settings, self._also)
        experiment.host = self._site.host
        return experiment, make_prober(experiment, self._watch, self._forecast)

    def _reopened(self, experiment: Experiment, prober: Prober, settings: RuntimeSettings) -> tuple[Experiment, Prober]:
        """The experiment under other settings, and so another fingerprint: every figure may change with them."""
        if settings == experiment.settings:
            return experiment, prober
        self.close()
        reopened, its_prober = self._open(settings)
        reopened.runner.counts.update(experiment.runner.counts)
        return reopened, its_prober

    def close(self) -> None:
        """End its processes."""
        if self._runner:
            self._runner.close()


def local_runner(request: Request, settings: RuntimeSettings) -> LocalRunner:
    """The runner of this machine."""
    return LocalRunner(
        request.config,
        settings,
        workload=request.workload,
        device=request.device,
        limit_bytes=request.memory_limit_bytes,
        n_ranks=request.n_devices,
    )


def first_settings(
    config: OptimizerConfig, earlier: Profile | None = None, host: Host | None = None, n_ranks: int = 1
) -> RuntimeSettings:
    """The settings to start with on `host`, or here, where `n_ranks` share out the cores.

    They are as configured, else as chosen in `earlier`, else those that usually win on an idle machine.
    """
    rules, allocator = config.runtime, config.stages.calibration_allocator
    n_cores = available_cores() if host is None else host.n_cores
    same = earlier is not None and earlier.config.runtime == rules and earlier.asked.devices == n_ranks
    before = earlier.calibrated_runtime if earlier and same else None
    return RuntimeSettings(
        threads=rules.threads or (before.threads if before else max(1, n_cores // n_ranks)),
        allocator=allocator,
        library=library_name(allocator) if host is None else host.library(allocator),
        waiting=rules.waiting or (before.waiting if before else "spin"),
    )


def kept_settings(
    earlier: Profile | None, experiment: Experiment
) -> tuple[RuntimeSettings, tuple[RuntimeChoice, ...]] | None:
    """The settings that `earlier` chose on this machine; None if it is of another one, or chose under other rules.

    None too if they are those to start with: then the ledger holds their trials.
    """
    if experiment.settings == first_settings(experiment.config, None, experiment.host, experiment.n_devices):
        return None
    if earlier is None or earlier.fingerprint != experiment.description.fingerprint:
        return None
    choices = tuple(choice for choice in earlier.runtime if choice.setting in {"threads", "waiting"} | TRIED_AXES)
    return (experiment.settings, choices) if choices else None


# ---------------------------------------------------------------------------------------------------- the experiment


def make_experiment(
    request: Request,
    machine: Runner,
    store: Store | None,
    settings: RuntimeSettings,
    also: NamedModels = no_models,
) -> Experiment:
    """Ask the machine for its description, read the data's sizes and count the parameters of every model.

    Raises:
        InputError: the memory limit is too low, or the space holds no model.
    """
    description = machine.describe()
    config = follow(request.config, description.family)
    config = with_tried_values(config, config, {})
    check_devices(description, request)
    check_budget(description, config)
    budget_bytes = description.hardware.budget_bytes
    for remark in description.family.remarks:
        log.warning("%s", remark)
    if description.family.own_step and request.config.batch.effective_batch not in {1, BatchRules().effective_batch}:
        log.warning("batch.effective_batch is not used: this workload makes a whole update of each batch itself")
    log.info("%s: %s may be used", description.hardware.name, format_bytes(budget_bytes))
    data = dataset_of(config)
    n_known = data.n_trained if data else description.family.n_samples or len(description.samples)
    dataset_size = request.dataset_size
    if dataset_size is None and description.family.is_stream:
        dataset_size, config = config.dataset.default_size, without_cap(config)
    elif dataset_size is None:
        dataset_size = n_known if data or n_known > 1 else config.dataset.default_size
    isolated: tuple[str, ...] = ()
    if config.dataset.oversize == "isolate" and n_known > 1:
        isolated = oversize({name: load.sizes for name, load in description.samples}, config.dataset.oversize_share)
    return Experiment(
        config=config,
        runner=Recorded(machine, store, description.fingerprint.key),
        description=description,
        sample_loads=make_sample_loads(description.samples, dataset_size, isolated, config.seed),
        settings=settings,
        capacities=model_capacities(machine, config, budget_bytes, also(config)),
        dataset_size=dataset_size,
        dataset=data,
        data_cap=data_cap(config.space.data_cap, dataset_size),
        n_devices=request.n_devices,
        n_nodes=request.n_nodes,
    )


def without_cap(config: OptimizerConfig) -> OptimizerConfig:
    """`config` for a dataset of unknown length, of which no batch is too large a share."""
    log.warning(
        "the dataset does not tell its length: an epoch is reckoned as %s samples, and no batch is too large a share of it; "
        "--dataset-size N tells",
        format_count(config.dataset.default_size),
    )
    return config.model_copy(update={"batch": config.batch.model_copy(update={"training_share": 1.0})})


def take_tried_values(experiment: Experiment, asked: OptimizerConfig, choices: Iterable[RuntimeChoice]) -> None:
    """Fix the axes that trials decide at the values of `choices` in the stages and in every model of the space."""
    texts: dict[str, str] = {choice.setting: choice.chosen for choice in choices}
    axes = [axis for axis in AXES if axis.is_tried]
    chosen = {axis.name: value for axis in axes for value in axis.values if str(value) == texts.get(axis.name)}
    experiment.config = with_tried_values(experiment.config, asked, chosen)
    rules = [experiment.config.stages[stage] for stage in STAGES]
    updates = [{axis.name: getattr(one, axis.name)[0] for axis in axes} for one in rules]
    experiment.capacities = {
        knobs.model_copy(update={"variant": knobs.variant.model_copy(update=update)}): capacity
        for knobs, capacity in experiment.capacities.items()
        for update in updates
    }


def make_prober(experiment: Experiment, watch: Watch = ignore_progress, forecast: Forecast | None = None) -> Prober:
    """A prober of the experiment's machine."""
    return Prober(
        experiment.runner, certify_again=experiment.config.probe.certify_again, watch=watch, forecast=forecast
    )


def model_capacities(
    machine: Runner, config: OptimizerConfig, budget_bytes: int, named: Sequence[Knobs]
) -> Mapping[Knobs, int]:
    """Trainable parameters of every model in the space, and of the `named` ones.

    Precision and checkpointing do not change them, so one variant of each combination of options is counted.
    """

    def count(models: Iterable[Knobs]) -> dict[Knobs, int]:
        return dict(machine.describe(list(models)).parameters)

    shapes, wanted = architectures(config.space, budget_bytes), wanted_variants(config)
    by_shape: dict[Shape, int] = {}
    for kind in {kind.options: kind for kind in reversed(wanted)}.values():
        counted = capacities(knobs_of(shapes, [kind]), count)
        by_shape.update({shape_of(knobs): capacity for knobs, capacity in counted.items()})
    in_space = {knobs: by_shape[shape_of(knobs)] for knobs in knobs_of(shapes, wanted)}
    return {**in_space, **(count(named) if named else {})}


def check_budget(description: Description, config: OptimizerConfig) -> None:
    """Refuse a budget that an idle worker nearly fills.

    Raises:
        InputError: nothing would be left for a model.
    """
    needed = description.baseline_bytes + config.memory.idle_headroom_bytes
    if description.hardware.budget_bytes < needed:
        raise InputError(
            "memory limit",
            got=format_bytes(description.hardware.budget_bytes),
            expected=f"at least {format_bytes(needed)}, of which an idle worker holds "
            f"{format_bytes(description.baseline_bytes)}",
            fix="Raise --memory-limit or free memory.",
        )


def check_devices(description: Description, request: Request) -> None:
    """Refuse more ranks than there are devices, and ranks of a workload that makes whole updates itself.

    Raises:
        InputError: these ranks cannot train together.
    """
    n_here, hardware = description.n_devices, description.hardware
    if request.n_nodes > request.n_devices == 1:
        raise InputError(
            "--nodes",
            got=f"{request.n_nodes} with one device each",
            expected="at least 2 devices on this machine, to measure how ranks wait for each other",
            fix="Add --devices 2 or more, or plan for one device and train with --nodes.",
        )
    if request.n_devices > n_here:
        what = counted(n_here, "cores" if hardware.on_host else f"{hardware.kind} devices")
        first = "" if hardware.on_host or not hardware.index else f" from {hardware.device} on"
        raise InputError(
            "--devices",
            got=str(request.n_devices),
            expected=f"at most the {what} here{first}",
            fix="Ask for fewer.",
        )
    if request.n_devices * request.n_nodes > 1 and description.family.own_step:
        raise InputError(
            "--devices",
            got=f"{request.n_devices} for a workload with a step of its own",
            expected="1, because Compass cannot average gradients inside that step",
            fix="Leave --devices out, or give the workload a loss in place of the step.",
        )


def wanted_variants(config: OptimizerConfig) -> list[Variant]:
    """Every variant that any stage chooses from."""
    return list(dict.fromkeys(variant for stage in STAGES for variant in variants(config.space, config.stages[stage])))
