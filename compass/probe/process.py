"""A worker process seen from the parent: asked, watched, and killed with everything it started."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Any

from compass.device.process import process_memory
from compass.errors import InputError, WorkerError
from compass.probe.runtime import environment
from compass.records import RuntimeSettings
from compass.units import format_seconds

log = logging.getLogger(__name__)

POLL_S = 0.05
"""How often the worker's memory is looked at while it works: its data segment's peak is kept by nobody else."""
STDERR_TAIL_BYTES = 8192
START_TIMEOUT_S = 300.0
"""Importing torch from a cold network file system."""


class WorkerDied(Exception):  # noqa: N818 - it names what happened
    """The worker ended without an answer."""

    def __init__(self, returncode: int, stderr_tail: str) -> None:
        super().__init__(f"the worker ended with {returncode}: {stderr_tail[-500:]}")
        self.returncode, self.stderr_tail = returncode, stderr_tail


class WorkerTimedOut(Exception):  # noqa: N818 - it names what happened
    """The worker gave no answer in time."""


class WorkerProcess:
    """One `python -m compass.probe.worker`, in a process group of its own."""

    def __init__(self, runtime: RuntimeSettings, opening: dict[str, Any]) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "compass.probe.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment(runtime),
                start_new_session=True,
                text=True,
                encoding="utf-8",
            )
        except OSError as error:
            self._stderr.close()
            raise WorkerError(f"the worker did not start: {error}") from error
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        self._answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._answers), daemon=True).start()
        self.peak_footprint_bytes = 0
        self._n_told = 0
        """Requests whose answers nobody has waited for yet."""
        self.tell({"op": "open", **opening})

    def tell(self, request: dict[str, Any]) -> None:
        """Send a request whose answer is waited for later: workers that are told together work side by side."""
        self._send(request)
        self._n_told += 1

    def wait(self) -> None:
        """Wait until it has done what it was told: opened the workload and the device, at least.

        Raises:
            InputError: the worker refused what it was given.
            WorkerError: it did not start.
        """
        while self._n_told:
            try:
                answer = self._answer(START_TIMEOUT_S)
            except (WorkerDied, WorkerTimedOut) as error:
                raise WorkerError(f"the worker did not start: {error}") from error
            except BaseException:
                self.kill()
                raise
            self._n_told -= 1
            if answer is not None:
                log.debug("worker %d runs under %s", self._process.pid, answer)

    def ask(self, request: dict[str, Any], *, timeout_s: float) -> Any:
        """The worker's answer; meanwhile `peak_footprint_bytes` follows its memory.

        Raises:
            InputError: the worker refused what it was given.
            WorkerError: the worker broke down over the request but lives.
            WorkerDied: it ended without an answer.
            WorkerTimedOut: it gave none within `timeout_s`.

        Whatever keeps the answer from coming, an interrupt too, the worker is then killed.
        """
        self.wait()
        return self._answer(timeout_s, request)

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _answer(self, timeout_s: float, request: dict[str, Any] | None = None) -> Any:
        """The answer to `request`, or to what was sent before."""
        self.peak_footprint_bytes = 0
        try:
            self._watch()  # before the worker can die of the request
            if request is not None:
                self._send(request)
            line = self._wait(timeout_s)
        except BaseException:
            self.kill()  # an answer that nobody waited for would be taken for the next one's
            raise
        # What was said so far belongs to this request; a later death must not be explained by it.
        self._stderr.seek(0)
        self._stderr.truncate()
        answer = json.loads(line)
        if "bad_input" in answer:
            fields = answer["bad_input"]
            raise InputError(fields["where"], got=fields["got"], expected=fields["expected"], fix=fields["fix"])
        if "error" in answer:
            raise WorkerError(f"the worker broke down: {answer['error']}")
        if answer["last"]:
            self.kill()
        return answer["ok"]

    def _wait(self, timeout_s: float) -> str:
        """The line that answers, while the memory is watched."""
        deadline = time.monotonic() + timeout_s
        timed_out = WorkerTimedOut(f"no answer in {format_seconds(timeout_s)}")
        while True:
            try:
                line = self._answers.get(timeout=POLL_S)
                break
            except queue.Empty:
                self._watch()
                if time.monotonic() > deadline:
                    raise timed_out from None
        if line is not None:
            return line
        try:
            returncode = self._process.wait(max(POLL_S, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # it closed the pipe and lives
            raise timed_out from None
        raise WorkerDied(returncode, self._stderr_tail())

    @property
    def is_alive(self) -> bool:
        """Whether it can be asked something."""
        return self._process.poll() is None

    def _stderr_tail(self) -> str:
        """The last words of the worker since it was last asked something."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - STDERR_TAIL_BYTES))
        return self._stderr.read().decode(errors="replace")

    def kill(self) -> None:
        """End the worker and whatever it started. Safe to call twice."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdin, self._stderr):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()

    def _watch(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            footprint_bytes = process_memory(self._process.pid).footprint_bytes
            self.peak_footprint_bytes = max(self.peak_footprint_bytes, footprint_bytes)


def _pump(source: IO[str], answers: queue.Queue[str | None]) -> None:
    """Move whole lines from the pipe to the queue; None at its end, which is where it is closed.

    By nobody else: closing a pipe that another thread reads waits for that thread.
    """
    with source:
        for line in source:
            if line.endswith("\n"):  # else it died while it wrote
                answers.put(line)
    answers.put(None)
