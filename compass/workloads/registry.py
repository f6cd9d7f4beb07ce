"""Lookup of a workload by name: a built-in family, an installed one, `package.module:factory`, or a file."""

from __future__ import annotations

import difflib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

import torch

from compass.errors import InputError
from compass.files import MODEL_SUFFIX
from compass.workloads.adapter import WorkloadAdapter
from compass.workloads.fixed import FixedModel, fixed_model
from compass.workloads.model_file import read_model
from compass.workloads.protocol import MinimalWorkload, Workload

if TYPE_CHECKING:
    from compass.optimizer_config import OptimizerConfig

ENTRY_POINTS = "compass.workloads"
MEMBERS = sorted(
    name for name in (*MinimalWorkload.__annotations__, *vars(MinimalWorkload)) if not name.startswith("_")
)
FAMILIES = {
    "dimenet++": "compass.workloads.dimenet:DimeNetWorkload",
    "gps": "compass.workloads.gps:GPSWorkload",
    "schnet": "compass.workloads.schnet:SchNetWorkload",
    "visnet": "compass.workloads.visnet:ViSNetWorkload",
}


def load_workload(source: str, config: OptimizerConfig) -> Workload:
    """The workload with the name `source`; its factory is called with `config`.

    Raises:
        InputError: there is no such family, module, file or factory, it fails, or its result is not a workload.
    """
    factory = _factory(source)
    try:
        made = _made(factory, config)
        workload: Any = fixed_model(made) or made
        missing = [name for name in MEMBERS if not hasattr(workload, name)]
    except InputError:
        raise
    except Exception as error:
        raise _failed(source, error, "a factory that takes an OptimizerConfig", "Correct the factory.") from error
    if missing:
        raise InputError(
            f"workload {source}",
            got=f"an object without {', '.join(missing)}",
            expected="the members of compass.workloads.protocol.MinimalWorkload",
            fix="Add what is missing.",
        )
    is_whole = type(workload).__module__.startswith(f"{__package__}.") and not isinstance(workload, FixedModel)
    return cast("Workload", workload if is_whole else WorkloadAdapter(workload, factory))


def _made(factory: Any, config: OptimizerConfig) -> Any:
    """What `factory` makes: a module's class takes no configuration, and a function need not."""
    if isinstance(factory, type) and issubclass(factory, torch.nn.Module):
        return factory()
    return factory(config) if inspect.signature(factory).parameters else factory()


def _factory(source: str) -> Any:
    known = {entry.name: entry.value for entry in entry_points(group=ENTRY_POINTS)} | FAMILIES
    target = known.get(source, source)
    if target.endswith(MODEL_SUFFIX):
        return lambda: read_model(Path(target))
    place, _, name = target.rpartition(":")
    if not place:
        raise InputError(
            "workload",
            got=source,
            fix=_meant(source, known),
            expected=f"one of {', '.join(sorted(known))}, package.module:factory or path/to/file.py:factory",
        )
    try:
        if not place.endswith(".py"):
            return EntryPoint(source, target, ENTRY_POINTS).load()
        module = _from_file(Path(place))
    except Exception as error:
        raise _failed(source, error, "an importable factory", "Check the name, the Python path, the module.") from error
    if not hasattr(module, name):
        raise _no_such_name(source, name, module)
    return getattr(module, name)


def _meant(source: str, known: Mapping[str, str]) -> str:
    """The name that was probably meant by `source`."""
    if Path(source).suffix == ".py":
        return f"Name what builds the workload, too: {source}:NAME."
    return _close_name(source, known) or "Name one of these."


def _close_name(given: str, names: Iterable[str]) -> str:
    """The question whether one of `names` was meant; empty if none is close."""
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(given.lower(), by_lower, n=1)
    return f"Did you mean {by_lower[close[0]]}?" if close else ""


def _no_such_name(source: str, name: str, module: ModuleType) -> InputError:
    defined = [
        key
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__ and not key.startswith("_")
    ]
    return InputError(
        f"workload {source}",
        got=f"no {name} in that file",
        expected=f"one of {', '.join(defined)}" if defined else "a class or function that builds a workload",
        fix=_close_name(name, defined) or "Name what builds the workload.",
    )


def _from_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"compass_workload_{path.stem}", path)
    if spec is None or spec.loader is None:  # pragma: no cover - a .py file always has a loader
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look up a class's module there
    folder = str(path.resolve().parent)
    if folder not in sys.path:  # as for a script, which may import its neighbours at any time
        sys.path.insert(0, folder)
    spec.loader.exec_module(module)
    return module


def _failed(source: str, error: Exception, expected: str, fix: str) -> InputError:
    return InputError(f"workload {source}", got=f"{type(error).__name__}: {error}", expected=expected, fix=fix)
