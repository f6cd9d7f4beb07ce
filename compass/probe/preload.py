"""The allocators that this machine offers: glibc's settings, and libraries that the system's loader finds."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from compass.errors import InputError
from compass.records import ALLOCATORS, Allocator

PREFIXES = (Path(sys.prefix) / "lib",)
"""Folders beside those that the loader knows: an environment of conda keeps its libraries in its own."""


def is_offered(allocator: Allocator) -> bool:
    """Whether training can run under `allocator` here: glibc's settings need glibc, the others their library."""
    kind = ALLOCATORS[allocator]
    if allocator in {"fast", "system"}:  # without glibc, its settings do nothing
        return True
    if sys.platform != "linux":
        return False
    return _find(kind.library) is not None if kind.library else platform.libc_ver()[0] == "glibc"


def library_file(allocator: Allocator) -> Path:
    """The file of a preloaded allocator, with every link followed, so that its name tells the version.

    Raises:
        InputError: it is not installed.
    """
    kind = ALLOCATORS[allocator]
    found = _find(kind.library)
    if found is None:
        raise InputError(
            f"allocator {allocator}",
            got=f"no library {kind.library}",
            expected="one that the system's loader finds",
            fix=f"Install it (Debian: apt install {kind.package}), or optimize again without it.",
        )
    return found


def library_name(allocator: Allocator) -> str:
    """The name of the file that `allocator` is preloaded from; empty if it needs none, or none is installed."""
    library = ALLOCATORS[allocator].library
    found = _find(library) if library else None
    return "" if found is None else found.name


@cache
def _find(library: str) -> Path | None:
    pattern = re.compile(rf"lib{library}\.so(\.\d+)*")
    own = [Path(folder) for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    inside = (path for folder in (*own, *PREFIXES) for path in folder.glob(f"lib{library}.so*"))
    found = next((path for path in (*inside, *_known_to_loader()) if pattern.fullmatch(path.name)), None)
    return None if found is None else found.resolve()


@cache
def _known_to_loader() -> tuple[Path, ...]:
    """Every library in the loader's cache."""
    ldconfig = shutil.which("ldconfig") or "/sbin/ldconfig"
    try:
        listed = subprocess.run([ldconfig, "-p"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(Path(line.partition(" => ")[2]) for line in listed.splitlines() if " => " in line)
