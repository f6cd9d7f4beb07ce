"""Before a run: the plan is found, what it holds for is compared with what is here, and the order is written.

This is the starting process's part; it loads no torch. The run itself is a process under the plan's runtime settings.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from compass.data.graphs.graph_packing import pack_graphs
from compass.data.scan.catalogue import Catalogue
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.probe.local import LocalRunner
from compass.probe.runtime import environment
from compass.profile import Profile, stale
from compass.records import DEVICE_KINDS, Fingerprint, RuntimeSettings, Stage, StagePlan, device_kind
from compass.training.checkpoints import check_unchanged
from compass.training.run_spec import ORDER, Amount, RunSpec, read_run_spec, this_start


@dataclass(frozen=True)
class TrainRequest:
    """What the user asks for."""

    profile: Profile
    stage: Stage
    config: OptimizerConfig
    """The profile's, with the dataset's catalogue and what training itself may change."""
    folder: Path
    amount: Amount = field(default_factory=Amount)
    batching: Literal["batch_size", "batch_budget"] | None = None
    """None: as the plan recommends."""
    device: str | None = None
    n_devices: int = 1
    n_nodes: int = 1
    stale: bool = False
    resume: bool = False
    allow_changes: bool = False
    cache: Path | None = None


def prepare(request: TrainRequest) -> RunSpec:
    """The order for `request`.

    Raises:
        InputError: there is no such plan, it was measured on something else, or the folder holds another run.
    """
    plan = request.profile.plan(request.stage)
    check_folder(request)
    device = request.device or request.profile.hardware.device
    if not device_kind(device).trains:
        trained_on = ", ".join(kind.name for kind in DEVICE_KINDS.values() if kind.trains)
        raise InputError("--device", got=device, expected=f"one of {trained_on}: Lightning trains on no other device",
                         fix="Hand the plan to a loop of your own: `compass export`.")  # fmt: skip
    runtime = runtime_of(plan, request)
    fingerprint = check_fresh(request)
    if request.config.dataset.catalogue:
        pack_graphs(request.config)  # before the run's own process: what building takes must not be in its footprint
    spec = RunSpec(
        plan=plan.model_copy(update={"runtime": runtime}),
        workload=request.profile.workload,
        config=request.config,
        fingerprint=fingerprint,
        dataset=Catalogue.open(Path(request.config.dataset.catalogue)).digest
        if request.config.dataset.catalogue
        else "",
        budget_bytes=plan.certificate.ceiling_bytes,
        ceiling=plan.certificate.enforced,
        batching=request.batching or plan.recommended,
        loader_workers=plan.loader_workers,
        amount=request.amount,
        device=device,
        n_devices=int(os.environ.get("LOCAL_WORLD_SIZE", request.n_devices)),
        n_nodes=request.n_nodes,
        stale=request.stale,
        resume=request.resume,
        allow_changes=request.allow_changes,
        started_by=this_start(),
        cache="" if request.cache is None else str(request.cache),
    )
    if request.resume and not request.allow_changes:  # before it is written in the other's place
        check_unchanged(read_run_spec(request.folder), spec)
    return spec


def process_environment(spec: RunSpec) -> dict[str, str]:
    """What the run's processes start with: the plan's threads and allocators, as they were measured."""
    return environment(spec.plan.runtime)


def check_folder(request: TrainRequest) -> None:
    """Make sure that a run is started in a folder of its own, or goes on in one that has begun."""
    has_begun = (request.folder / "checkpoints").is_dir()
    if has_begun and not request.resume:
        raise InputError(f"run folder {request.folder}", got="one that holds a run", expected="a new one",
                         fix="Go on with it by --resume, or choose another --out.")  # fmt: skip
    if request.resume and not (request.folder / ORDER).exists():
        raise InputError(f"run folder {request.folder}", got="no run to go on with", expected="one that has begun",
                         fix="Leave out --resume, or check --out.")  # fmt: skip


def runtime_of(plan: StagePlan, request: TrainRequest) -> RuntimeSettings:
    """The plan's settings; several processes on one machine share its threads."""
    n_local = int(os.environ.get("LOCAL_WORLD_SIZE", request.n_devices))
    if not request.profile.hardware.on_host or n_local == 1:
        return plan.runtime
    return plan.runtime.model_copy(update={"threads": max(1, plan.runtime.threads // n_local)})


def check_fresh(request: TrainRequest) -> Fingerprint:
    """What is here, if it is what the profile was measured on, or the user knows better.

    Raises:
        InputError: the profile is stale.
        WorkerError: no worker can be started here.
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
            "profile", got=f"one of something else ({'; '.join(differences)})", expected="one that was measured here",
            fix="Run `compass optimize` anew, see `compass verify`, or use it all the same with --stale.",
        )  # fmt: skip
    return description.fingerprint
