"""Checkpoints: written atomically between two weight updates; the last few are kept, and the best model."""

from __future__ import annotations

import errno
import io
import logging
import random
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from compass.device import kinds
from compass.errors import CompassError, InputError
from compass.files import read_file, replacing, sweep
from compass.records import Record
from compass.training.run_spec import RunSpec
from compass.training.seal import seal, sealed
from compass.training.stream import Position
from compass.version import __version__

log = logging.getLogger(__name__)

FORMAT = 3
"""Format 1, of version 0.1, holds the run's settings under another key; formats 1 and 2 have no seal."""
FIRST_SEALED = 3
BEST = "best.ckpt"
_NAME = re.compile(r"batch-(\d+)\.ckpt")


class Progressed(Record):
    """The progress of a run."""

    position: Position = Position()
    n_batches: int = 0
    """Batches of this rank in all epochs."""
    n_updates: int = 0
    n_left_out: int = 0
    """Of the updates, those that changed nothing, because their loss or their gradient was not finite."""
    n_graphs: int = 0
    """Graphs of all ranks in all epochs."""
    elapsed_s: float = 0.0
    best: float | None = None
    """The best validation score so far; lower is better."""
    split: str = ""
    """Digest of the split of the data; empty in older checkpoints."""
    waiting: tuple[tuple[str, float], ...] = ()
    """Ids of samples that did not fit the free memory yet, with their weight in an update."""
    epoch_loss: float = 0.0
    """Sum of the loss over the graphs of this rank in the present epoch."""
    epoch_graphs: int = 0

    @property
    def n_made(self) -> int:
        """Updates that changed the weights."""
        return self.n_updates - self.n_left_out


def random_state(device: str) -> dict[str, Any]:
    """The states of all random generators that a training step in this process may use, as plain values and tensors."""
    name, keys, *rest = np.random.get_state()  # noqa: NPY002 - libraries use the legacy generator
    state = {
        "torch": torch.get_rng_state(),
        "numpy": [name, np.asarray(keys).tolist(), *rest],
        "python": random.getstate(),
    }
    return state | kinds.device_random_state(device, torch)


