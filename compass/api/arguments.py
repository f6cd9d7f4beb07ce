"""What the functions share: paths as text, settings by dotted key, and a workload as a name, a class or a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from compass.config_files import SettingChange, load_config
from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.profile import Profile, read_profile
from compass.records import STAGES, Stage
from compass.units import parse_bytes

AnyPath = Path | str
WorkloadSource = str | type | Callable[..., Any]
"""A family's name, `package.module:factory`, `path/to/file.py:factory`, or the class or function itself."""


def path_of(given: AnyPath | None) -> Path | None:
    """`given` as a path, `~` being the user's folder; None stays None."""
    return None if given is None else Path(given).expanduser()


def profile_of(given: Profile | AnyPath) -> Profile:
    """A profile, which is read if `given` is a path."""
    return given if isinstance(given, Profile) else read_profile(Path(given).expanduser())


def stages_of(given: Stage | Iterable[Stage]) -> tuple[Stage, ...]:
    """The stages in `given`, or the one that it names, in the order of development.

    Raises:
        InputError: there is none, or one that does not exist.
    """
    wanted = (given,) if isinstance(given, str) else tuple(given)
    if not wanted or set(wanted) - set(STAGES):
        raise InputError("stages", got=repr(given), expected=f"one or more of {', '.join(STAGES)}", fix="Name them so.")
    return tuple(stage for stage in STAGES if stage in wanted)


def bytes_of(given: int | str | None, *, where: str = "memory_limit") -> int | None:
    """Bytes, given as a number or as a size such as `"6GiB"`; None stays None."""
    return parse_bytes(given, where=where) if isinstance(given, str) else given


def check_count(name: str, given: int | None) -> None:
    """Refuse a number of samples under 1.

    Raises:
        InputError: it is.
    """
    if given is not None and given < 1:
        raise InputError(
            name, got=repr(given), expected="a whole number above zero", fix="Give the number of samples you train on."
        )


def config_of(
    config: OptimizerConfig | AnyPath | None,
    settings: Mapping[str, Any] | None = None,
    **of_dataset: AnyPath | None,
) -> OptimizerConfig:
    """The given configuration, changed by `settings`, then by those arguments of the dataset that are given."""
    changes = [SettingChange(f"settings[{key!r}]", key, value) for key, value in (settings or {}).items()]
    changes += [
        SettingChange("dataset" if name == "path" else name, f"dataset.{name}", str(path_of(value)))
        for name, value in of_dataset.items()
        if value is not None
    ]
    if isinstance(config, OptimizerConfig):
        return load_config(None, changes, config)
    return load_config(path_of(config), changes)


def source_of(workload: WorkloadSource) -> str:
    """The text by which a worker process finds `workload`: a family's name, or `file.py:name`.

    Raises:
        InputError: it is not defined in a file, or is defined inside a function.
    """
    if isinstance(workload, str):
        return workload
    name = getattr(workload, "__qualname__", "")
    try:
        file = inspect.getsourcefile(workload)
    except (TypeError, OSError):  # an OSError in a notebook, whose cells are in no file
        file = None
    if file is None or not name or "<" in name or not Path(file).is_file():
        raise InputError(
            "workload",
            got=repr(workload),
            expected="a class or function at the top of a file",
            fix="Move it to a file of its own: a worker process imports it from there.",
        )
    return f"{Path(file).resolve()}:{name}"
