"""The workload protocol. A class with these members is a workload; it need not inherit from anything.

A user writes a `MinimalWorkload`. Compass works with a `Workload`, which `compass.workloads.adapter` makes from it. Optional
members are looked up by name and have defaults (`compass.workloads.defaults`):

- `version`: part of the default digest; raise it if earlier measurements no longer hold and no source file shows it.
- `space`: the workload's defaults for settings of `space`; a setting that the user changed overrides it.
- `capacity`: the knobs that make a model larger, `("layers", "channels")` by default. Only these are searched; any other knob
  stays at the low end of its range. `()`: one fixed model, of which batch and settings are planned.
- `supports_checkpointing`: whether `build` honours `knobs.variant.checkpointing`; False by default. See
  `compass.workloads.checkpointing`.
- `padded`: features of which a batch holds the largest of its members times their number, `"tokens"` or several. Training then
  batches samples of like size.
- `micro_loads`: small synthetic loads whose sizes vary independently, one more than there are features. `collate` then gets
  `Batch(synthetic=load)`. By default, calibration uses copies of small samples.
- `predict(model, batch)`: the model's predictions (n,) for the samples of a collated batch, which training's metrics need.
- `start_at(model, mean)`: makes a new model predict about the mean label.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    import torch

    from compass.records import Batch, Knobs, Load

PlainLoad = Mapping[str, float]
"""A load as a plain mapping from feature to amount. `compass.records.Load` is accepted too."""


@runtime_checkable
class MinimalWorkload(Protocol):
    """The members that a user must write: data, model and loss."""

    features: tuple[str, ...]
    """The sizes that drive memory and time, such as `("nodes", "edges")`. Every load has exactly these; the load of a batch is
    the sum over its members."""

    def samples(self) -> Mapping[str, Load | PlainLoad]:
        """The load of one copy of every sample, by id."""
        ...

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """A newly initialised model. When Compass only counts parameters, functions that draw random values do nothing.

        Raises:
            InputError: the family cannot be built with these knobs.
        """
        ...

    def collate(self, batch: Batch) -> Any:
        """The batch in the form that the model takes, on the CPU: with a `to(device)` method, or a tree of tensors."""
        ...

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """The scalar training loss of `model` on a collated batch."""
        ...


@runtime_checkable
class Workload(Protocol):
    """A model family, its data and its loss, with all members that Compass uses."""

    name: str
    features: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Changes if earlier measurements no longer hold: with code, options or samples."""
        ...

    def samples(self) -> Mapping[str, Load]:
        """The load of one copy of every sample, by id."""
        ...

    def build(self, knobs: Knobs) -> torch.nn.Module:
        """See `MinimalWorkload`."""
        ...

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The `knobs.layers` repeated layers in forward order; empty if the family has none.

        For a checkpointed layer, the part that runs twice. If either half of a layer may hold the peak (messages and
        attention), give both halves, one after the other: each then has segments of its own.
        """
        ...

    def collate(self, batch: Batch) -> Any:
        """See `MinimalWorkload`."""
        ...

    def load(self, batch: Batch) -> Load:
        """The load of `batch`."""
        ...

    def loss(self, model: torch.nn.Module, batch: Any) -> torch.Tensor:
        """See `MinimalWorkload`."""
        ...
