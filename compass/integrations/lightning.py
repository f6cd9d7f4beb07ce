"""A plan for someone's own Lightning `Trainer`."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from compass.errors import InputError
from compass.integrations.settings import trainer_settings
from compass.profile import Profile
from compass.records import Stage


class FollowPlan(pl.Callback):
    """Has a trainer that was made without the plan follow it: `Trainer(callbacks=[compass.FollowPlan(profile, "production")])`.

    Accumulation, gradient clipping and threads are set; the module gets `batch_size`, which Lightning's data modules
    look for. What can only be said when a trainer is made, precision, is compared.

    Raises:
        InputError: the profile has no plan for the stage; when training starts, precision or batches are others than
            was proven.
    """

    def __init__(self, profile: Profile, stage: Stage) -> None:
        super().__init__()
        self.plan = profile.plan(stage)
        self.settings = trainer_settings(profile, stage)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Set what can be set before anything is loaded."""
        del stage
        if str(trainer.precision) != self.settings["precision"]:
            raise InputError("the trainer's precision", got=str(trainer.precision), expected=self.settings["precision"],
                             fix="Make it with Trainer(**compass.trainer_settings(profile, stage)).")  # fmt: skip
        trainer.accumulate_grad_batches = self.settings["accumulate_grad_batches"]
        trainer.gradient_clip_val = self.settings["gradient_clip_val"]
        torch.set_num_threads(self.plan.runtime.threads)
        for holder in (pl_module, getattr(trainer, "datamodule", None)):
            if holder is not None and hasattr(holder, "batch_size"):
                holder.batch_size = self.plan.choice.batch_size

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse batches larger than what was proven."""
        del pl_module
        for loader in _loaders(trainer.train_dataloader):
            size = getattr(loader, "batch_size", None)
            if isinstance(size, int) and size > self.plan.choice.batch_size:
                raise InputError("the training loader's batch size", got=str(size),
                                 expected=f"at most {self.plan.choice.batch_size}, which was proven",
                                 fix="Give the loader plan.choice.batch_size.")  # fmt: skip


def _loaders(loaders: Any) -> list[Any]:
    if isinstance(loaders, dict):
        return list(loaders.values())
    return list(loaders) if isinstance(loaders, list | tuple) else [loaders]
