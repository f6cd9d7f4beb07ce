"""The ranks of a probe, in the worker of one of them: gradients are averaged as in training, and decisions are made together."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from compass.errors import RanksDisagree
from compass.records import DeviceKind, device_kind

if TYPE_CHECKING:
    from compass.probe.ranks import RankPlace
    from compass.workloads.protocol import Workload

N_FIRST = 1 << 18
"""Numbers in the first all-reduce, a MiB: as large as DDP's first bucket, for which NCCL sets up its buffers."""
SAME = 1e-6
"""Relative difference of weights that two ranks may have after the same updates: their sums are taken in the same order."""


class Alone:
    """A process that trains by itself."""

    def share(self, workload: Workload, model: torch.nn.Module) -> Any:
        """The workload as it is."""
        del model
        return workload

    def all(self, flag: bool) -> bool:  # noqa: FBT001 - a decision is what it takes
        """`flag` itself."""
        return flag

    def exchange(self) -> None:
        """Do nothing."""

    def without_sync(self) -> AbstractContextManager[Any]:
        """No context."""
        return nullcontext()

    def check_weights(self, model: torch.nn.Module) -> None:
        """Do nothing: there is nobody to disagree with."""


class RankGroup(Alone):
    """One of several processes that train together."""

    def __init__(self, place: RankPlace, device: str) -> None:
        """Meet the other ranks; returns when all have come."""
        kind = device_kind(device)
        if kind.has_index:
            # Before the first collective: otherwise every rank opens a context on device 0 as well.
            torch.accelerator.set_device_index(int(device.partition(":")[2] or 0))
        self._device, self._number = device, torch.zeros(1, device=device)
        self._model: torch.nn.parallel.DistributedDataParallel | None = None
        if not torch.distributed.is_initialized():
            self._join(place, kind)

    def _join(self, place: RankPlace, kind: DeviceKind) -> None:
        """Meet the other ranks, and let them open their connections, which the first collective does."""
        torch.distributed.init_process_group(
            kind.distributed_backend,
            init_method=f"file://{place.meeting}",
            rank=place.rank,
            world_size=place.n_ranks,
            device_id=torch.device(self._device) if kind.has_index else None,
        )
        torch.distributed.all_reduce(torch.zeros(N_FIRST, device=self._device))

    def share(self, workload: Workload, model: torch.nn.Module) -> Any:
        """`workload` with a loss whose gradient is the mean over ranks, by the settings that training gives DDP."""
        self._model = torch.nn.parallel.DistributedDataParallel(
            _Loss(workload, model), gradient_as_bucket_view=True, broadcast_buffers=False
        )
        return _Shared(workload, self._model)

    def all(self, flag: bool) -> bool:  # noqa: FBT001
        """Whether `flag` is true on every rank: ranks that decided by themselves would wait for each other for ever."""
        found = torch.tensor([float(flag)], device=self._device)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MIN)
        return bool(found.item())

    def exchange(self) -> None:
        """Exchange a single number."""
        torch.distributed.all_reduce(self._number)

    def without_sync(self) -> AbstractContextManager[Any]:
        """A context in which gradients stay in this process."""
        assert self._model is not None  # noqa: S101 - share() comes first
        return self._model.no_sync()

    def check_weights(self, model: torch.nn.Module) -> None:
        """Compare the weights of all ranks, which began alike and made the same updates.

        Raises:
            RanksDisagree: they differ.
        """
        own = torch.stack([weight.detach().double().norm() for weight in model.parameters()]).norm()
        low, high = own.clone(), own.clone()
        torch.distributed.all_reduce(low, torch.distributed.ReduceOp.MIN)
        torch.distributed.all_reduce(high, torch.distributed.ReduceOp.MAX)
        if float(high - low) > SAME * float(high):
            raise RanksDisagree(float(low), float(high))


class _Loss(torch.nn.Module):
    """A model whose output is the loss, as DDP wants it."""

    def __init__(self, workload: Workload, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self._workload = workload

    def forward(self, batch: Any) -> torch.Tensor:
        """The mean loss of `batch`."""
        return self._workload.loss(self.model, batch)


@dataclass(frozen=True)
class _Shared:
    """A workload whose loss goes through DDP; all else is the workload's."""

    workload: Workload
    wrapped: torch.nn.Module

    def loss(self, model: torch.nn.Module, batch: Any) -> Any:
        """The mean loss of `batch`; `model` is the one that was wrapped."""
        del model
        return self.wrapped(batch)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.workload, name)
