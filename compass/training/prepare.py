"""Before a run: find the plan, compare the profile with this machine, and collect the run's settings.

The starting process does this. The run itself is another process, under the plan's runtime settings.
"""

from __future__ import annotations

import logging
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compass.data.graphs.graph_packing import pack_graphs
from compass.data.scan.catalogue import Catalogue
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.planning.trust import check_trusted
from compass.probe.local import LocalRunner
from compass.probe.runtime import environment
from compass.profile import Profile, stale
from compass.records import DEVICE_KINDS, Fingerprint, RankShare, RuntimeSettings, Stage, StagePlan, device_kind
from compass.training.checkpoints import check_unchanged
from compass.training.loggers import check_loggers
from compass.training.run_spec import Amount, RunSpec, find_run_spec, read_run_spec, this_start

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainRequest:
    """The arguments of `compass train`."""

    profile: Profile
    stage: Stage
    config: OptimizerConfig
    """The profile's configuration, with the dataset's catalogue and the user's changes."""
    folder: Path
    amount: Amount = field(default_factory=Amount)
    batching: Literal["batch_size", "batch_budget"] | None = None
    """None: as the plan recommends."""
    device: str | None = None
    n_devices: int | None = None
    """None: as many as the plan is for."""
    n_nodes: int | None = None
    rank_bytes: tuple[int, ...] = ()
    """The largest footprint of each rank; empty: the plan's."""
    rank_speeds: tuple[float, ...] = ()
    """The speed of each rank, relative to the plan's slowest; empty: all are alike."""
    stale: bool = False
    resume: bool = False
    restart: bool = False
    """Begin anew in the folder of a run, whose files are deleted."""
    allow_changes: bool = False
    workload: str | None = None
    """The workload as the user names it; None: the profile's, if it is trusted."""
    trust: bool = False
    cache: Path | None = None


def prepare(request: TrainRequest) -> RunSpec:
    """The settings of the run that `request` asks for.

    Raises:
        InputError: the profile has no such plan or does not match this machine, the folder does not suit, Lightning does not
            support the device, or settings changed since the run that is to be resumed.
        WorkerError: no worker can be started on this machine.
    """
    plan = request.profile.plan(request.stage)
    check_trusted(request.profile.workload, named=request.workload, trust=request.trust)
    check_folder(request)
    check_loggers(request.config.training.loggers)
    device = supported_device(request)
    runtime = runtime_of(plan, request)
    fingerprint = check_fresh(request)
    before = earlier_run(request)
    n_nodes = request.n_nodes or (1 if plan.ranks is None else plan.ranks.n_nodes)
    shares = shares_of_ranks(plan, request, n_local(plan, request) * n_nodes)
    spec = RunSpec(
        plan=plan.model_copy(update={"runtime": runtime}),
        workload=request.profile.workload,
        noun=request.profile.noun,
        config=request.config,
        fingerprint=fingerprint,
        dataset=_prepared_dataset(request.config),
        budget_bytes=plan.certificate.ceiling_bytes,
        ceiling=plan.certificate.enforced,
        batching="batch_budget" if shares else request.batching or (before.batching if before else plan.recommended),
        loader_workers=plan.loader_workers,
        amount=_amount(request, before),
        device=device,
        n_devices=n_local(plan, request),
        n_nodes=n_nodes,
        shares=shares,
        stale=request.stale,
        resume=request.resume and not request.restart,
        allow_changes=request.allow_changes,
        profile=str(request.profile.path or ""),
        again=request.profile.again(request.stage),
        started_by=this_start(),
        cache="" if request.cache is None else str(request.cache),
    )
    if before and must_agree(request):  # before these settings replace the old ones
        check_unchanged(before, spec)
        if spec.amount != before.amount:
            log.info("the run is extended; the learning rate follows the longer schedule from here on")
    return spec


def earlier_run(request: TrainRequest) -> RunSpec | None:
    """The settings of the run that is resumed or begun anew, which apply where the request says nothing; None for a new run.

    Raises:
        InputError: they cannot be read, and must not change.
    """
    if not (request.resume or request.restart) or find_run_spec(request.folder) is None:
        return None
    try:
        before = read_run_spec(request.folder)
    except InputError:
        if must_agree(request):
            raise
        return None
    return before if request.resume or is_of_plan(before, request.profile, request.stage) else None


def is_of_plan(before: RunSpec, profile: Profile, stage: Stage) -> bool:
    """Whether a run trains the plan of `profile`. If it does not, a run that begins anew takes none of its settings."""
    return stage in profile.plans and before.plan.certificate == profile.plans[stage].certificate


def must_agree(request: TrainRequest) -> bool:
    """Whether the request may only extend the run."""
    return request.resume and not request.restart and not request.allow_changes


def _amount(request: TrainRequest, before: RunSpec | None) -> Amount:
    if before is None:
        return request.amount
    if must_agree(request):
        return before.amount.continued(request.amount, request.config.training.epochs)
    return before.amount if request.amount == Amount() else request.amount


