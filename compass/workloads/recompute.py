"""Layers whose activations are recomputed in the backward pass instead of kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


class Recomputed(torch.nn.Module):
    """`layer`, recomputed."""

    def __init__(self, layer: torch.nn.Module) -> None:
        super().__init__()
        self.layer = layer
        # Saving the random state costs a copy per layer, so only where something is random.
        self._random = any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in layer.modules())

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What `layer` returns."""
        return checkpoint(self.layer, *inputs, use_reentrant=False, preserve_rng_state=self._random, **named)


def recomputed(layers: Iterable[torch.nn.Module]) -> torch.nn.ModuleList:
    """`layers`, each recomputed: what a workload's `build` puts in their place if `knobs.variant.checkpointing`."""
    return torch.nn.ModuleList(Recomputed(layer) for layer in layers)


def unwrapped(layers: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    """The part of each of `layers` that runs twice, or the layer itself where none does."""
    return [layer.layer if isinstance(layer, Recomputed) else layer for layer in layers]
