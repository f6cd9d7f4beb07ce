"""A model of the user's in a file, from which worker processes take it: its classes may be defined in a script or a notebook.

The file is a pickle, so reading it runs code; see `compass.planning.trust`.
"""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from typing import Any

from compass.errors import InputError
from compass.files import replacing, unwritable
from compass.workloads.fixed import FixedModel


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
            pickle.dump({"folders": sys.path, "model": kept}, file)
    except OSError as error:
        raise unwritable(path, error, "out") from error


def read_model(path: Path) -> Any:
    """The model that `write_model` wrote.

    Raises:
        InputError: the file is missing or damaged.
    """
    try:
        data = pickle.loads(path.read_bytes())  # noqa: S301 - of a file that the user named or made
        sys.path += [folder for folder in data["folders"] if folder not in sys.path]
        return pickle.load(io.BytesIO(data["model"]))  # noqa: S301
    except Exception as error:
        raise InputError(
            f"model {path}",
            got=f"{type(error).__name__}: {error}",
            expected="a file that compass.fit wrote, whose classes can be imported",
            fix="Call compass.fit again.",
        ) from error