def process_environment(spec: RunSpec) -> dict[str, str]:
    """The environment of the run's processes: the plan's threads and allocator, as in its measurement."""
    return environment(spec.plan.runtime)


def supported_device(request: TrainRequest) -> str:
    """The device to train on.

    Raises:
        InputError: Lightning does not support it.
    """
    device = request.device or request.profile.hardware.device
    if not device_kind(device).trains:
        supported = ", ".join(kind.name for kind in DEVICE_KINDS.values() if kind.trains)
        raise InputError(
            "--device",
            got=device,
            expected=f"one of {supported}, which Lightning supports",
            fix="Use the plan in your own training loop: `compass export`.",
        )
    return device


def check_folder(request: TrainRequest) -> None:
    """Refuse a folder that already holds a run or, with `resume`, one that holds none.

    Raises:
        InputError: the folder does not suit.
    """
    has_begun = (request.folder / "checkpoints").is_dir()
    if has_begun and not (request.resume or request.restart):
        raise InputError(
            f"run folder {request.folder}",
            got="one that holds a run",
            expected="a new one",
            fix="Continue that run with --resume, begin it anew with --restart, or choose another --out.",
        )
    again = "restart" if request.restart else "resume"
    if (request.resume or request.restart) and find_run_spec(request.folder) is None:
        raise InputError(
            f"run folder {request.folder}",
            got=f"no run to {again}",
            expected="the folder of a run",
            fix=f"Leave out --{again}, or check --out.",
        )


def runtime_of(plan: StagePlan, request: TrainRequest) -> RuntimeSettings:
    """The plan's runtime settings; several processes on one CPU share its threads."""
    n_planned, n_wanted = 1 if plan.ranks is None else plan.ranks.n_devices, n_local(plan, request)
    if not request.profile.hardware.on_host or n_wanted == n_planned:
        return plan.runtime
    return plan.runtime.model_copy(update={"threads": max(1, plan.runtime.threads * n_planned // n_wanted)})


def n_local(plan: StagePlan, request: TrainRequest) -> int:
    """Processes on this machine: torchrun's, those that the request names, or those of the plan."""
    planned = 1 if plan.ranks is None else plan.ranks.n_devices
    return int(os.environ.get("LOCAL_WORLD_SIZE", request.n_devices or planned))


def shares_of_ranks(plan: StagePlan, request: TrainRequest, n_ranks: int) -> tuple[RankShare, ...]:
    """What each of `n_ranks` may hold and how fast it is; empty if all are alike.

    Raises:
        InputError: the request names another number of ranks, or no memory or no speed for one.
    """
    if not request.rank_bytes and not request.rank_speeds:
        planned = () if plan.ranks is None else plan.ranks.shares
        return planned if len(planned) == n_ranks else ()
    for option, values in (("--rank-memory", request.rank_bytes), ("--rank-speed", request.rank_speeds)):
        if values and len(values) != n_ranks:
            raise InputError(
                option,
                got=f"{len(values)} values",
                expected=f"one for each of {n_ranks} ranks",
                fix="Name as many, or change --devices.",
            )
    for option, values in (("--rank-memory", request.rank_bytes), ("--rank-speed", request.rank_speeds)):
        for value in values:
            if not 0 < value < math.inf:
                raise InputError(
                    option, got=f"{value:g}", expected="a number above 0 for each rank", fix="Name what each rank has."
                )
    sizes = request.rank_bytes or (plan.certificate.ceiling_bytes,) * n_ranks
    speeds = request.rank_speeds or (1.0,) * n_ranks
    return tuple(RankShare(budget_bytes=size, speed=speed) for size, speed in zip(sizes, speeds, strict=True))


def check_fresh(request: TrainRequest) -> Fingerprint:
    """The fingerprint of this machine, after comparing it with the profile's.

    Raises:
        InputError: hardware, versions or data differ, and the request does not say `stale`.
        WorkerError: no worker can be started on this machine.
    """
    profile = request.profile
    settings = profile.calibrated_runtime or RuntimeSettings(threads=1)
    runner = LocalRunner(
        request.config, settings, workload=profile.workload, device=request.device or profile.hardware.device
    )
    try:
        description = runner.describe()
    finally:
        runner.close()
    differences = stale(profile, description)
    if differences and not request.stale:
        raise InputError(
            "profile",
            got=f"one that does not match this machine ({'; '.join(differences)})",
            expected="one measured here, on this data and with these versions",
            fix=f"Run `{profile.again()}`, repeat its certificates with `{profile.verified_anew}`, or pass --stale.",
        )
    return description.fingerprint


def _prepared_dataset(config: OptimizerConfig) -> str:
    """The dataset's digest, after building its graphs; empty without a dataset.

    Building them here keeps the memory that it takes out of the run's process.
    """
    if not config.dataset.catalogue:
        return ""
    pack_graphs(config)
    return Catalogue.open(Path(config.dataset.catalogue)).digest
