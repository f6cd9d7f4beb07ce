"""The commands that Compass suggests, with the user's own files and limits: each can be typed as it stands, and costs no work."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compass.records import Record, Stage
from compass.units import GIB, MIB

_FLAGS = {"dataset.path": "--dataset", "dataset.index": "--index"}
"""Settings that have a flag of their own."""


class Asked(Record):
    """The request behind a profile, beside its workload: enough to ask again."""

    device: str | None = None
    """As given by `--device`; None: the preferred one."""
    memory_limit_bytes: int | None = None
    """As given by `--memory-limit`; None: all memory that is free."""
    dataset_size: int | None = None
    """As given by `--dataset-size`; None: counted, or the configured default."""
    devices: int = 1
    """As given by `--devices`."""
    nodes: int = 1
    """As given by `--nodes`."""
    settings: dict[str, Any] = {}
    """Values that differ from their defaults, by dotted key."""

    @property
    def dataset(self) -> str:
        """The path of the dataset; empty without one."""
        return str(self.settings.get("dataset.path", ""))


def optimize_again(
    asked: Asked,
    workload: str,
    *,
    stages: Sequence[Stage] = (),
    out: Path | None = None,
    changes: Mapping[str, str] = {},
) -> str:
    """`compass optimize` as in `asked`, for `stages` or for all; `changes` are flags with other values."""
    flags = {
        "--stage": ",".join(stages),
        "--workload": "" if workload == "visnet" else workload,
        "--dataset": "",
        "--index": "",
        "--dataset-size": "" if asked.dataset_size is None else str(asked.dataset_size),
        "--memory-limit": "" if asked.memory_limit_bytes is None else as_flag(asked.memory_limit_bytes),
        "--device": asked.device or "",
        "--devices": "" if asked.devices == 1 else str(asked.devices),
        "--nodes": "" if asked.nodes == 1 else str(asked.nodes),
        "--out": as_option(out),
    }
    others = []
    for key, value in asked.settings.items():
        if key in _FLAGS:
            flags[_FLAGS[key]] = str(value)
        else:
            others += ["--set", f"{key}={_as_value(value)}"]
    flags |= changes
    return command("optimize", flags, others)


def command(name: str, flags: Mapping[str, str] = {}, others: Sequence[str] = ()) -> str:
    """`compass NAME` with the flags that have a value, then `others`, quoted for a shell."""
    given = [part for flag, value in flags.items() if value for part in (flag, value)]
    return " ".join(["compass", name, *map(shlex.quote, [*given, *others])])


def as_option(path: Path | None, default: str = "hardware_profile.json") -> str:
    """A path as the value of a flag; empty where it is the flag's default."""
    return "" if path is None or path == Path(default) else str(path)


def as_flag(n_bytes: int) -> str:
    """A size as `--memory-limit` takes it, without rounding."""
    for unit, size in (("GiB", GIB), ("MiB", MIB)):
        if n_bytes % size == 0:
            return f"{n_bytes // size}{unit}"
    return str(n_bytes)


def _as_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
