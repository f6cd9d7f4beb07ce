"""Files that are written whole: a reader finds the former content or the new one, never a part of it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from compass.errors import InputError

MODEL_SUFFIX = ".model.pkl"
"""End of the name of a file that holds a model of the user's; see `compass.workloads.model_file`."""


@contextmanager
def replacing(path: Path, *, suffix: str = "") -> Iterator[BinaryIO]:
    """A temporary file beside `path`, which takes the place of `path` when the block ends without an exception.

    Its name starts with `.NAME.` and ends with `suffix`. A process that is killed in the block leaves it behind.

    Raises:
        OSError: the folder cannot be written to.
    """
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{suffix}"
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)  # who may read it is the umask's decision
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def sweep(folder: Path, names: Iterable[str]) -> list[Path]:
    """Delete what killed processes left of files with these names in `folder`, and return the deleted files.

    Only for a folder that no other process writes to.
    """
    found = [path for name in names for path in folder.glob(f".{name}.*") if path.is_file()]
    for path in found:
        path.unlink(missing_ok=True)
    return found


def write_text(text: str, path: Path, *, option: str = "--out") -> None:
    """Write `text` to `path`, whole, as UTF-8; `option` is the flag that named the file.

    Raises:
        InputError: the folder cannot be written to.
    """
    try:
        with replacing(path) as file:
            file.write(text.encode("utf-8"))
    except OSError as error:
        raise unwritable(path, error, option) from error


def first_of(folder: Path, names: Sequence[str]) -> Path | None:
    """The first file of these names that `folder` has."""
    return next((folder / name for name in names if (folder / name).exists()), None)


def unwritable(path: Path, error: OSError, option: str = "--out") -> InputError:
    """The error for an output, named by `option`, that cannot be written."""
    return InputError(
        f"output {path}",
        got=error.strerror or str(error),
        expected="a file in a writable folder",
        fix=f"Choose another {option}.",
    )
