"""Trainable parameters of a model that nobody runs."""

from __future__ import annotations

from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from compass.records import Knobs
from compass.workloads.building import build
from compass.workloads.protocol import Workload

FILLS = frozenset({"normal_", "uniform_", "kaiming_uniform_", "trunc_normal_", "random_", "exponential_", "bernoulli_"})
"""In-place functions that draw numbers. Memory that nothing was written to is not taken from the machine. Meta tensors would do
as well, but operations on them are looked up in torch's compiler, whose import takes over a second. Orthogonal values come
from factorising random ones, which is left out too."""


class _Unfilled(TorchFunctionMode):
    """Parameters keep what they have: a count needs no numbers."""

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
    """How many numbers training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def count_unfilled(workload: Workload, knobs: Knobs) -> int:
    """The parameters of the model that `workload` builds, without the time and memory of their values where it can do without."""
    try:
        with _Unfilled():
            return count_parameters(build(workload, knobs))
    except Exception:  # noqa: BLE001 - it looks at the values while it is built; what is wrong without them shows again
        return count_parameters(build(workload, knobs))
