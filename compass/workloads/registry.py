"""From a workload's name to the workload: a family inside, an installed one, `package.module:factory`, or a file."""

from __future__ import annotations

import importlib
import importlib.util
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compass.errors import InputError
from compass.workloads.protocol import Workload

if TYPE_CHECKING:
    from compass.optimizer_config import OptimizerConfig

ENTRY_POINTS = "compass.workloads"
FAMILIES = {"visnet": "compass.workloads.visnet:ViSNetWorkload"}


def load_workload(source: str, config: OptimizerConfig) -> Workload:
    """The workload that `source` names; its factory is called with `config`.

    Raises:
        InputError: there is no such family, module, file or factory, or what it makes is not a workload.
    """
    workload = _factory(source)(config)
    if not isinstance(workload, Workload):
        missing = [name for name in Workload.__protocol_attrs__ if not hasattr(workload, name)]  # type: ignore[attr-defined]
        raise InputError(
            f"workload {source}", got=f"an object without {', '.join(sorted(missing))}",
            expected="the members of compass.workloads.protocol.Workload", fix="Add what is missing.",
        )  # fmt: skip
    return workload


def _factory(source: str) -> Any:
    target = FAMILIES.get(source) or next((e.value for e in entry_points(group=ENTRY_POINTS, name=source)), source)
    place, _, name = target.rpartition(":")
    if not place:
        raise InputError(
            "workload", got=source, fix="Name one of these.",
            expected=f"one of {', '.join(FAMILIES)}, package.module:factory or path/to/file.py:factory",
        )  # fmt: skip
    try:
        module = _from_file(Path(place)) if place.endswith(".py") else importlib.import_module(place)
        return getattr(module, name)
    except (ImportError, OSError, AttributeError) as error:
        raise InputError(f"workload {source}", got=str(error), expected="an importable factory",
                         fix="Check the spelling and the Python path.") from error  # fmt: skip


def _from_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:  # pragma: no cover - a .py file always has a loader
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