def set_random_state(state: dict[str, Any], device: str) -> None:
    """Restore the random generators to `state`, which `random_state` returned."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(tuple(state["numpy"]))  # noqa: NPY002
    random.setstate(state["python"])
    kinds.set_device_random_state(state, device, torch)


class BrokenWeights(CompassError):  # noqa: N818 - it names what happened
    """Weights are not finite numbers, and so are not written."""

    exit_code = 3


class Checkpoints:
    """The checkpoints of one run, in a folder of their own. None of them holds weights that are not finite."""

    def __init__(self, folder: Path, keep_last: int, buffers: Iterable[str] = ()) -> None:
        """Checkpoints in `folder`; `buffers` are the names in a model's state that are no weights and may hold anything."""
        self.folder, self._keep_last, self._buffers = folder, keep_last, tuple(buffers)

    def write(
        self,
        spec: RunSpec,
        progressed: Progressed,
        model: dict[str, Any],
        optimizer: dict[str, Any],
        random_states: list[dict[str, Any]],
    ) -> Path:
        """Write a checkpoint, and delete those that are too old or lie ahead of it.

        Checkpoints lie ahead if they were damaged, so that the run was resumed from an earlier one.

        Args:
            spec: the settings of the run.
            progressed: the progress of the run.
            model: state of the model.
            optimizer: state of the optimizer.
            random_states: for each rank, see `random_state`.

        Raises:
            BrokenWeights: a weight is not a finite number.
        """
        path = self.folder / f"batch-{progressed.n_batches:09d}.ckpt"
        _write(
            {
                "format": FORMAT,
                "compass": __version__,
                "run_spec": spec.model_dump_json(),
                "progressed": progressed.model_dump_json(),
                "model": model,
                "buffers": self._buffers,
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
        """Write the weights of the best model so far; lower scores are better.

        Raises:
            BrokenWeights: a weight is not a finite number.
        """
        content = {
            "format": FORMAT,
            "compass": __version__,
            "run_spec": spec.model_dump_json(),
            "score": score,
            "model": model,
            "buffers": self._buffers,
        }
        _write(content, self.folder / BEST)

    def newest(self) -> dict[str, Any] | None:
        """The content of the newest checkpoint that can be read; None if there is none."""
        for path in self._paths():
            try:
                content = read_checkpoint(path)
            except InputError as error:
                log.warning("%s (using the checkpoint before it)", error)
                continue
            if not (broken := not_finite(content)):
                return content
            log.warning("checkpoint %s: %s is not finite (using the checkpoint before it)", path, broken)
        return None

    def best(self) -> dict[str, Any] | None:
        """The content of the best model's file; None if there is none that can be read."""
        path = self.folder / BEST
        try:
            return read_checkpoint(path) if path.exists() else None
        except InputError as error:
            log.warning("%s", error)
            return None

    @property
    def kept(self) -> tuple[str, str]:
        """(what a run that ends with an error says of them before a command, the flag of that command)."""
        if self.is_empty:
            return "No checkpoint was written yet. Begin anew", "--restart"
        return "Checkpoints are kept. Go on", "--resume"

    @property
    def is_empty(self) -> bool:
        """Whether no checkpoint to resume from has been written; the best model alone is none."""
        return not self._paths()

    def clear(self) -> None:
        """Delete all checkpoints, and what killed processes left of them."""
        for path in (*self._paths(), self.folder / BEST):
            path.unlink(missing_ok=True)
        self.sweep()

    def sweep(self) -> None:
        """Delete what killed processes left of checkpoints."""
        sweep(self.folder, (BEST, "batch-*.ckpt"))

    def _paths(self) -> list[Path]:
        """The checkpoints' files, newest first."""
        found = [path for path in self.folder.glob("batch-*.ckpt") if _NAME.fullmatch(path.name)]
        return sorted(found, reverse=True)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of the checkpoint at `path`, with its tensors on the CPU.

    Raises:
        InputError: the file is missing, damaged, no checkpoint, or written by a newer version of Compass.
    """
    where = f"checkpoint {path}"
    try:
        content = _loaded(read_file(path))
    except FileNotFoundError as error:
        raise InputError(
            where, got="no such file", expected="a checkpoint of `compass train`", fix="Check the path."
        ) from error
    except Exception as error:
        raise InputError(
            where,
            got=f"a file that is damaged ({error})"
            if type(error) is ValueError
            else f"a file that cannot be read ({type(error).__name__})",
            fix="Use another checkpoint.",
            expected="an undamaged checkpoint of `compass train`",
        ) from error
    if not isinstance(content, dict) or not isinstance(content.get("format"), int):
        raise InputError(
            where, got="a file of another program", expected="a checkpoint of `compass train`", fix="Check the path."
        )
    if content["format"] > FORMAT:
        raise InputError(where, got=f"format {content['format']}", expected=f"at most {FORMAT}", fix="Upgrade Compass.")
    if not isinstance(content.get("model"), dict) or not isinstance(content.get(_key_of_spec(content)), str):
        raise InputError(
            where,
            got="a file without weights or settings of its run",
            expected="an undamaged checkpoint of `compass train`",
            fix="Use another checkpoint.",
        )
    return content


def _key_of_spec(content: Mapping[str, Any]) -> str:
    return "order" if content["format"] == 1 else "run_spec"


def run_spec_in(content: dict[str, Any]) -> RunSpec:
    """The settings of the run that wrote a checkpoint.

    Raises:
        InputError: they are from another version of Compass, and this one cannot read them.
    """
    try:
        return RunSpec.model_validate_json(content[_key_of_spec(content)])
    except ValueError as error:
        raise InputError(
            "checkpoint",
            got=f"one written by Compass {content.get('compass')}, whose run settings this version cannot read",
            expected="one of this version",
            fix="Use the Compass that wrote it.",
        ) from error


def load_weights(model: torch.nn.Module, content: dict[str, Any]) -> None:
    """Load a checkpoint's weights into `model`.

    Raises:
        InputError: the checkpoint is of a model with other parameters.
    """
    try:
        model.load_state_dict(content["model"])
    except RuntimeError as error:
        raise InputError(
            "--resume",
            got="the weights of another model",
            expected="weights of the planned model",
            fix="Start a new run in another --out.",
        ) from error


def check_split(before: str, now: str) -> None:
    """Refuse to resume with another split of the data; `before` is empty in older checkpoints, which pass.

    Raises:
        InputError: the digests differ.
    """
    if before and before != now:
        raise InputError(
            "--resume",
            got="another split of the data",
            expected="the split that the run began with",
            fix="Restore its lists, clusters or years, or pass --allow-changes.",
        )


def check_unchanged(before: RunSpec, now: RunSpec) -> None:
    """Refuse to resume with other settings.

    Raises:
        InputError: the data, the model or its training changed.
    """
    changes = [
        f"{name} {old} → {new}"
        for (name, old), new in zip(before.identity.items(), now.identity.values(), strict=True)
        if old != new
    ]
    if changes:
        raise InputError(
            "--resume",
            got="; ".join(changes),
            expected="the settings that the run began with",
            fix="Start a new run in another --out, or pass --allow-changes.",
        )


def _loaded(data: bytes) -> Any:
    """The content of a file of `torch.save`.

    Raises:
        ValueError: it is not as its checksum says.
    """
    is_sealed, whole = sealed(data)
    if not whole:
        raise ValueError("its checksum is not that of its content")
    content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if isinstance(content, dict) and FIRST_SEALED <= content.get("format", 0) <= FORMAT and not is_sealed:
        raise ValueError("its checksum is missing")
    return content


def not_finite(content: Mapping[str, Any]) -> str:
    """The name of a weight in a checkpoint that is not finite; empty if all are. Buffers may be masks with infinite entries."""
    weights = ((name, value) for name, value in content["model"].items() if name not in content.get("buffers", ()))
    floats = ((name, value) for name, value in weights if torch.is_tensor(value) and value.is_floating_point())
    return next((name for name, value in floats if not bool(torch.isfinite(value).all())), "")


def _write(content: dict[str, Any], path: Path) -> None:
    if broken := not_finite(content):
        raise BrokenWeights(f"{broken} is no longer finite, and {path.name} is not written")
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        try:
            torch.save(content, file)
        except RuntimeError as error:  # its writer's, which hides the error of the file
            cause = error.__context__
            raise cause if isinstance(cause, OSError) else OSError(errno.EIO, str(error).partition("\n")[0]) from error
        seal(file)
