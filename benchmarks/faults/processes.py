"""Starting a process, finding everything that it started, and waiting for all of it to end."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import psutil

from benchmarks.faults import child
from benchmarks.faults.child import Settings

MARK = "COMPASS_FAULTS"
"""In the environment of every process of a start."""
POLL_S = 0.004
END_S = 15.0
"""Within which nothing may be left of a start whose first process has ended: loader processes look for their parent every 5 s."""
TIMEOUT_S = 100.0


@dataclass
class Running:
    """A start of a command: its first process, and all that belongs to it."""

    pid: int
    token: str
    logs: Path
    began_s: float
    code: int | None = None
    popen: subprocess.Popen[bytes] | None = None
    seen: set[int] = field(default_factory=set)
    """Every process of it that was ever seen."""

    def ended(self) -> bool:
        """Whether the first process has ended; then `code` is its exit code, negative for a signal."""
        if self.code is None:
            if self.popen is not None:
                self.code = self.popen.poll()
            elif (found := os.waitpid(self.pid, os.WNOHANG))[0]:
                self.code = os.waitstatus_to_exitcode(found[1])
        return self.code is not None

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> bool:
        """Wait for the first process to end, or for `until`; False if neither came."""
        deadline_s = time.monotonic() + seconds
        while not self.ended() and not until():
            if time.monotonic() > deadline_s:
                return False
            time.sleep(POLL_S)
        return True

    def others(self) -> list[psutil.Process]:
        """The processes of this start beside the first one, whoever their parent is now."""
        found = [one for one in psutil.process_iter() if one.pid != self.pid and self._is_ours(one)]
        self.seen.update(one.pid for one in found)
        return found

    def _is_ours(self, process: psutil.Process) -> bool:
        """By the session, or by the environment: workers have sessions of their own, forks no environment of their own."""
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                return False
            if os.getsid(process.pid) == self.pid:
                return True
            mark = f"{MARK}={self.token}".encode()
            return mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
        return False

    def signal(self, number: int) -> None:
        """Signal the first process."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def leftovers(self) -> list[str]:
        """The command lines of processes that outlive the first one by `END_S`; they are killed."""
        deadline_s = time.monotonic() + END_S
        while (found := self.others()) and time.monotonic() < deadline_s:
            time.sleep(0.05)
        lines = []
        for one in found:
            with contextlib.suppress(psutil.Error):
                lines.append(f"{one.pid} {' '.join(one.cmdline())[:120]}")
                one.kill()
        return lines

    def kill(self) -> None:
        """End everything."""
        for one in self.others():
            with contextlib.suppress(psutil.Error):
                one.kill()
        self.signal(signal.SIGKILL)
        self.wait(10)

    def said(self) -> str:
        """What it wrote to stderr."""
        return (self.logs / "stderr").read_text(errors="replace")


def launch(settings: Settings, logs: Path, environment: Mapping[str, str]) -> Running:
    """Start the command in a session of its own; its output goes into `logs`."""
    logs.mkdir(parents=True, exist_ok=True)
    token = secrets.token_hex(8)
    environment = {**os.environ, **environment, MARK: token}
    if settings.cold or settings.ranks > 1:
        with (logs / "stdout").open("wb") as out, (logs / "stderr").open("wb") as err:
            popen = subprocess.Popen(
                _command(settings),
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment, start_new_session=True,
            )  # fmt: skip
        return Running(popen.pid, token, logs, time.monotonic(), popen=popen)
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        _forked(settings, logs, environment)
    return Running(pid, token, logs, time.monotonic())


def _command(settings: Settings) -> list[str]:
    """A new interpreter, or torchrun with several."""
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={settings.ranks}", f"--master-port={settings.port}"]
    started = launcher if settings.ranks > 1 else []
    return [sys.executable, "-P", *started, "-m", "benchmarks.faults.child", child.as_argument(settings)]


def _forked(settings: Settings, logs: Path, environment: Mapping[str, str]) -> NoReturn:
    """In the fork: become the command."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})  # the command is not there yet
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    tempfile.tempdir = None  # the harness has looked up its own
    opened = [(0, os.devnull, os.O_RDONLY)]
    opened += [
        (1 + at, str(logs / name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for at, name in enumerate(("stdout", "stderr"))
    ]
    for descriptor, name, flags in opened:
        file = os.open(name, flags, 0o600)
        os.dup2(file, descriptor)
        os.close(file)
    child.become(settings)
