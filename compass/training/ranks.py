"""One process or several: who this one is, and Lightning's trainer for it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from compass.errors import InputError
from compass.records import device_kind

if TYPE_CHECKING:
    from compass.training.run_callback import RunCallback
    from compass.training.run_spec import RunSpec


LOGGER_STACK_BYTES = 512 * 1024


@dataclass(frozen=True)
class Ranks:
    """The processes that train together."""

    n: int
    rank: int
    local: int = 0
    """Among those of this machine."""

    @property
    def together(self) -> bool:
        """Whether there are several, and they can be spoken to."""
        return self.n > 1 and torch.distributed.is_available() and torch.distributed.is_initialized()

    def share(self, ids: Sequence[str]) -> Sequence[str]:
        """This process's part; all, where it is alone."""
        return ids[self.rank :: self.n] if self.together else ids

    def gathered(self, answers: dict[str, float]) -> dict[str, float]:
        """The answers of all."""
        if not self.together:
            return answers
        found: list[Any] = [None] * self.n
        torch.distributed.all_gather_object(found, answers)
        return {name: value for part in found for name, value in part.items()}


def ranks_of(spec: RunSpec) -> Ranks:
    """As torchrun or Lightning's launcher say in the environment; the first process before that is rank 0."""
    wanted = spec.n_devices * spec.n_nodes
    n = int(os.environ.get("WORLD_SIZE", wanted))
    if wanted > 1 and "WORLD_SIZE" not in os.environ and os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        raise InputError("--devices", got="several processes that srun started", expected="one, or several by torchrun",
                         fix="Give srun one task a node, and have that start `torchrun`.")  # fmt: skip
    local, node = (
        int(os.environ.get("LOCAL_RANK", "0")),
        int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))),
    )
    rank = int(os.environ.get("RANK", node * spec.n_devices + local))
    if rank >= n:
        raise InputError("--devices", got=f"rank {rank} of {n} processes", expected="as many as there are processes",
                         fix="Give the same --devices and --nodes as to torchrun.")  # fmt: skip
    return Ranks(n, rank, local)


def start_loggers(trainer: pl.Trainer, entry: dict[str, float], step: int) -> None:
    """Write a first `entry`, before the ceiling is in place: with it TensorBoard's writer starts its threads.

    They write lines, and the eight megabytes that Linux gives a thread's stack count as data, used or not.
    """
    usual = threading.stack_size(LOGGER_STACK_BYTES)
    try:
        for logger in trainer.loggers:
            logger.log_metrics(entry, step=step)
    finally:
        threading.stack_size(usual)


def lightning_trainer(spec: RunSpec, ranks: Ranks, device: str, folder: Path, callback: RunCallback) -> pl.Trainer:
    """One pass over the stream; data, steps, checkpoints and progress are ours.

    Who the processes are is what `ranks` read too, and not what Lightning makes of a batch system's variables.
    """
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from pytorch_lightning.loggers import TensorBoardLogger
    from pytorch_lightning.strategies import DDPStrategy

    for name in ("pytorch_lightning", "lightning.pytorch"):  # its advice is for those who configure it
        logging.getLogger(name).setLevel(logging.ERROR)
    kind, index = device_kind(device), int(device.partition(":")[2] or 0)
    several = ranks.n > 1
    n_local = ranks.n // spec.n_nodes
    strategy: Any = "auto"
    if several:
        # Buckets that are the gradients: DDP then holds no third copy of them.
        strategy = DDPStrategy(
            process_group_backend=kind.distributed_backend, gradient_as_bucket_view=True, broadcast_buffers=False
        )
    return pl.Trainer(
        accelerator=kind.lightning_accelerator,
        plugins=[TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()],
        devices=[index] if kind.has_index and not several else n_local,
        num_nodes=spec.n_nodes,
        strategy=strategy,
        max_epochs=1,
        min_epochs=0,
        callbacks=[callback],
        logger=TensorBoardLogger(str(folder), name="", version="tensorboard"),
        default_root_dir=str(folder),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
