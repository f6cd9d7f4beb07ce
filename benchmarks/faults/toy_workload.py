"""A workload of some linear layers: real workers measure it within milliseconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from compass.records import Batch, Knobs, Load

ROWS = 64


class Toy:
    """A stack of linear layers on rows of ones."""

    features = ("rows",)

    def __init__(self, _: Any) -> None:
        pass

    def samples(self) -> Mapping[str, Load]:
        """One sample."""
        return {"one": _load(1)}

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """The layers."""
        return torch.nn.Sequential(*(torch.nn.Linear(knobs.channels, knobs.channels) for _ in range(knobs.layers)))

    def collate(self, batch: Batch) -> dict[str, torch.Tensor]:
        """Its rows."""
        return {"rows": torch.ones(ROWS * _n_graphs(batch), 1)}

    def loss(self, model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        """Some number."""
        width = next(model.parameters()).shape[1]
        loss: torch.Tensor = model(batch["rows"].expand(-1, width)).square().mean()
        return loss


def _n_graphs(batch: Batch) -> int:
    return sum(copies for _, copies in batch.members)


def _load(graphs: int) -> Load:
    return Load(graphs=graphs, sizes=(("rows", float(ROWS * graphs)),))
