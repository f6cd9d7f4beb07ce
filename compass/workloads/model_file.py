"""A model of the user's in a file, from which worker processes take it: its classes may be defined in a script or a notebook.

The file is a pickle, so reading it runs code; see `compass.planning.trust`. A pickle notices little of what happened to it: a flipped
bit gives other weights, or calls another function. Behind the pickle stands a checksum, without which nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import sys
from pathlib import Path
from typing import Any

from compass.errors import InputError
from compass.files import read_file, replacing, unwritable
from compass.workloads.fixed import FixedModel

_MARK = b"\ncompass sha256 "
_SIZE = len(_MARK) + 2 * hashlib.sha256().digest_size


def write_model(path: Path, model: FixedModel) -> None:
    """Write `model` with the folders in which its modules are found.

    Raises:
        InputError: something in it cannot be pickled, or the file cannot be written.
    """
    import cloudpickle  # a worker needs it only to read what this wrote

    try:
        kept = cloudpickle.dumps(model)
    except Exception as error:
        raise InputError(
            "model, loader or loss",
            got=f"{type(error).__name__}: {error}",
            expected="objects that can be pickled for a worker process",
            fix="Make open files and connections when they are first used, or name a function that makes the model: FILE.py:NAME.",
        ) from error
    try:
        with replacing(path) as file:
            content = pickle.dumps({"folders": sys.path, "model": kept})
            file.write(content)
            file.write(_seal_of(content))
    except OSError as error:
        raise unwritable(path, error, "out") from error


def read_model(path: Path) -> Any:
    """The model that `write_model` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        data = pickle.loads(_unsealed(read_file(path)))  # noqa: S301 - of a file that the user named or made
        sys.path += [folder for folder in data["folders"] if folder not in sys.path]
        return pickle.load(io.BytesIO(data["model"]))  # noqa: S301
    except Exception as error:
        raise InputError(
            f"model {path}",
            got=f"{type(error).__name__}: {error}",
            expected="a file that compass.fit wrote, whose classes can be imported",
            fix="Call compass.fit again.",
        ) from error


def _seal_of(content: bytes | memoryview) -> bytes:
    return _MARK + hashlib.sha256(content).hexdigest().encode()


def _unsealed(content: bytes) -> memoryview:
    """The pickle in a model's file.

    Raises:
        ValueError: it is not as it was written.
    """
    kept = memoryview(content)[:-_SIZE]
    if content[-_SIZE:] != _seal_of(kept):
        raise ValueError("its checksum is missing, or not that of its content")
    return kept
