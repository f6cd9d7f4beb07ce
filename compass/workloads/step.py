"""The training step. Probes and training call the same function, so a probe measures the step that training runs."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from compass.errors import NonFiniteLoss, Overflow
from compass.workloads.optimizers import LEAST_SCALE, ScaledOptimizers, as_given

if TYPE_CHECKING:
    from compass.optimizer_config import TrainingRules
    from compass.records import Variant
    from compass.workloads.optimizers import AnyOptimizer
    from compass.workloads.protocol import Workload


@dataclass(frozen=True)
class UpdatePart:
    """The part of a weight update that one batch is, if an update gathers several."""

    weight: float = 1.0
    """Weight of the batch's mean loss in the loss of the update."""
    first: bool = True
    last: bool = True


WHOLE = UpdatePart()
AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""The type of the activations under each precision that autocast knows."""


def on_device(batch: Any, device: str) -> Any:
    """`batch`, or every tensor of a tree of lists, tuples, dictionaries and dataclasses, on `device`."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, Mapping):
        return {key: on_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        moved = [on_device(item, device) for item in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)  # a named tuple, or a plain one
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        moved_too = copy.copy(batch)  # `replace` would call `__init__`, which may do more
        for field in dataclasses.fields(batch):
            object.__setattr__(moved_too, field.name, on_device(getattr(batch, field.name), device))
        return moved_too
    return batch


def training_step(  # noqa: PLR0913 - each varies on its own
    workload: Workload,
    model: torch.nn.Module,
    optimizer: AnyOptimizer,
    batch: Any,
    variant: Variant,
    rules: TrainingRules,
    *,
    part: UpdatePart = WHOLE,
    backward: Callable[[torch.Tensor], None] = torch.Tensor.backward,
) -> float:
    """One weight update on `batch`, already on the model's device, or its part of one. Returns the batch's loss.

    bf16 and fp16 are autocast over fp32 weights: activations shrink, master weights and optimizer state do not. Under fp16 the loss
    is scaled up for the backward pass, see `ScaledOptimizers`. Gradients are zeroed
    and not freed, so that a step holds the same memory whether updates gather one batch or many, on one device or several; unless
    `rules` says that each batch is an update, and gradients are not kept.
    A workload's own `step` takes the place of all this: it is a whole update.

    Raises:
        NonFiniteLoss: the update's loss, or the norm of its gradient, is not finite; the weights are left as they were. It is
            raised after the backward pass, which all ranks must reach. `Overflow`: only the scaled gradient was not.
    """
    if has_own_step(workload):
        return _own_step(workload, model, optimizer, batch, variant)
    # Lightning drops gradients after the forward pass, and a plain loop before it.
    late = not rules.keep_gradients and getattr(workload, "zeroes_late", False)
    if part.first and not late:
        optimizer.zero_grad(set_to_none=not rules.keep_gradients)
    with matmul_precision(variant):
        with autocast(model, variant):
            loss = workload.loss(model, batch)
        value: float = loss.item()
        if part.first and late:
            optimizer.zero_grad(set_to_none=True)
        weighted = loss if part.weight == 1.0 else part.weight * loss
        backward(optimizer.scaled(weighted) if isinstance(optimizer, ScaledOptimizers) else weighted)
    if part.last:
        update(model, optimizer, rules, loss=value)
    return value


def has_own_step(workload: object) -> bool:
    """Whether the workload makes its updates itself."""
    return getattr(workload, "step", None) is not None


def _own_step(workload: Any, model: torch.nn.Module, optimizer: AnyOptimizer, batch: Any, variant: Variant) -> float:
    """The update that the workload makes. Its loss may be a number, a tensor, or None: then it is not known (NaN).

    Raises:
        NonFiniteLoss: the loss that it returns is not finite; the weights may have changed.
    """
    with matmul_precision(variant), autocast(model, variant):
        told = workload.step(model, as_given(optimizer), batch)
    if told is None:
        return math.nan
    value = float(told.detach() if isinstance(told, torch.Tensor) else told)
    if not math.isfinite(value):
        raise NonFiniteLoss(value)
    return value


def update(model: torch.nn.Module, optimizer: AnyOptimizer, rules: TrainingRules, *, loss: float = 0.0) -> None:
    """Clip the gradients and update the weights; `loss` is that of the last batch.

    A finite loss may have a gradient that is not: the square root of a distance of zero is enough. Adam would keep it for ever.

    Raises:
        NonFiniteLoss: the norm of the gradients is not finite; the weights are left as they were.
        Overflow: the same, because fp16's scale was too large; it is halved for the next update.
    """
    scaled = optimizer if isinstance(optimizer, ScaledOptimizers) else None
    if scaled is not None:
        scaled.unscale()
    norm = _clipped(model, rules.clip_norm)
    if not math.isfinite(norm):
        if scaled is not None and scaled.shrink() >= LEAST_SCALE and math.isfinite(loss):
            raise Overflow(norm)
        raise NonFiniteLoss(norm, "gradient's norm") if math.isfinite(loss) else NonFiniteLoss(loss)
    optimizer.step()


def _clipped(model: torch.nn.Module, most: float) -> float:
    """Scale the gradients down so that their norm is at most `most`, and return the norm as it was.

    Sparse gradients, as of an embedding with `sparse=True`, have no norm in PyTorch: they stay as they are, and count only by being finite.
    """
    pairs = [(weight, weight.grad) for weight in model.parameters() if weight.grad is not None]
    sparse = [grad for _, grad in pairs if grad.is_sparse]
    if not all(bool(grad._values().isfinite().all()) for grad in sparse):  # noqa: SLF001 - `values` would first add up repeated rows
        return math.nan
    dense = [weight for weight, grad in pairs if not grad.is_sparse]
    return float(torch.nn.utils.clip_grad_norm_(dense, most))


def evaluation_step(workload: Workload, model: torch.nn.Module, batch: Any, variant: Variant) -> float:
    """The loss on `batch`, already on the model's device, in evaluation mode and without gradients."""
    was_training = model.training
    model.eval()
    with torch.no_grad(), matmul_precision(variant), autocast(model, variant):
        value = workload.loss(model, batch).item()
    model.train(was_training)
    return value


def autocast(model: torch.nn.Module, variant: Variant) -> torch.autocast:
    """The context in which `variant` computes, on the model's device."""
    device_type = next(model.parameters()).device.type
    dtype = AUTOCAST.get(variant.precision)
    return torch.autocast(device_type, dtype=dtype or torch.bfloat16, enabled=dtype is not None)


@contextmanager
def matmul_precision(variant: Variant) -> Iterator[None]:
    """The context in which float32 matrices are multiplied as `variant` says; PyTorch has one such setting for the process.

    `medium` is TF32 on NVIDIA, and bf16 on CPUs with kernels for it; elsewhere it changes nothing.
    """
    before = torch.get_float32_matmul_precision()
    if variant.matmul == "reduced":
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
