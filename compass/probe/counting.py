"""Trainable parameters of a model that is built and never run."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from compass.records import Knobs
from compass.workloads.building import build
from compass.workloads.protocol import Workload

FILLS = frozenset({"normal_", "uniform_", "kaiming_uniform_", "trunc_normal_", "random_", "exponential_", "bernoulli_"})
"""In-place functions that draw random numbers. They do nothing here, because the system hands out no memory for pages that are
never written. Meta tensors would serve too, but operations on them import torch's compiler, which takes over a second.
Orthogonal values come from a QR factorisation of random ones, which is skipped too."""


class _Unfilled(TorchFunctionMode):
    """A mode in which parameters are not filled with values, because a count needs none."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in FILLS:
            return args[0] if args else kwargs["tensor"]
        if func is torch.linalg.qr:
            return args[0], args[0].new_empty(args[0].shape[-1], args[0].shape[-1])
        return func(*args, **kwargs)


def count_parameters(model: torch.nn.Module) -> int:
    """Number of values that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_unfilled(workload: Workload, knobs: Knobs) -> int:
    """Trainable parameters of the model that `workload` builds, if possible without filling them with values."""
    try:
        with _Unfilled():
            return count_parameters(build(workload, knobs))
    except Exception:  # noqa: BLE001 - this model needs the values while it is built; any other error occurs again
        return count_parameters(build(workload, knobs))
