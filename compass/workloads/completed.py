"""From the least that a person writes to a whole workload: what is left out gets its usual meaning."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from compass.records import Batch, Load, digest
from compass.workloads.declared import as_load
from compass.workloads.recompute import unwrapped

if TYPE_CHECKING:
    from compass.workloads.protocol import Bare

FILLED = ("name", "digest", "blocks", "load")
"""Members that need not be written."""


class Completed:
    """A workload with the members that its author left out; all others are the author's."""

    def __init__(self, workload: Bare) -> None:
        self._workload = workload

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_workload":  # before there is one, while it is unpickled
            raise AttributeError(name)
        return getattr(self._workload, name)

    @property
    def name(self) -> str:
        """The author's, or that of the class."""
        return str(getattr(self._workload, "name", type(self._workload).__name__))

    @cached_property
    def digest(self) -> str:
        """The author's, or one that changes with the file the class is in, its `version`, and the samples' loads."""
        given = getattr(self._workload, "digest", None)
        if given is not None:
            return str(given)
        version = getattr(self._workload, "version", 1)
        return digest(self.name, version, _source(type(self._workload)), sorted(self.samples().items()))

    @cached_property
    def _loads(self) -> dict[str, Load]:
        features = self._workload.features
        return {str(name): as_load(load, features) for name, load in self._workload.samples().items()}

    def samples(self) -> Mapping[str, Load]:
        """The author's, as loads."""
        return self._loads

    def load(self, batch: Batch) -> Load:
        """The author's, or the sum of the members'."""
        given = getattr(self._workload, "load", None)
        if given is not None:
            return as_load(given(batch), self._workload.features)
        return batch.load(self._loads)

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The author's, or the largest list of modules of one class that the model holds."""
        given = getattr(self._workload, "blocks", None)
        return list(given(model)) if given is not None else find_blocks(model)


def find_blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The list of alike modules with most parameters; empty if there is none. Of a recomputed one, the part inside."""
    best: list[torch.nn.Module] = []
    most = 0
    for part in model.modules():
        if isinstance(part, torch.nn.ModuleList | torch.nn.Sequential) and len({type(item) for item in part}) == 1:
            held = sum(parameter.numel() for parameter in part.parameters())
            if held > most:
                best, most = list(part), held
    return unwrapped(best)


def _source(kind: type) -> str:
    """The file that `kind` is written in; its name, where there is no file."""
    try:
        return Path(inspect.getfile(kind)).read_text(encoding="utf-8")
    except (OSError, TypeError):
        return kind.__qualname__
