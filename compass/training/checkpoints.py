"""Checkpoints that survive: written whole or not at all, between two weight updates, the last few and the best."""

from __future__ import annotations

import logging
import os
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compass.device import kinds
from compass.errors import InputError
from compass.records import Record
from compass.training.run_spec import RunSpec
from compass.training.stream import Position
from compass.version import __version__

log = logging.getLogger(__name__)

FORMAT = 1
BEST = "best.ckpt"
_NAME = re.compile(r"batch-(\d+)\.ckpt")


class Progressed(Record):
    """How far a run is."""

    position: Position = Position()
    n_batches: int = 0
    """Of this rank, all epochs together."""
    n_updates: int = 0
    n_graphs: int = 0
    """Of all ranks."""
    elapsed_s: float = 0.0
    best: float | None = None
    """The best validation score so far; less is better."""
    split: str = ""
    """Digest of what is trained on and judged by; empty in older checkpoints."""
    waiting: tuple[tuple[str, float], ...] = ()
    """Samples that were too large for the moment, by id, with their weight in an update."""


def random_state(device: str) -> dict[str, Any]:
    """Of every generator that a training step may use in this process; plain values and tensors."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - the legacy one is what libraries use
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }
    return state | kinds.device_random_state(device, torch)


def set_random_state(state: dict[str, Any], device: str) -> None:
    """Put the generators back."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    random.setstate(state["python"])
    kinds.set_device_random_state(state, device, torch)


class Checkpoints:
    """Those of one run, in a folder of their own."""

    def __init__(self, folder: Path, keep_last: int) -> None:
        self.folder, self._keep_last = folder, keep_last

    def write(
        self,
        spec: RunSpec,
        progressed: Progressed,
        model: dict[str, Any],
        optimizer: dict[str, Any],
        random_states: list[dict[str, Any]],
    ) -> Path:
        """Write one, and drop those beyond the last few, and those of a future that was given up."""
        path = self.folder / f"batch-{progressed.n_batches:09d}.ckpt"
        _write(
            {
                "format": FORMAT,
                "compass": __version__,
                "order": spec.model_dump_json(),
                "progressed": progressed.model_dump_json(),
                "model": model,
                "optimizer": optimizer,
                "random": random_states,
            },
            path,
        )
        paths = self._paths()
        place = paths.index(path)
        for old in (*paths[:place], *paths[place + self._keep_last :]):
            old.unlink(missing_ok=True)
        return path

    def write_best(self, spec: RunSpec, score: float, model: dict[str, Any]) -> None:
        """Keep the weights of the best model so far."""
        content = {
            "format": FORMAT,
            "compass": __version__,
            "order": spec.model_dump_json(),
            "score": score,
            "model": model,
        }
        _write(content, self.folder / BEST)

    def newest(self) -> dict[str, Any] | None:
        """The newest that can be read; None if there is none."""
        for path in self._paths():
            try:
                return read_checkpoint(path)
            except InputError as error:
                log.warning("%s; the one before is taken", error)
        return None

    def _paths(self) -> list[Path]:
        """Newest first."""
        found = [path for path in self.folder.glob("batch-*.ckpt") if _NAME.fullmatch(path.name)]
        return sorted(found, reverse=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of `path`.

    Raises:
        InputError: no such file, damaged, or written by a newer Compass.
    """
    where = f"checkpoint {path}"
    try:
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(
            where, got="no such file", expected="a checkpoint of `compass train`", fix="Check the path."
        ) from error
    except Exception as error:
        raise InputError(where, got=f"a file that cannot be read ({type(error).__name__})", fix="Use another checkpoint.",
                         expected="a whole checkpoint of `compass train`") from error  # fmt: skip
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise InputError(
            where, got="another program's", expected="a checkpoint of `compass train`", fix="Check the path."
        )
    if content["format"] > FORMAT:
        raise InputError(where, got=f"format {content['format']}", expected=f"at most {FORMAT}", fix="Upgrade Compass.")
    return content


def run_spec_in(content: dict[str, Any]) -> RunSpec:
    """The order that a checkpoint's run was started with.

    Raises:
        InputError: it is of another Compass, and cannot be read any more.
    """
    try:
        return RunSpec.model_validate_json(content["order"])
    except ValueError as error:
        raise InputError("checkpoint", got=f"the order of a run by Compass {content.get('compass')}", expected="one of this version",
                         fix="Use the Compass that wrote it.") from error  # fmt: skip


def take_weights(model: torch.nn.Module, content: dict[str, Any]) -> None:
    """Put a checkpoint's weights into `model`.

    Raises:
        InputError: they are another model's.
    """
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        raise InputError("--resume", got="the weights of another model", expected="those of this plan's",
                         fix="Start a new run.") from error  # fmt: skip


def check_split(before: str, now: str) -> None:
    """Refuse to go on with other complexes to train on or to be judged by; older checkpoints do not tell.

    Raises:
        InputError: the files that tell have changed.
    """
    if before and before != now:
        raise InputError("--resume", got="another split of the data", expected="the run as it was",
                         fix="Put its lists, clusters or years back, or allow it with --allow-changes.")  # fmt: skip


def check_unchanged(before: RunSpec, now: RunSpec) -> None:
    """Refuse to go on with something else.

    Raises:
        InputError: what is trained, or how, has changed.
    """
    changes = [
        f"{name} {old} → {new}"
        for (name, old), new in zip(before.identity.items(), now.identity.values(), strict=True)
        if old != new
    ]
    if changes:
        raise InputError(
            "--resume", got="; ".join(changes), expected="the run as it was",
            fix="Start a new run, or allow it with --allow-changes.",
        )  # fmt: skip


def _write(content: dict[str, Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
