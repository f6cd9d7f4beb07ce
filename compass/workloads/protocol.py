"""What Compass needs to know of a model family. Nothing has to be inherited; a class with these members fits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

    from compass.records import Batch, Knobs, Load


@runtime_checkable
class Workload(Protocol):
    """A model family, the data it eats, and the loss it is trained on."""

    name: str
    features: tuple[str, ...]
    """The sizes that drive memory and time, e.g. `("nodes", "edges")`; every load has exactly these."""

    @property
    def digest(self) -> str:
        """Changes whenever figures measured earlier would no longer hold: code, options, samples."""
        ...

    def samples(self) -> Mapping[str, Load]:
        """The load of one copy of every sample, by id."""
        ...

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """A freshly initialised model on the current default device (`meta` when only counting).

        Raises:
            InputError: the family cannot be built with these knobs.
        """
        ...

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The repeated layers in forward order, `knobs.layers` of them; empty if the family has none.

        Of a layer whose activations are recomputed, the part that runs twice.
        """
        ...

    def collate(self, batch: Batch) -> Any:
        """The batch as the model takes it, on the CPU; it has a `to(device)` method or is a tree of tensors."""
        ...

    def load(self, batch: Batch) -> Load:
        """The load of `batch`."""
        ...

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """The scalar training loss of `model` on a collated batch."""
        ...
