"""Tensors that a workload's own step keeps beside the model's and the optimizer's, such as a mean of the weights."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator, Sequence

import torch


class OwnTensors:
    """Tells the tensors that a step made from those that were there before: samples, and what collating keeps."""

    def __init__(self) -> None:
        self._known: dict[int, weakref.ref[torch.Tensor]] = {}

    def note(self, own: Sequence[torch.Tensor] = ()) -> None:
        """Take every tensor that is alive now as none of the step's, but for its `own`."""
        of_step = {id(tensor) for tensor in own}
        self._known |= {id(tensor): weakref.ref(tensor) for tensor in _alive() if id(tensor) not in of_step}

    def made_since(self) -> list[torch.Tensor]:
        """The tensors that are alive now and were not noted."""
        return [tensor for tensor in _alive() if not self._knows(tensor)]

    def _knows(self, tensor: torch.Tensor) -> bool:
        known = self._known.get(id(tensor))
        return known is not None and known() is tensor  # the number may belong to another one by now


def _alive() -> Iterator[torch.Tensor]:
    # The class is asked and not the object: a stand-in for a module that is not loaded yet would load it.
    return (one for one in gc.get_objects() if issubclass(type(one), torch.Tensor) and one.device.type != "meta")
