"""The kinds of fault. Each happens once to a running command, at a random moment, or to its files between two starts."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import psutil

from benchmarks.faults.child import Settings
from benchmarks.faults.processes import Running
from benchmarks.faults.rules import stopped_by

Whom = Literal["parent", "child", "both"]

SIGNALS = {"SIGKILL": signal.SIGKILL, "SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT, "SIGSTOP": signal.SIGSTOP}
STOPPED_S = 0.5
"""Between SIGSTOP and SIGCONT."""
JUMPS_S = (-3e7, -86400.0, -3600.0, 3600.0, 3e7)
DISK_BYTES = 64 << 20
REMOUNTS = 200
"""Attempts to make a folder read-only, which is refused while a file that was opened since its mount is written."""


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    signal: str = ""
    whom: Whom = "parent"
    damage: str = ""
    """How a file is damaged: bit, cut or emptied."""
    place: Literal["", "disk full", "read-only", "two at once", "clock"] = ""


def kinds() -> tuple[Kind, ...]:
    """Every kind."""
    found = [Kind(f"{name} {whom}", signal=name, whom=whom) for name in SIGNALS for whom in ("parent", "child", "both")]
    found += [Kind(f"damage: {damage}", damage=damage) for damage in ("bit", "cut", "emptied")]
    return (*found, *(Kind(place, place=place) for place in ("disk full", "read-only", "two at once", "clock")))


def send(kind: Kind, running: Running, draw: random.Random) -> bool:
    """Send the signal of `kind`; False if there was no process of that kind to send it to."""
    number = SIGNALS[kind.signal]
    others = running.others() if kind.whom != "parent" else []
    if kind.whom == "child":
        others = [one for one in others if _works(one)]
        if not others:
            return False
        others = [draw.choice(others)]
    targets = [one.pid for one in others] + ([] if kind.whom == "child" else [running.pid])
    _signal_all(targets, number)
    if number == signal.SIGSTOP:
        time.sleep(STOPPED_S)
        _signal_all(targets, signal.SIGCONT)
    return True


def _works(process: psutil.Process) -> bool:
    """Whether it does work of its own, and is not multiprocessing's tracker of resources."""
    with contextlib.suppress(psutil.Error):
        return not any("resource_tracker" in part for part in process.cmdline())
    return False


def _signal_all(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def expected_codes(kind: Kind, *, takes_term: int) -> set[int]:
    """The exit codes of a command that this kind of fault happened to."""
    whole_parent = kind.signal and kind.whom != "child"
    if whole_parent and kind.signal == "SIGKILL":
        return {-signal.SIGKILL}
    if whole_parent and kind.signal == "SIGTERM":
        return stopped_by(signal.SIGTERM, takes_term)
    if whole_parent and kind.signal == "SIGINT":
        return stopped_by(signal.SIGINT, 130)
    if kind.place in {"disk full", "read-only"}:
        return {0, 2}
    return {0}


def with_clock(kind: Kind, settings: Settings, moment_s: float, draw: random.Random) -> Settings:
    """`settings` of a process whose clock jumps at that moment, if that is the kind."""
    return replace(settings, jump_after_s=moment_s, jump_s=draw.choice(JUMPS_S)) if kind.place == "clock" else settings


# ------------------------------------------------------------------------------------------------------------- files


def damage(path: Path, how: str, draw: random.Random) -> bool:
    """Damage a file; False if it is missing or empty."""
    if not path.is_file() or not (content := bytearray(path.read_bytes())):
        return False
    if how == "bit":
        place = draw.randrange(8 * len(content))
        content[place // 8] ^= 1 << place % 8
    else:
        del content[0 if how == "emptied" else draw.randrange(len(content)) :]
    path.write_bytes(content)
    return True


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """`folder` on a small disk of its own, held in memory; it needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder))
    try:
        yield
    finally:
        _unmount(folder)


def fill(folder: Path) -> Path:
    """Fill the disk of `folder`; returns the file that takes the room."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(1 << 20)):
            pass
    return path


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """`folder` read-only for whatever opens a file from now on."""
    _mount("--bind", str(folder), str(folder))
    try:
        for left in reversed(range(REMOUNTS)):
            try:
                _mount("-o", "remount,bind,ro", str(folder))
                break
            except subprocess.CalledProcessError:  # just now a file is open for writing
                if not left:
                    raise
        yield
    finally:
        _unmount(folder)


def may_mount() -> bool:
    """Whether this process may mount disks."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk"):
                return True
        except (subprocess.CalledProcessError, OSError):
            return False


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True)


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", "--lazy", str(folder)], check=True, capture_output=True)
