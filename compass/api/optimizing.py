"""`compass.optimize`, `compass.estimate` and `compass.verify`: plan, predict, repeat the proof."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from compass.api.arguments import (
    AnyPath,
    WorkloadSource,
    bytes_of,
    check_count,
    config_of,
    path_of,
    profile_of,
    source_of,
    stages_of,
)
from compass.estimating import Question
from compass.estimating import estimate as answer
from compass.optimizer import Request
from compass.optimizer import optimize as run
from compass.optimizer_config import OptimizerConfig
from compass.planning.trust import check_trusted
from compass.probe.runner import Runner
from compass.profile import PROFILE_NAME, Profile
from compass.records import STAGES, Allocator, Estimates, Progress, Scalar, Stage
from compass.verifying import VerifyReport
from compass.verifying import verify as repeat


def optimize(  # noqa: PLR0913 - all are named
    workload: WorkloadSource | Request = "visnet",
    *,
    config: OptimizerConfig | AnyPath | None = None,
    settings: Mapping[str, Any] | None = None,
    stages: Stage | Iterable[Stage] = STAGES,
    dataset: AnyPath | None = None,
    index: AnyPath | None = None,
    dataset_size: int | None = None,
    memory_limit: int | str | None = None,
    device: str | None = None,
    devices: int = 1,
    nodes: int = 1,
    out: AnyPath = Request.out,
    cache: AnyPath | None = None,
    force: bool = False,
    runner: Runner | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Profile:
    """Find and certify a plan for each stage, write the profile after each stage, and return it.

    Args:
        workload: the model family to train. A `Request` replaces all other arguments but `runner` and `watch`.
        config: settings, or the path of a file with settings.
        settings: single settings by dotted key, e.g. `{"space.layers": (2, 6)}`.
        stages: the stages to plan.
        dataset: a PDBbind-style folder, or a CSV or Parquet manifest.
        index: the index file of the dataset; by default it is searched for in the folder.
        dataset_size: number of training samples.
        memory_limit: the most that training may use, in bytes or as a size such as `"6GiB"`.
        device: a torch device; by default an accelerator if there is one, else the CPU.
        devices: devices that train together; on a CPU, shares of its cores and memory.
        nodes: machines like this one, with as many devices each.
        out: path of the profile.
        cache: folder of cached probes.
        force: replace a profile of another workload or dataset; a copy is kept.
        runner: a machine other than this one, simulated or remote; see `compass.probe.runner`.
        watch: called with the progress.

    Raises:
        InputError: an argument or setting cannot be used.
        WorkerError: no probe can be made on this machine.
    """
    if isinstance(workload, Request):
        return run(workload, runner=runner, watch=watch)
    check_count("dataset_size", dataset_size)
    request = Request(
        config=config_of(config, settings, path=dataset, index=index),
        stages=stages_of(stages),
        workload=source_of(workload),
        device=device,
        memory_limit_bytes=bytes_of(memory_limit),
        dataset_size=dataset_size,
        n_devices=devices,
        n_nodes=nodes,
        out=Path(out).expanduser(),
        cache=path_of(cache),
        force=force,
    )
    return run(request, runner=runner, watch=watch)


def estimate(  # noqa: PLR0913 - all are named
    workload: WorkloadSource = "visnet",
    *,
    layers: int | None = None,
    channels: int | None = None,
    batch: int | None = None,
    axes: Mapping[str, Scalar] | None = None,
    allocator: Allocator | None = None,
    epochs: int = Question.epochs,
    config: OptimizerConfig | AnyPath | None = None,
    settings: Mapping[str, Any] | None = None,
    dataset_size: int | None = None,
    memory_limit: int | str | None = None,
    device: str | None = None,
    cache: AnyPath | None = None,
    runner: Runner | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Estimates:
    """Predict memory, step, cycle, epoch and training time of one model or, without layers and channels, of the whole space.

    Only the calibration is run, and only if the cache holds none from an earlier run.

    Args:
        workload: the model family.
        layers: depth of the model.
        channels: its width.
        batch: graphs per batch; by default the most whose upper bound fits.
        axes: values of other axes by name, e.g. `{"precision": "bf16", "checkpointing": True}`.
        allocator: that training would use; by default the calibration's.
        epochs: of the whole training.
        config: settings, or the path of a file with settings.
        settings: single settings by dotted key.
        dataset_size: number of training samples, for the times of an epoch and of the training.
        memory_limit: the most that training may use, in bytes or as a size such as `"6GiB"`.
        device: a torch device; by default an accelerator if there is one, else the CPU.
        cache: folder of cached probes.
        runner: a machine other than this one; see `compass.probe.runner`.
        watch: called with the progress.

    Raises:
        InputError: an argument cannot be used, or none of the models runs here.
        WorkerError: no probe can be made on this machine.
    """
    check_count("dataset_size", dataset_size)
    request = Request(
        config=config_of(config, settings),
        workload=source_of(workload),
        device=device,
        memory_limit_bytes=bytes_of(memory_limit),
        dataset_size=dataset_size,
        cache=path_of(cache),
    )
    question = Question(layers, channels, batch, axes or {}, allocator, epochs)
    return answer(request, question, runner=runner, watch=watch)


def verify(  # noqa: PLR0913 - all are named
    profile: Profile | AnyPath = PROFILE_NAME,
    stages: Stage | Iterable[Stage] = (),
    *,
    device: str | None = None,
    workload: WorkloadSource | None = None,
    trust: bool = False,
    cache: AnyPath | None = None,
    runner: Runner | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> VerifyReport:
    """Repeat the certificates of a profile, and compare memory and time with its plans; `.holds` is the answer.

    Args:
        profile: a profile, or its path.
        stages: the stages to check; by default every one that has a plan.
        device: a torch device; by default the profile's.
        workload: the profile's workload, named by you: its code runs only if you have named it, now or before.
        trust: run the workload's code although you never named it.
        cache: folder of cached probes.
        runner: a machine other than this one; see `compass.probe.runner`.
        watch: called with the progress.

    Raises:
        InputError: there is no such plan, or the dataset of the profile cannot be read.
        WorkerError: no probe can be made on this machine.
    """
    wanted = stages_of(stages) if stages else ()
    given = profile_of(profile)
    if runner is None:
        check_trusted(given.workload, named=None if workload is None else source_of(workload), trust=trust)
    return repeat(given, wanted, device=device, cache=path_of(cache), runner=runner, watch=watch)
