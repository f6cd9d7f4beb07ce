"""The processes that train together, and Lightning's trainer for this one."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from compass.errors import InputError
from compass.records import DeviceKind, device_kind
from compass.training.loggers import loggers_of

if TYPE_CHECKING:
    from compass.training.run_spec import RunSpec


@dataclass(frozen=True)
class Ranks:
    """The processes that train together."""

    n: int
    rank: int
    local: int = 0
    """The index of this process on its machine."""

    @property
    def together(self) -> bool:
        """Whether there are several processes, and they are connected."""
        return self.n > 1 and torch.distributed.is_available() and torch.distributed.is_initialized()

    def share(self, ids: Sequence[str]) -> Sequence[str]:
        """The part of `ids` that this process handles: all of them, if it is not connected to others."""
        return ids[self.rank :: self.n] if self.together else ids

    def gathered(self, answers: dict[str, float]) -> dict[str, float]:
        """The answers of all processes, by id."""
        if not self.together:
            return answers
        found: list[Any] = [None] * self.n
        torch.distributed.all_gather_object(found, answers)
        return {name: value for part in found for name, value in part.items()}


def ranks_of(spec: RunSpec) -> Ranks:
    """The ranks that torchrun or Lightning's launcher put into the environment; without them this process is rank 0.

    Raises:
        InputError: srun started several processes without torchrun, or there are more processes than `spec` says.
    """
    wanted = spec.n_devices * spec.n_nodes
    n = int(os.environ.get("WORLD_SIZE", wanted))
    if wanted > 1 and "WORLD_SIZE" not in os.environ and os.environ.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        raise InputError(
            "--devices",
            got="several processes started by srun",
            expected="one, or several started by torchrun",
            fix="Let srun start one task per node, which starts `torchrun`.",
        )
    local, node = (
        int(os.environ.get("LOCAL_RANK", "0")),
        int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0"))),
    )
    rank = int(os.environ.get("RANK", node * spec.n_devices + local))
    if rank >= n:
        raise InputError(
            "--devices",
            got=f"rank {rank} of {n} processes",
            expected="as many as there are processes",
            fix="Pass the same --devices and --nodes as to torchrun.",
        )
    return Ranks(n, rank, local)


def local_devices(kind: DeviceKind, index: int, local: int, n_local: int) -> list[int] | int:
    """The devices of the ranks on this machine, of which number `local` has the device `index`: those from the first one's on."""
    return list(range(index - local, index - local + n_local)) if kind.has_index else n_local


def lightning_trainer(spec: RunSpec, ranks: Ranks, device: str, folder: Path, callback: pl.Callback) -> pl.Trainer:
    """A trainer that passes once over the stream; it brings devices, ranks and loggers.

    Our own code brings data, steps, checkpoints and progress. The cluster environment is named here, so that Lightning reads
    the same variables as `ranks_of` and not those of a batch system.
    """
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from pytorch_lightning.strategies import DDPStrategy

    for name in ("pytorch_lightning", "lightning.pytorch"):  # its advice is meant for code that configures it
        logging.getLogger(name).setLevel(logging.ERROR)
    kind, index = device_kind(device), int(device.partition(":")[2] or 0)
    several = ranks.n > 1
    n_local = ranks.n // spec.n_nodes
    strategy: Any = "auto"
    if several:
        # Gradients as views of DDP's buckets: otherwise DDP holds another copy of them.
        strategy = DDPStrategy(
            process_group_backend=kind.distributed_backend, gradient_as_bucket_view=True, broadcast_buffers=False
        )
    return pl.Trainer(
        accelerator=kind.lightning_accelerator,
        plugins=[TorchElasticEnvironment() if TorchElasticEnvironment.detect() else LightningEnvironment()],
        devices=local_devices(kind, index, ranks.local, n_local),
        num_nodes=spec.n_nodes,
        strategy=strategy,
        max_epochs=1,
        min_epochs=0,
        callbacks=[callback],
        logger=loggers_of(spec, folder),
        default_root_dir=str(folder),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
    )
