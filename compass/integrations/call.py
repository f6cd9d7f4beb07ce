"""`compass.optimize`: the optimizer as a function call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from compass.config_files import SettingChange, load_config
from compass.errors import InputError
from compass.optimizer import Request
from compass.optimizer import optimize as run
from compass.optimizer_config import OptimizerConfig
from compass.probe.runner import Runner
from compass.profile import Profile
from compass.records import STAGES, Progress, Stage
from compass.units import parse_bytes

WorkloadSource = str | type | Callable[..., Any]
"""A family's name, `package.module:factory`, `path/to/file.py:factory`, or the class or function itself."""


def optimize(  # noqa: PLR0913 - all are named
    workload: WorkloadSource | Request = "visnet",
    *,
    config: OptimizerConfig | Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    stages: Iterable[Stage] = STAGES,
    dataset: Path | str | None = None,
    dataset_size: int | None = None,
    memory_limit: int | str | None = None,
    device: str | None = None,
    out: Path | str = Request.out,
    cache: Path | str | None = None,
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
        dataset_size: number of training samples.
        memory_limit: the most that training may use, in bytes or as a size such as `"6GiB"`.
        device: a torch device; by default an accelerator if there is one, else the CPU.
        out: path of the profile.
        cache: folder of cached probes.
        runner: a machine other than this one, simulated or remote; see `compass.probe.runner`.
        watch: called with the progress.

    Raises:
        InputError: an argument or setting cannot be used.
        WorkerError: no probe can be made on this machine.
    """
    if isinstance(workload, Request):
        return run(workload, runner=runner, watch=watch)
    if dataset_size is not None and dataset_size < 1:
        raise InputError(
            "dataset_size",
            got=repr(dataset_size),
            expected="a whole number above zero",
            fix="Give the number of samples you train on.",
        )
    request = Request(
        config=config_of(config, {**(settings or {}), **({} if dataset is None else {"dataset.path": str(dataset)})}),
        stages=_stages(stages),
        workload=source_of(workload),
        device=device,
        memory_limit_bytes=parse_bytes(memory_limit, where="memory_limit")
        if isinstance(memory_limit, str)
        else memory_limit,
        dataset_size=dataset_size,
        out=Path(out),
        cache=None if cache is None else Path(cache),
    )
    return run(request, runner=runner, watch=watch)


def _stages(given: Iterable[Stage]) -> tuple[Stage, ...]:
    wanted = (given,) if isinstance(given, str) else tuple(given)
    if not wanted or set(wanted) - set(STAGES):
        raise InputError("stages", got=repr(given), expected=f"one or more of {', '.join(STAGES)}", fix="Name them so.")
    return tuple(stage for stage in STAGES if stage in wanted)


def config_of(config: OptimizerConfig | Path | str | None, settings: Mapping[str, Any]) -> OptimizerConfig:
    """The given configuration, changed by `settings`."""
    given = [SettingChange(f"settings[{key!r}]", key, value) for key, value in settings.items()]
    if isinstance(config, OptimizerConfig):
        return load_config(None, given, config)
    return load_config(None if config is None else Path(config), given)


def source_of(workload: WorkloadSource) -> str:
    """The text by which a worker process finds `workload`: a family's name, or `file.py:name`.

    Raises:
        InputError: it is not defined in a file, or is defined inside a function.
    """
    if isinstance(workload, str):
        return workload
    name = getattr(workload, "__qualname__", "")
    try:
        file = inspect.getsourcefile(workload)
    except TypeError:
        file = None
    if file is None or not name or "<" in name or not Path(file).is_file():
        raise InputError(
            "workload",
            got=repr(workload),
            expected="a class or function at the top of a file",
            fix="Move it to a file of its own: a worker process imports it from there.",
        )
    return f"{Path(file).resolve()}:{name}"
