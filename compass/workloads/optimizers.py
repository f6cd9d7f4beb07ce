"""The optimizer of a training step: AdamW, or what the workload makes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from compass.errors import InputError

if TYPE_CHECKING:
    from compass.optimizer_config import TrainingRules
    from compass.records import Variant
    from compass.workloads.protocol import Workload


class SeveralOptimizers:
    """Several optimizers, which training keeps, restores and schedules as one."""

    def __init__(self, each: Sequence[torch.optim.Optimizer]) -> None:
        self.each = tuple(each)

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of all."""
        return [group for one in self.each for group in one.param_groups]

    @property
    def state(self) -> list[Any]:
        """The states of all."""
        return [one.state for one in self.each]

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Clear the gradients of all."""
        for one in self.each:
            one.zero_grad(set_to_none=set_to_none)

    def step(self) -> None:
        """Let each change its weights."""
        for one in self.each:
            one.step()

    def state_dict(self) -> dict[str, Any]:
        """The states of all, in order."""
        return {"each": [one.state_dict() for one in self.each]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the states that `state_dict` returned."""
        for one, own in zip(self.each, state["each"], strict=True):
            one.load_state_dict(own)

    def register_step_pre_hook(self, hook: Callable[..., None]) -> _Hooks:
        """Call `hook` before any of them changes its weights."""
        return _Hooks([one.register_step_pre_hook(hook) for one in self.each])


class _Hooks:
    def __init__(self, handles: Sequence[Any]) -> None:
        self._handles = handles

    def remove(self) -> None:
        """Remove the hook from every optimizer."""
        for handle in self._handles:
            handle.remove()


LEAST_SCALE = 1.0
"""Of a loss under fp16: a gradient that overflows with a smaller one is not finite in itself."""


class ScaledOptimizers(SeveralOptimizers):
    """Optimizers under fp16, whose smallest gradient is 6e-8: the loss is scaled up, and gradients down before the update.

    The scale starts and grows as in `torch.amp.GradScaler`, and is part of the state.
    """

    def __init__(self, each: Sequence[torch.optim.Optimizer], device: torch.device) -> None:
        super().__init__(each)
        self._scaler = torch.amp.GradScaler(device.type)
        self._scaler.scale(torch.zeros((), device=device))  # makes its tensors, before the first update

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        """`loss` times the scale."""
        return self._scaler.scale(loss)

    def unscale(self) -> None:
        """Divide the gradients by the scale."""
        for one in self.each:
            self._scaler.unscale_(one)

    def shrink(self) -> float:
        """Leave an update out because its gradients overflowed; returns the next scale."""
        self._scaler.update()
        return float(self._scaler.get_scale())

    def step(self) -> None:
        """Let each change its weights, after `unscale`; the scale grows if none overflowed for long."""
        for one in self.each:
            self._scaler.step(one)
        self._scaler.update()

    def state_dict(self) -> dict[str, Any]:
        """The states of all, in order, and the scale."""
        return {**super().state_dict(), "scaler": self._scaler.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take the states that `state_dict` returned."""
        super().load_state_dict(state)
        self._scaler.load_state_dict(state["scaler"])


AnyOptimizer = torch.optim.Optimizer | SeveralOptimizers


def make_optimizer(workload: Workload, model: torch.nn.Module, variant: Variant, rules: TrainingRules) -> AnyOptimizer:
    """The workload's own optimizer, or AdamW as ViSNet's authors train it; fused, one kernel updates all weights.

    Under fp16 it scales the loss, unless the workload makes its own steps.

    Raises:
        InputError: the workload's `optimizer` returns something else.
    """
    each = _optimizers(workload, model, variant, rules)
    if variant.precision == "fp16" and getattr(workload, "step", None) is None:
        return ScaledOptimizers(each, next(model.parameters()).device)
    return each[0] if len(each) == 1 else SeveralOptimizers(each)


def _optimizers(
    workload: Workload, model: torch.nn.Module, variant: Variant, rules: TrainingRules
) -> list[torch.optim.Optimizer]:
    own = getattr(workload, "optimizer", None)
    if own is None:
        fused = variant.fused or None
        return [
            torch.optim.AdamW(model.parameters(), lr=rules.learning_rate, weight_decay=rules.weight_decay, fused=fused)
        ]
    made = own(model)
    each = list(made) if isinstance(made, list | tuple) else [made]
    if not each or not all(isinstance(one, torch.optim.Optimizer) for one in each):
        raise InputError(
            "the workload's optimizer",
            got=f"{type(made).__name__} {made!r}"[:200],
            expected="a torch.optim.Optimizer, or a list of them",
            fix="Return from `optimizer(model)` what your training uses.",
        )
    if getattr(workload, "step", None) is None and any(map(needs_closure, each)):
        raise InputError(
            "the workload's optimizer",
            got=f"{', '.join(type(one).__name__ for one in each)}, whose step asks for the loss again and again",
            expected="an optimizer that updates weights from gradients, or a workload with a step of its own",
            fix="Give the workload `step(model, optimizer, batch)`, which calls `optimizer.step(closure)` and returns the loss.",
        )
    return each


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether its step cannot be made without a function that computes the loss, as that of LBFGS."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def as_given(optimizer: AnyOptimizer) -> Any:
    """One optimizer, or the list of several, as the workload's own step takes them."""
    return list(optimizer.each) if isinstance(optimizer, SeveralOptimizers) else optimizer
