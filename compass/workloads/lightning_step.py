"""The step of a LightningModule without its trainer: its loss, its optimizers, or its whole update where it optimizes manually."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, cast

import torch

from compass.errors import InputError
from compass.workloads.trainer_stand_in import IdleSchedule, TrainerStandIn

UNUSED_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_backward",
    "on_after_backward",
    "on_before_zero_grad",
    "on_before_optimizer_step",
    "configure_gradient_clipping",
    "configure_model",
    "backward",
    "optimizer_step",
    "optimizer_zero_grad",
    "lr_scheduler_step",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
)
"""Members that Lightning's trainer calls around a step, and Compass does not."""


def is_lightning(module: torch.nn.Module) -> bool:
    """Whether `module` is a LightningModule, from either of Lightning's packages; neither is imported for the question."""
    return any(
        isinstance(module, kind)
        for package in ("pytorch_lightning", "lightning.pytorch")
        if (kind := getattr(sys.modules.get(package), "LightningModule", None)) is not None
    )


def unused_members(module: Any) -> tuple[str, ...]:
    """What the module overrides and Compass does not call, a sentence each."""
    [base] = [kind for kind in type(module).__mro__ if kind.__name__ == "LightningModule"]
    own = [name for name in UNUSED_HOOKS if getattr(type(module), name, None) is not getattr(base, name, None)]
    return tuple(f"{type(module).__name__}.{name} is not called: plans hold for a step without it" for name in own)


def attach(model: Any, n_batches: int) -> None:
    """Give `model` a trainer's stand-in, in an epoch of `n_batches`. What a step logs has no trainer to go to."""
    model.trainer = TrainerStandIn(n_batches)
    model.log = model.log_dict = lambda *_, **__: None


def loss_of_step(model: Any, batch: Any) -> torch.Tensor:
    """The loss that `training_step` returns.

    Raises:
        InputError: it returns none.
    """
    told = _step(model, batch)
    loss = told.get("loss") if isinstance(told, dict) else told
    if not isinstance(loss, torch.Tensor):
        raise InputError(
            f"{type(model).__name__}.training_step",
            got=f"{type(told).__name__} as its result",
            expected="a loss, or a dictionary with one under 'loss'",
            fix="Return the loss; a module that optimizes manually sets automatic_optimization = False.",
        )
    return loss


def own_optimizers(model: Any) -> list[torch.optim.Optimizer]:
    """The optimizers of `configure_optimizers`. A step may call its schedulers; the learning rate follows Compass's schedule."""
    optimizers, schedulers = configured(model)
    idle = [IdleSchedule(one) for one in schedulers]
    model.lr_schedulers = lambda: (idle if len(idle) > 1 else idle[0]) if idle else None
    return optimizers


def configured(model: Any) -> tuple[list[torch.optim.Optimizer], list[Any]]:
    """The optimizers and the learning-rate schedulers of `configure_optimizers`, in whichever form it returns them."""
    given = model.configure_optimizers()
    schedulers: list[Any] = []
    if isinstance(given, tuple) and len(given) == 2 and isinstance(given[0], list | tuple):
        given, schedulers = given[0], list(given[1])
    each = given if isinstance(given, list | tuple) else [given]
    schedulers += [one["lr_scheduler"] for one in each if isinstance(one, dict) and one.get("lr_scheduler") is not None]
    optimizers = [cast("Any", one["optimizer"] if isinstance(one, dict) else one) for one in each]
    return optimizers, [one["scheduler"] if isinstance(one, dict) else one for one in schedulers]


def manual_step(model: Any, optimizer: Any, batch: Any) -> Any:
    """A whole update by a module that optimizes manually."""
    each = optimizer if isinstance(optimizer, list) else [optimizer]
    model.optimizers = lambda use_pl_optimizer=True: each if len(each) > 1 else each[0]  # noqa: ARG005
    model.manual_backward = lambda loss, *given, **named: loss.backward(*given, **named)
    model.toggle_optimizer, model.untoggle_optimizer = _toggles(each)
    model.clip_gradients = _clip
    told = _step(model, batch)
    return told.get("loss") if isinstance(told, dict) else told


def closure_step(model: Any, optimizer: Any, batch: Any) -> Any:
    """A whole update by an optimizer that asks for the loss again and again, as LBFGS does; returns the first loss."""

    def loss_with_gradients() -> torch.Tensor:
        optimizer.zero_grad()
        loss = loss_of_step(model, batch)
        torch.autograd.backward(loss)
        return loss

    return optimizer.step(loss_with_gradients)


def _step(model: Any, batch: Any) -> Any:
    n_taken = len(inspect.signature(model.training_step).parameters)
    return model.training_step(*(batch, 0)[:n_taken])


def _toggles(each: list[torch.optim.Optimizer]) -> tuple[Callable[..., None], Callable[..., None]]:
    """Functions that leave gradients to the weights of one optimizer alone, and that give them back to all that had them."""
    before: list[tuple[torch.Tensor, bool]] = []

    def toggle(optimizer: torch.optim.Optimizer) -> None:
        own = {id(weight) for weight in _weights(optimizer)}
        before[:] = [(weight, weight.requires_grad) for one in each for weight in _weights(one)]
        for weight, had in before:
            weight.requires_grad_(had and id(weight) in own)

    def untoggle(*_: Any) -> None:
        for weight, had in before:
            weight.requires_grad_(had)

    return toggle, untoggle


def _weights(optimizer: torch.optim.Optimizer) -> list[torch.Tensor]:
    return [weight for group in optimizer.param_groups for weight in group["params"]]


def _clip(
    optimizer: torch.optim.Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
) -> None:
    weights = _weights(optimizer)
    if gradient_clip_val and gradient_clip_algorithm == "value":
        torch.nn.utils.clip_grad_value_(weights, gradient_clip_val)
    elif gradient_clip_val:
        torch.nn.utils.clip_grad_norm_(weights, gradient_clip_val)
