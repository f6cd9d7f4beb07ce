"""What may lie where a reader expects a file, and is none: folders, pipes, devices, circles of links."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PLACES = ("nothing", "folder", "pipe", "link to itself", "link to nothing", "no permission", "socket", "/dev/zero", "/dev/null",
          "/dev/full", "/dev/tty", "/proc/self/mem", "a name too long")  # fmt: skip


@contextmanager
def put(what: str, path: Path) -> Iterator[None]:
    """Put one of `PLACES` at `path` for the time of the block."""
    _remove(path)
    found = None
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link to itself":
        path.symlink_to(path.name)
    elif what == "link to nothing":
        path.symlink_to("nowhere")
    elif what == "no permission":
        path.touch(mode=0)
    elif what == "socket":
        found = socket.socket(socket.AF_UNIX)
        found.bind(os.fspath(path))
    elif what == "a name too long":
        path.symlink_to("x" * 255 + "/" + "y" * 300)
    elif what.startswith("/"):
        path.symlink_to(what)
    try:
        yield
    finally:
        if found is not None:
            found.close()
        _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        with suppress(FileNotFoundError):
            path.unlink()
