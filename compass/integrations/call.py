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


def optimize(  # noqa: PLR0913 - what a person may want to say
    workload: WorkloadSource | Request = "visnet",
    *,
    config: OptimizerConfig | Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    stages: Iterable[Stage] = STAGES,
    dataset_size: int | None = None,
    memory_limit: int | str | None = None,
    device: str | None = None,
    out: Path | str = Request.out,
    cache: Path | str | None = None,
    runner: Runner | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Profile:
    """Find and certify a plan for each stage, write the profile after each, and return it.

    Args:
        workload: what is trained; a `Request` says everything at once, and nothing else is looked at then.
        config: settings, or the file they are in.
        settings: single settings by dotted key, e.g. `{"space.layers": (2, 6)}`.
        stages: which.
        dataset_size: samples to train on.
        memory_limit: bytes, or a size such as `"6GiB"`: the most that training may hold.
        device: `cuda`, `xpu`, `mps` or `cpu`; the best there is by default.
        out: where the profile is written.
        cache: folder of the probes that are kept for next time.
        runner: another machine than this one, simulated or remote; see `compass.probe.runner`.
        watch: called with what is going on.

    Raises:
        InputError: something cannot be used.
        WorkerError: no probe can be made on this machine.
    """
    if isinstance(workload, Request):
        return run(workload, runner=runner, watch=watch)
    if dataset_size is not None and dataset_size < 1:
        raise InputError("dataset_size", got=repr(dataset_size), expected="a whole number above zero",
                         fix="Give the number of samples you train on.")  # fmt: skip
    request = Request(
        config=config_of(config, settings or {}),
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
        raise InputError("stages", got=repr(given), expected=f"one or more of {', '.join(STAGES)}",
                         fix="Name them so.")  # fmt: skip
    return tuple(stage for stage in STAGES if stage in wanted)


def config_of(config: OptimizerConfig | Path | str | None, settings: Mapping[str, Any]) -> OptimizerConfig:
    """The configuration that is given, with `settings` changed."""
    given = [SettingChange(f"settings[{key!r}]", key, value) for key, value in settings.items()]
    if isinstance(config, OptimizerConfig):
        return load_config(None, given, config)
    return load_config(None if config is None else Path(config), given)


def source_of(workload: WorkloadSource) -> str:
    """What a worker, which is another process, finds `workload` by.

    Raises:
        InputError: it is in no file, or within a function.
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
            "workload", got=repr(workload), expected="a class or function at the top of a file",
            fix="Move it to a file of its own: a worker process imports it from there.",
        )  # fmt: skip
    return f"{Path(file).resolve()}:{name}"
