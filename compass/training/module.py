"""The module for Lightning, with the step that probes measure; Lightning brings devices, ranks and loggers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import torch

from compass.training.schedule import rate_factor
from compass.training.stream import Item
from compass.training.updates import Updates
from compass.workloads.optimizers import AnyOptimizer, SeveralOptimizers, make_optimizer

if TYPE_CHECKING:
    from compass.optimizer_config import TrainingRules
    from compass.records import Variant
    from compass.workloads.protocol import Workload


class Module(pl.LightningModule):
    """A model under training.

    Attributes:
        updates: set when Lightning has placed the model on its device.
        n_updates_done: weight updates so far.
        base_rate: the highest learning rate.
        loss: of the last batch, mean over its graphs.
        time_share: the share of the run's given time that is over, on the rank that is farthest; 0 without a limit.
    """

    def __init__(
        self,
        workload: Workload,
        model: torch.nn.Module,
        variant: Variant,
        rules: TrainingRules,
        *,
        learning_rate: float,
        n_updates: int,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.model = model
        self.updates: Updates | None = None
        self.n_updates_done = 0
        self.base_rate = learning_rate
        self.loss = 0.0
        self.time_share = 0.0
        self._workload, self._variant, self._rules, self._n_updates = workload, variant, rules, n_updates
        self._optimizer: AnyOptimizer | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer | list[torch.optim.Optimizer]:
        """The optimizer that probes use, with this run's learning rate; several of the workload's own as a list."""
        rules = self._rules.model_copy(update={"learning_rate": self.base_rate})
        made = make_optimizer(self._workload, self.model, self._variant, rules)
        self._optimizer = made
        return list(made.each) if isinstance(made, SeveralOptimizers) else made

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:  # noqa: ARG002
        """Leave the batch where it is: it may have to be cut before it fits."""
        return batch

    def training_step(self, pair: tuple[Item, Any], _: int) -> None:
        """Run one batch, whole or in parts."""
        assert self.updates is not None  # noqa: S101 - set when training starts
        item, collated = pair
        self.set_rate()
        self.loss = self.updates.take(item, collated)
        self.n_updates_done += item.part.last

    def set_rate(self) -> None:
        """Give the optimizer the learning rate of the present update; a workload's own optimizer follows the schedule from its own."""
        own = self.has_own_optimizer
        for group in self.optimizer.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * self.rate_factor if own else self.rate

    @property
    def has_own_optimizer(self) -> bool:
        """Whether the workload makes the optimizer, with a learning rate of its own."""
        return getattr(self._workload, "optimizer", None) is not None

    @property
    def rate(self) -> float:
        """The learning rate of the present update."""
        return self.base_rate * self.rate_factor

    @property
    def rate_factor(self) -> float:
        """The share of the highest learning rate.

        The place in the schedule follows from the number of updates or from the clock, whichever ends the run sooner.
        """
        update = max(self.n_updates_done, int(self.time_share * self._n_updates))
        return rate_factor(update, self._n_updates, self._rules)

    @property
    def optimizer(self) -> AnyOptimizer:
        """The optimizer without Lightning's wrapper."""
        assert self._optimizer is not None  # noqa: S101 - set when training starts
        return self._optimizer

    def without_sync(self) -> AbstractContextManager[Any]:
        """A context in which gradients stay in this process."""
        wrapped = self.trainer.strategy.model
        return wrapped.no_sync() if isinstance(wrapped, torch.nn.parallel.DistributedDataParallel) else nullcontext()
