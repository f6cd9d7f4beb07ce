"""What Compass needs to know of a model family. Nothing has to be inherited; a class with these members fits.

`MinimalWorkload` is the least that a person writes, `Declares` what may be added, `Workload` what the rest of Compass works with:
`compass.workloads.adapter` makes the last from the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

    from compass.records import Batch, Knobs, Load

PlainLoad = Mapping[str, float]
"""A load as a person writes it: the amount of every feature. `compass.records.Load` is taken as well."""


@runtime_checkable
class MinimalWorkload(Protocol):
    """The least: the data, the model, and the loss it is trained on."""

    features: tuple[str, ...]
    """The sizes that drive memory and time, e.g. `("nodes", "edges")`; every load has exactly these. A batch's are the
    sums of its members'."""

    def samples(self) -> Mapping[str, Load | PlainLoad]:
        """The load of one copy of every sample, by id."""
        ...

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """A freshly initialised model. When its parameters are only counted, what draws their values does nothing.

        Raises:
            InputError: the family cannot be built with these knobs.
        """
        ...

    def collate(self, batch: Batch) -> Any:
        """The batch as the model takes it, on the CPU; it has a `to(device)` method or is a tree of tensors."""
        ...

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """The scalar training loss of `model` on a collated batch."""
        ...


@runtime_checkable
class Workload(Protocol):
    """A model family, the data it eats, and the loss it is trained on, with nothing left out."""

    name: str
    features: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Changes whenever figures measured earlier would no longer hold: code, options, samples."""
        ...

    def samples(self) -> Mapping[str, Load]:
        """The load of one copy of every sample, by id."""
        ...

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """As in `MinimalWorkload`."""
        ...

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The repeated layers in forward order, `knobs.layers` of them; empty if the family has none.

        Of a layer whose activations are recomputed, the part that runs twice. A layer of two halves that compete for the
        most memory (messages and attention) may be given as those, one after the other: the peak within a layer is then
        known for each.
        """
        ...

    def collate(self, batch: Batch) -> Any:
        """As in `MinimalWorkload`."""
        ...

    def load(self, batch: Batch) -> Load:
        """The load of `batch`."""
        ...

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """As in `MinimalWorkload`."""
        ...
