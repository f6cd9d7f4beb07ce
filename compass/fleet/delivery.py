"""How workload and dataset reach the nodes: by their path on shared storage, or in a folder that the engine sends."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from compass.errors import InputError
from compass.files import MODEL_SUFFIX
from compass.fleet.agent import DELIVERED
from compass.fleet.engine import FleetEngine
from compass.fleet.fleet_file import FleetFile
from compass.fleet.head import file_of
from compass.planning.request import Request
from compass.temporary import TemporaryFolder
from compass.units import MIB, format_bytes

MOST_SENT_BYTES = 500 * MIB
"""Of a delivered folder: Ray refuses 512 MiB."""


@contextmanager
def delivering(request: Request, file: FleetFile, engine: FleetEngine) -> Iterator[Mapping[str, str]]:
    """The paths of this machine that are sent to the nodes, each with its path there. Empty if all lie on shared storage.

    Raises:
        InputError: the engine sends nothing, or they are too large to be sent.
    """
    workload = file_of(request.workload) if file.workload == "runtime_env" else ""
    dataset = request.config.dataset if file.dataset == "runtime_env" else None
    if not workload and (dataset is None or not dataset.path):
        yield {}
        return
    if not engine.sends_files:  # this machine: the files are where they are
        yield {}
        return
    folder = TemporaryFolder()
    try:
        root, delivered = folder.path / "sent", {}
        root.mkdir()
        if workload:
            delivered[workload] = _sent_workload(Path(workload), root / "workload")
        if dataset is not None and dataset.path:
            delivered[dataset.path] = _sent(Path(dataset.path), root / "dataset")
            if dataset.index and dataset.index not in delivered:
                delivered[dataset.index] = _sent(Path(dataset.index), root / "index")
        _check_size(root)
        engine.send(root)
        yield delivered
    finally:
        folder.remove()


def _sent_workload(file: Path, folder: Path) -> str:
    """The workload's file with the Python files beside it, which it may import."""
    folder.mkdir()
    beside = [] if file.name.endswith(MODEL_SUFFIX) else sorted(file.parent.glob("*.py"))
    for one in {file, *beside}:
        shutil.copy2(one, folder / one.name)
    return f"{DELIVERED}{folder.name}/{file.name}"


def _sent(path: Path, folder: Path) -> str:
    """A copy of a file or a folder."""
    folder.mkdir()
    copy = shutil.copytree if path.is_dir() else shutil.copy2
    copy(path, folder / path.name)
    return f"{DELIVERED}{folder.name}/{path.name}"


def _check_size(folder: Path) -> None:
    n_bytes = sum(one.stat().st_size for one in folder.rglob("*") if one.is_file())
    if n_bytes > MOST_SENT_BYTES:
        raise InputError(
            "fleet file, dataset: runtime_env",
            got=f"{format_bytes(n_bytes)} of workload and dataset",
            expected=f"at most {format_bytes(MOST_SENT_BYTES)}",
            fix="Put the dataset on shared storage and write `dataset: path`.",
        )
