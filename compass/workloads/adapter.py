"""The adapter that completes a minimal workload: members that its author left out get their defaults."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from compass.records import Batch, Load, digest
from compass.workloads.checkpointing import unwrapped
from compass.workloads.defaults import as_load, padded_of

if TYPE_CHECKING:
    from compass.workloads.protocol import MinimalWorkload


class WorkloadAdapter:
    """A complete workload around a minimal one: the author's members, and defaults for the missing ones."""

    def __init__(self, workload: MinimalWorkload, made_by: Any = None) -> None:
        """`made_by` is the factory, if it is not the workload's class: its source file is part of the digest too."""
        self._workload, self._made_by = workload, made_by

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in {
            "_workload",
            "_made_by",
        }:  # while it is unpickled, there is no workload yet
            raise AttributeError(name)
        return getattr(self._workload, name)

    @property
    def name(self) -> str:
        """The author's name, or that of the class."""
        return str(getattr(self._workload, "name", type(self._workload).__name__))

    @cached_property
    def digest(self) -> str:
        """The author's digest, or one of the class's source code, its `version`, and the samples' loads.

        The source code is the class's file and the files in the same folder that it imports.
        """
        given = getattr(self._workload, "digest", None)
        if given is not None:
            # A digest inherited from a built-in family does not change with the code of the author's class.
            return digest(str(given), self._sources()) if self._inherits_digest() else str(given)
        version = getattr(self._workload, "version", 1)
        return digest(self.name, version, self._sources(), sorted(self.samples().items()))

    def _inherits_digest(self) -> bool:
        owner = next((kind for kind in type(self._workload).__mro__ if "digest" in vars(kind)), None)
        return owner is not None and owner.__module__.startswith(f"{__package__}.")

    def _sources(self) -> list[str]:
        kind, texts = type(self._workload), dict[Path, str]()
        for made in (kind, self._made_by):
            try:
                texts |= _with_neighbours(Path(inspect.getfile(made)))
            except (OSError, TypeError, SyntaxError):
                continue
        return [texts[path] for path in sorted(texts)] or [kind.__qualname__]

    @cached_property
    def _loads(self) -> dict[str, Load]:
        features, padded = self._workload.features, padded_of(self._workload)
        return {str(name): as_load(load, features, padded) for name, load in self._workload.samples().items()}

    def samples(self) -> Mapping[str, Load]:
        """The author's samples, with loads as records."""
        return self._loads

    def load(self, batch: Batch) -> Load:
        """The author's load of `batch`, or that of its members: their sum, or what padding makes of it."""
        given = getattr(self._workload, "load", None)
        if given is not None:
            return as_load(given(batch), self._workload.features, padded_of(self._workload))
        return batch.load(self._loads)

    def blocks(self, model: torch.nn.Module) -> list[torch.nn.Module]:
        """The author's blocks, or the model's largest list of modules of one class."""
        given = getattr(self._workload, "blocks", None)
        return list(given(model)) if given is not None else find_blocks(model)


def find_blocks(model: torch.nn.Module) -> list[torch.nn.Module]:
    """The list of modules of one class with most parameters; empty if there is none. Checkpointed modules are unwrapped."""
    best: list[torch.nn.Module] = []
    most = 0
    for part in model.modules():
        if isinstance(part, torch.nn.ModuleList | torch.nn.Sequential) and len({type(item) for item in part}) == 1:
            held = sum(parameter.numel() for parameter in part.parameters())
            if held > most:
                best, most = list(part), held
    return unwrapped(best)


def _with_neighbours(file: Path) -> dict[Path, str]:
    """The text of `file` and, recursively, of the files that it imports from its own folder or below."""
    home, texts, waiting = file.resolve().parent, dict[Path, str](), [file.resolve()]
    while waiting:
        path = waiting.pop()
        if path not in texts and path.is_file():
            texts[path] = path.read_text(encoding="utf-8")
            waiting += [place for name in _imported(texts[path], path, home) for place in _places(home, name)]
    return texts


def _imported(text: str, path: Path, home: Path) -> Iterator[tuple[str, ...]]:
    """Names that `text`, the source of `path`, imports, as parts below `home`. An imported name may be a module itself."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = path.relative_to(home).parent.parts[: -(node.level - 1) or None] if node.level else ()
            module = (*package, *(node.module or "").split(".")) if node.module else package
            yield from ((*module, alias.name) for alias in node.names)


def _places(home: Path, name: tuple[str, ...]) -> Iterator[Path]:
    """Paths at which the module `name`, or a package that contains it, may be."""
    for end in range(1, len(name) + 1):
        place = home.joinpath(*name[:end])
        yield from (place.with_name(f"{place.name}.py"), place / "__init__.py")
