"""What the user asks `compass optimize` for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compass.commands import Asked
from compass.config_files import changed_settings
from compass.errors import InputError
from compass.files import MODEL_SUFFIX
from compass.optimizer_config import OptimizerConfig
from compass.profile import PROFILE_NAME
from compass.records import STAGES, Stage

FITTED: tuple[Stage, ...] = ("production",)
"""The stage of one model as it is: no time limit, and the fastest way to train it."""


def fit_settings(
    max_batch: int | None = None,
    effective_batch: int | None = None,
    precision: str | Sequence[str] | None = None,
    epochs: int | None = None,
    layers: int | None = None,
    channels: int | None = None,
) -> dict[str, Any]:
    """The settings behind the arguments of `compass fit` that are given, by dotted key."""
    precisions = [precision] if isinstance(precision, str) else precision
    given = {
        "space.layers": None if layers is None else (layers, layers),
        "space.channels": None if channels is None else (channels, channels),
        "batch.max_batch": max_batch,
        "batch.effective_batch": effective_batch,
        "training.keep_gradients": effective_batch is not None,
        "stages.production.precision": precisions,
        "training.epochs": epochs,
    }
    return {key: value for key, value in given.items() if value is not None}


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
    n_devices: int = 1
    """Ranks on this machine, each on a device of its own; on a CPU they share out cores and memory."""
    n_nodes: int = 1
    """Machines with as many ranks each."""
    out: Path = Path(PROFILE_NAME)
    cache: Path | None = None
    """Folder of the probe store; None: the user's cache folder."""
    force: bool = False
    """Whether a profile of another workload or dataset may be replaced."""
    storage: str | None = None
    """Where Optuna's study is written: a URL or a journal's path. None: a journal beside the probe store, if there is one."""

    def __post_init__(self) -> None:
        """Make paths absolute: a profile is used from any folder.

        Raises:
            InputError: there is to be no device or no machine.
        """
        for option, number in (("--devices", self.n_devices), ("--nodes", self.n_nodes)):
            if number < 1:
                raise InputError(option, got=str(number), expected="a whole number above zero", fix="Correct it.")
        object.__setattr__(self, "config", _with_absolute_paths(self.config))
        object.__setattr__(self, "workload", absolute_source(self.workload))

    @property
    def asked(self) -> Asked:
        """The request as a profile keeps it. The file that a scan wrote is in the user's cache, and so is left out."""
        settings = changed_settings(self.config)
        settings.pop("dataset.catalogue", None)
        return Asked(
            device=self.device,
            memory_limit_bytes=self.memory_limit_bytes,
            dataset_size=self.dataset_size,
            devices=self.n_devices,
            nodes=self.n_nodes,
            settings=settings,
        )


def _with_absolute_paths(config: OptimizerConfig) -> OptimizerConfig:
    changes = {}
    for group, fields in (("dataset", ("path", "index")), ("test_bench", ("protein", "ligand"))):
        rules = getattr(config, group)
        paths = {field: str(Path(getattr(rules, field)).absolute()) for field in fields if getattr(rules, field)}
        changes[group] = rules.model_copy(update=paths)
    return config.model_copy(update=changes)


def absolute_source(workload: str) -> str:
    """`file.py:name` and the file of a model with an absolute path; any other source as it is."""
    if workload.endswith(MODEL_SUFFIX):
        return str(Path(workload).absolute())
    file, _, name = workload.rpartition(":")
    return f"{Path(file).absolute()}:{name}" if file.endswith(".py") else workload
