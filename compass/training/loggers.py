"""The loggers of a run, by name: Lightning's own. Beside them every run writes its tables, which need none."""

from __future__ import annotations

import importlib.util
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compass.errors import InputError
from compass.training.going_on import forgive

if TYPE_CHECKING:
    from pytorch_lightning import Trainer
    from pytorch_lightning.loggers import Logger

    from compass.training.run_spec import RunSpec

LOGGER_STACK_BYTES = 512 * 1024
PROJECT = "compass"
"""The project, or the experiment, under which services file a run."""

NEEDS = {"wandb": "wandb", "mlflow": "mlflow"}
"""Logger → the package that it needs, which is an extra of the same name."""


def check_loggers(names: Sequence[str]) -> None:
    """Refuse loggers whose package is not installed.

    Raises:
        InputError: one of them is missing.
    """
    for name in names:
        package = NEEDS.get(name)
        if package is not None and importlib.util.find_spec(package) is None:
            raise InputError(
                "training.loggers",
                got=f"{name}, without the package {package}",
                expected="an installed one",
                fix=f"pip install 'compass-optimizer[{name}]', or leave it out.",
            )


def loggers_of(spec: RunSpec, folder: Path) -> list[Logger]:
    """The loggers that `training.loggers` names; what they write to disk is written into `folder`."""
    found = [(name, _MAKERS[name](folder, spec)) for name in _names(spec)]
    for name, logger in found:
        warned = set[str]()
        forgive(logger, ("log_metrics", "log_hyperparams", "save", "finalize"), _curves(name), warned)
        if name == "tensorboard":
            logger.__dict__["warned"] = warned
    return [logger for _, logger in found]


def _names(spec: RunSpec) -> list[str]:
    return list(dict.fromkeys(spec.config.training.loggers))


def start_loggers(trainer: Trainer, spec: RunSpec, entry: dict[str, float], step: int) -> None:
    """Log the run's settings and a first `entry`, so that writers start their threads before the memory ceiling is in place.

    The threads get small stacks: by default Linux reserves 8 MiB for each, which count towards the ceiling even if unused.
    """
    usual = threading.stack_size(LOGGER_STACK_BYTES)
    try:
        for name, logger in zip(_names(spec), trainer.loggers, strict=True):
            if name != "tensorboard":  # its table of settings is a plugin of its own, and wants metrics beside them
                logger.log_hyperparams(_settings(spec))
            logger.log_metrics(entry, step=step)
            if name == "tensorboard":
                _forgive_thread(logger)
    finally:
        threading.stack_size(usual)


def _curves(name: str) -> str:
    return f"the curves of {name}"


def _forgive_thread(logger: Any) -> None:
    """Keep the thread of tensorboardX alive where its file cannot be written: without it, a full queue would stop the run for ever."""
    file_writer = getattr(logger.experiment, "file_writer", None)
    events = getattr(getattr(file_writer, "event_writer", None), "_ev_writer", None)
    if events is not None:
        forgive(events, ("write_event", "flush", "close"), _curves("tensorboard"), logger.__dict__.get("warned", set()))


def _settings(spec: RunSpec) -> dict[str, Any]:
    """What tells this run from others."""
    plan = spec.plan
    knobs = plan.choice.knobs
    return {
        "stage": plan.stage,
        "workload": spec.workload,
        "layers": knobs.layers,
        "channels": knobs.channels,
        "parameters": plan.choice.capacity,
        **knobs.variant.choices,
        "batch_size": plan.choice.batch_size,
        "accumulate": plan.accumulate,
        "batching": spec.batching,
        "seed": spec.config.seed,
        "dataset": spec.config.dataset.path,
        "device": spec.device or "",
    }


def _tensorboard(folder: Path, _: RunSpec) -> Logger:
    """With a queue of any length: a full one is waited for, and if the thread that writes has died (a full disk), for ever."""
    from pytorch_lightning.loggers import TensorBoardLogger

    return TensorBoardLogger(str(folder), name="", version="tensorboard", max_queue=0)


def _csv(folder: Path, _: RunSpec) -> Logger:
    """Into a new folder: this logger deletes what it finds, and a resumed run would lose its first part."""
    from pytorch_lightning.loggers import CSVLogger

    n_before = len([path for path in folder.glob("csv_*") if path.is_dir()])
    return CSVLogger(str(folder), name="", version=f"csv_{n_before + 1}")


def _wandb(folder: Path, spec: RunSpec) -> Logger:
    """Offline, signed in or switched off as its own environment variables say (WANDB_MODE, WANDB_API_KEY)."""
    from pytorch_lightning.loggers import WandbLogger

    return WandbLogger(name=f"{spec.plan.stage} {folder.name}", save_dir=str(folder), project=PROJECT)


def _mlflow(folder: Path, spec: RunSpec) -> Logger:
    """To the server in MLFLOW_TRACKING_URI, or into a database in the run's folder."""
    from pytorch_lightning.loggers import MLFlowLogger

    place = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(folder / 'mlflow.db').resolve()}"
    return MLFlowLogger(experiment_name=PROJECT, run_name=f"{spec.plan.stage} {folder.name}", tracking_uri=place)


_MAKERS: dict[str, Callable[[Path, RunSpec], Logger]] = {
    "tensorboard": _tensorboard,
    "csv": _csv,
    "wandb": _wandb,
    "mlflow": _mlflow,
}
