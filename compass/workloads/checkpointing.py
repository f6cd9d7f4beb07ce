"""Layers whose activations are recomputed in the backward pass instead of kept."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint


class Recomputed(torch.nn.Module):
    """`layer`, recomputed."""

    def __init__(self, layer: torch.nn.Module, *, random: bool = True) -> None:
        super().__init__()
        self.layer = layer
        self._random = random

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What `layer` returns."""
        return checkpoint(self.layer, *inputs, use_reentrant=False, preserve_rng_state=self._random, **named)


def recomputed(layers: Iterable[torch.nn.Module], *, random: bool = True) -> torch.nn.ModuleList:
    """`layers`, each recomputed: what a workload's `build` puts in their place if `knobs.variant.checkpointing`.

    `random` says whether anything in them is drawn anew each time, such as dropout: the state it is drawn from is then kept for
    the second time, at the cost of a copy a layer, or gradients would be those of another draw. No one can see that from
    outside, for a function may draw too.
    """
    return torch.nn.ModuleList(Recomputed(layer, random=random) for layer in layers)


def unwrapped(layers: Iterable[torch.nn.Module]) -> list[torch.nn.Module]:
    """The part of each of `layers` that runs twice, or the layer itself where none does."""
    return [layer.layer if isinstance(layer, Recomputed) else layer for layer in layers]
