"""A plan for a Lightning `Trainer` of the user."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch

from compass.errors import InputError
from compass.integrations.settings import trainer_settings
from compass.profile import Profile
from compass.records import Stage


class FollowPlan(pl.Callback):
    """Makes a trainer follow the plan of a stage: `Trainer(callbacks=[compass.FollowPlan(profile, "production")])`.

    Accumulation, gradient clipping and threads are set, and `batch_size` of the module or data module, where it has one.
    Precision can be set only in the trainer's constructor, so it is compared.

    Raises:
        InputError: the profile has no plan for the stage; when training starts, the precision differs from the certified
            one, or the batches are larger.
    """

    def __init__(self, profile: Profile, stage: Stage) -> None:
        super().__init__()
        self.plan = profile.plan(stage)
        self.settings = trainer_settings(profile, stage)

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Compare the precision, and set everything else before data is loaded."""
        del stage
        if str(trainer.precision) != self.settings["precision"]:
            raise InputError(
                "the trainer's precision",
                got=str(trainer.precision),
                expected=self.settings["precision"],
                fix="Make it with Trainer(**compass.trainer_settings(profile, stage)).",
            )
        if self.plan.ranks is not None and trainer.world_size != self.plan.n_ranks:
            raise InputError(
                "the trainer's devices",
                got=f"{trainer.world_size} processes",
                expected=f"the {self.plan.n_ranks} of the plan",
                fix="Make it with Trainer(**compass.trainer_settings(profile, stage)).",
            )
        trainer.accumulate_grad_batches = self.settings["accumulate_grad_batches"]
        trainer.gradient_clip_val = self.settings["gradient_clip_val"]
        torch.set_num_threads(self.plan.runtime.threads)
        for holder in (pl_module, getattr(trainer, "datamodule", None)):
            if holder is not None and hasattr(holder, "batch_size"):
                holder.batch_size = self.plan.choice.batch_size

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Refuse batches larger than the certified one."""
        del pl_module
        for loader in _loaders(trainer.train_dataloader):
            size = getattr(loader, "batch_size", None)
            if isinstance(size, int) and size > self.plan.choice.batch_size:
                raise InputError(
                    "the training loader's batch size",
                    got=str(size),
                    expected=f"at most the certified {self.plan.choice.batch_size}",
                    fix="Give the loader plan.choice.batch_size.",
                )
            self._check_last_batch(loader)

    def _check_last_batch(self, loader: Any) -> None:
        """Refuse a last batch that is too small for the model: a layer that normalises over samples needs two."""
        size, dataset = getattr(loader, "batch_size", None), getattr(loader, "dataset", ())
        if not isinstance(size, int) or not hasattr(dataset, "__len__") or getattr(loader, "drop_last", False):
            return
        rest = len(dataset) % size
        if 0 < rest < self.plan.least_batch:
            raise InputError(
                "the training loader's last batch",
                got=f"{rest} of {len(dataset)} samples",
                expected=f"at least {self.plan.least_batch}, since a layer normalises over the samples of a batch",
                fix="Make the loader with drop_last=True.",
            )


def _loaders(loaders: Any) -> list[Any]:
    if isinstance(loaders, dict):
        return list(loaders.values())
    return list(loaders) if isinstance(loaders, list | tuple) else [loaders]
