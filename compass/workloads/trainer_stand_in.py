"""A trainer's place in a LightningModule that no trainer runs: the numbers that steps and optimizers ask it for, and a logger."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NUMBERS: dict[str, Any] = {
    "max_epochs": 1,
    "min_epochs": None,
    "max_steps": -1,
    "current_epoch": 0,
    "global_step": 0,
    "global_rank": 0,
    "local_rank": 0,
    "node_rank": 0,
    "world_size": 1,
    "num_devices": 1,
    "num_nodes": 1,
    "is_global_zero": True,
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "gradient_clip_algorithm": None,
    "training": True,
    "is_last_batch": False,
    "sanity_checking": False,
    "fast_dev_run": False,
    "progress_bar_callback": None,
}
"""As at the first batch of a training of one epoch, on one device."""


class TrainerStandIn:
    """What Lightning's trainer would say at the first batch of an epoch of `n_batches`."""

    def __init__(self, n_batches: int) -> None:
        vars(self).update(_NUMBERS)
        self.num_training_batches = self.estimated_stepping_batches = n_batches
        self.logger = _silent_logger()
        self.loggers = [] if self.logger is None else [self.logger]
        self.callbacks: list[Any] = []
        self.callback_metrics: dict[str, Any] = {}
        self.logged_metrics: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"trainer.{name} is not known where no trainer runs the step, as in the probes of Compass")


@contextmanager
def attached(module: Any, trainer: TrainerStandIn) -> Iterator[None]:
    """`module` has `trainer` for the time being, unless it has one."""
    has_one = getattr(module, "_trainer", None) is not None
    if not has_one:
        module.trainer = trainer
    try:
        yield
    finally:
        if not has_one:
            module.trainer = None


class IdleSchedule:
    """A learning-rate scheduler that a step may ask and call, and that changes nothing."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler

    def step(self, *_: Any, **__: Any) -> None:
        """The learning rate follows Compass's schedule."""

    def __getattr__(self, name: str) -> Any:
        if name == "_scheduler":  # while it is copied
            raise AttributeError(name)
        return getattr(self._scheduler, name)


def _silent_logger() -> Any:
    """Lightning's logger that keeps nothing, from whichever of its packages is loaded."""
    for package in ("pytorch_lightning", "lightning.pytorch"):
        module = sys.modules.get(f"{package}.loggers.logger")
        if module is not None:
            return module.DummyLogger()
    return None
