"""Activation checkpointing: layers that run again in the backward pass, so that their activations need not be kept."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


class Checkpointed(torch.nn.Module):
    """`layer` under activation checkpointing."""

    def __init__(self, layer: torch.nn.Module, *, random: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self._random = random

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """The result of `layer`."""
        return checkpoint(self.layer, *inputs, use_reentrant=False, preserve_rng_state=self._random, **named)


def checkpointed(layers: Iterable[torch.nn.Module], *, random: bool = True) -> torch.nn.ModuleList:
    """`layers`, each under activation checkpointing: for a workload's `build` if `knobs.variant.checkpointing`.

    Args:
        layers: The repeated layers, in order.
        random: Whether anything in them draws random numbers in each pass, such as dropout. The generator's state is then
            kept for the second pass, at the cost of a copy for each layer; otherwise gradients would be those of another
            draw. Compass cannot find this out, because any function may draw.

    Example:
        >>> model = torch.nn.Sequential(*checkpointed([torch.nn.Linear(4, 4)], random=False))
        >>> model(torch.zeros(2, 4)).shape
        torch.Size([2, 4])
    """
    return torch.nn.ModuleList(Checkpointed(layer, random=random) for layer in layers)


def recomputed(layers: Iterable[torch.nn.Module], *, random: bool = True) -> torch.nn.ModuleList:
    """The name of `checkpointed` until 0.1.0, for one more release."""
    text = "compass.workloads.checkpointing.recomputed is now called checkpointed"
    warnings.warn(text, DeprecationWarning, stacklevel=2)
    return checkpointed(layers, random=random)


def unwrapped(layers: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    """`layers`, where for a checkpointed layer its inner layer, which runs twice, takes its place."""
    return [layer.layer if isinstance(layer, Checkpointed) else layer for layer in layers]
