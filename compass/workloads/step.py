"""The training step. Probes and training call this one function, so a probe measures what training does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from compass.errors import NonFiniteLoss

if TYPE_CHECKING:
    from compass.records import Precision
    from compass.workloads.protocol import Workload


def make_optimizer(model: torch.nn.Module, *, learning_rate: float = 3e-4) -> torch.optim.Optimizer:
    """AdamW as ViSNet's authors train it; two states a parameter."""
    return torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)


def on_device(batch: Any, device: str) -> Any:
    """`batch`, or every tensor of a tree of lists, tuples and dictionaries, on `device`."""
    if hasattr(batch, "to"):
        return batch.to(device)
    if isinstance(batch, dict):
        return {key: on_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list | tuple):
        moved = [on_device(item, device) for item in batch]
        return type(batch)(*moved) if hasattr(batch, "_fields") else type(batch)(moved)  # a named tuple, or a plain one
    return batch


def training_step(
    workload: Workload,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    batch: Any,
    precision: Precision,
    *,
    clip_norm: float = 10.0,
) -> float:
    """One weight update on `batch`, already on the model's device. Returns the loss.

    bf16 is autocast over fp32 weights: activations shrink, master weights and optimizer state do not.

    Raises:
        NonFiniteLoss: the loss is not a number or infinite; the weights are left as they were.
    """
    optimizer.zero_grad(set_to_none=True)
    with _autocast(model, precision):
        loss = workload.loss(model, batch)
    value = loss.item()
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124 - the definition of not-a-number
        raise NonFiniteLoss(value)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
    optimizer.step()
    return value


def evaluation_step(workload: Workload, model: torch.nn.Module, batch: Any, precision: Precision) -> float:
    """The loss on `batch`, already on the model's device, in evaluation mode and without gradients."""
    was_training = model.training
    model.eval()
    with torch.no_grad(), _autocast(model, precision):
        value = workload.loss(model, batch).item()
    model.train(was_training)
    return value


def _autocast(model: torch.nn.Module, precision: Precision) -> torch.autocast:
    device_type = next(model.parameters()).device.type
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == "bf16")
