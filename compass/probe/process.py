"""A worker process, as the parent sees it: requests, answers, its memory, and its end."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import IO, Any

import psutil

from compass.device.process import process_memory
from compass.errors import InputError, WorkerError, printable
from compass.probe.failures import classify_exit
from compass.probe.last_words import reason_of_death
from compass.probe.runtime import environment
from compass.records import RuntimeSettings, Status
from compass.temporary import TemporaryFolder
from compass.units import format_seconds

log = logging.getLogger(__name__)

POLL_S = 0.05
"""Interval at which the worker's memory is sampled, because the kernel keeps no peak of the data segment."""
STDERR_TAIL_BYTES = 8192
START_TIMEOUT_S = 300.0
"""Enough to import torch from a cold network file system."""


STOPPED_S = 10.0
"""Seconds after which a worker that a signal has stopped (SIGSTOP) is given up: it may never go on."""


class WorkerStartError(WorkerError):
    """The worker died or was stopped before its first answer."""


class WorkerDied(Exception):  # noqa: N818 - the name of an event
    """The worker ended without an answer."""

    def __init__(self, returncode: int, stderr_tail: str) -> None:
        status, detail = classify_exit(returncode, stderr_tail, ceiling=False)
        super().__init__(f"the worker {detail}" if status is Status.CRASHED else f"the worker ended, {detail}")
        self.returncode, self.stderr_tail = returncode, stderr_tail


class WorkerTimedOut(Exception):  # noqa: N818 - the name of an event
    """The worker did not answer in time."""


class WorkerProcess:
    """One process `python -m compass.probe.worker`, in a process group of its own."""

    def __init__(
        self, runtime: RuntimeSettings, opening: dict[str, Any], variables: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Start it under `runtime` with additional `variables` in its environment, and send the `opening` request."""
        self._folder = TemporaryFolder()
        self._stderr = (self._folder.path / "stderr").open("w+b")
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "compass.probe.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env={
                    **environment(runtime),
                    **self._folder.variables,
                    "PYTHONIOENCODING": "utf-8:backslashreplace",
                    **variables,
                },
                start_new_session=True,
                text=True,
                encoding="utf-8",
                errors="replace",  # of what is no text, an answer is made that cannot be read
            )
        except OSError as error:
            self._stderr.close()
            self._folder.remove()
            raise WorkerError(f"the worker did not start: {error}") from error
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        self._answers: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=_pump, args=(self._process.stdout, self._answers), daemon=True).start()
        self.peak_footprint_bytes = 0
        self._n_sent = 0
        """Requests whose answers have not been awaited yet."""
        self.send({"op": "open", **opening})

    def send(self, request: dict[str, Any]) -> None:
        """Send a request and do not wait for its answer, so that several workers can work side by side."""
        self._write(request)
        self._n_sent += 1

    def wait(self) -> None:
        """Wait for the answers to all requests that were sent: at least, the workload and the device are open then.

        Raises:
            InputError: the worker refused an input.
            WorkerStartError: it died, was stopped or said nothing.
        """
        while self._n_sent:
            try:
                answer = self._answer(START_TIMEOUT_S)
            except (WorkerDied, WorkerTimedOut) as error:
                raise WorkerStartError(f"the worker did not start: {error}") from error
            except BaseException:
                self.kill()
                raise
            self._n_sent -= 1
            if answer is not None:
                log.debug("worker %d runs under %s", self._process.pid, answer)

    def ask(self, request: dict[str, Any], *, timeout_s: float) -> Any:
        """Send `request` and return the answer; meanwhile `peak_footprint_bytes` follows the worker's memory.

        If no answer arrives, for any reason (an interrupt too), the worker is killed.

        Raises:
            InputError: the worker refused an input.
            WorkerError: the request failed in the worker, which still runs.
            WorkerDied: the worker ended without an answer.
            WorkerTimedOut: no answer arrived within `timeout_s`.
        """
        self.wait()
        return self._answer(timeout_s, request)

    def _write(self, request: dict[str, Any]) -> None:
        assert self._process.stdin is not None  # noqa: S101 - a pipe was asked for
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()

    def _answer(self, timeout_s: float, request: dict[str, Any] | None = None) -> Any:
        """The answer to `request`, which is sent first, or to the oldest request that was sent."""
        self.peak_footprint_bytes = 0
        try:
            self._watch()  # before the request can end the worker
            if request is not None:
                self._write(request)
            line = self._wait(timeout_s)
        except BaseException:
            self.kill()  # a late answer would be taken for the next request's
            raise
        # The output so far belongs to this request; it must not explain a later death.
        self._stderr.seek(0)
        self._stderr.truncate()
        content, is_last = answer_in(line)
        if is_last:
            self.kill()
        return content

    def _wait(self, timeout_s: float) -> str:
        """The next line from the worker; meanwhile its memory is sampled."""
        deadline = time.monotonic() + timeout_s
        timed_out = WorkerTimedOut(f"no answer in {format_seconds(timeout_s)}")
        ran_s = time.monotonic()
        while True:
            try:
                line = self._answers.get(timeout=POLL_S)
                break
            except queue.Empty:
                now_s = time.monotonic()
                ran_s = ran_s if self._watch() else now_s
                if now_s - ran_s > STOPPED_S:
                    raise WorkerTimedOut("a signal has stopped it (SIGSTOP)") from None
                if now_s > deadline:
                    raise timed_out from None
        if line is not None:
            return line
        try:
            returncode = self._process.wait(max(POLL_S, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:  # it closed the pipe but still runs
            raise timed_out from None
        tail = self._stderr_tail()
        log.debug("worker %d ended with %d, after the words: %s", self._process.pid, returncode, tail)
        raise WorkerDied(returncode, tail)

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self._process.poll() is None

    def _stderr_tail(self) -> str:
        """The end of the worker's standard error since its last answer."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - STDERR_TAIL_BYTES))
        return self._stderr.read().decode(errors="replace")

    def end(self) -> None:
        """End the worker and all processes of its group; a thread that waits for its answer learns of its death."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if sys.platform == "win32":
                self._process.kill()
            else:
                os.killpg(self._process.pid, signal.SIGKILL)

    def kill(self) -> None:
        """End the worker and all processes of its group, and remove its files. May be called twice."""
        self.end()
        self._process.wait()
        for pipe in (self._process.stdin, self._stderr):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._folder.remove()

    def _watch(self) -> bool:
        """Sample its memory; returns whether a signal has stopped it."""
        with contextlib.suppress(ProcessLookupError):
            footprint_bytes = process_memory(self._process.pid).footprint_bytes
            self.peak_footprint_bytes = max(self.peak_footprint_bytes, footprint_bytes)
        with contextlib.suppress(psutil.Error):
            return bool(psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED)
        return False


def answer_in(line: str) -> tuple[Any, bool]:
    """(what a worker answers in `line`, whether it is the last answer that it can give).

    Raises:
        InputError: the worker refused an input.
        WorkerError: the request failed in the worker, or the line is none of its answers: a model can reach the pipe.
    """
    try:
        answer = json.loads(line)
        if "bad_input" in answer:
            fields = {name: str(answer["bad_input"][name]) for name in ("where", "got", "expected", "fix")}
        elif "error" in answer:
            fields = {"error": str(answer["error"])}
        else:
            return answer["ok"], bool(answer["last"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WorkerError(f"the worker gave an answer that cannot be read: {printable(line[:80].strip())}") from error
    if "error" in fields:
        log.debug("a request failed in the worker: %s", fields["error"])
        reason = reason_of_death(fields["error"]) or fields["error"].strip()
        raise WorkerError(f"a request failed in the worker: {reason}")
    raise InputError(fields.pop("where"), **fields)


def _pump(source: IO[str], answers: queue.Queue[str | None]) -> None:
    """Move complete lines from the pipe to the queue, and None at its end; then close the pipe.

    No other thread may close it, because closing a pipe waits for the thread that reads it.
    """
    with source:
        for line in source:
            if line.endswith("\n"):  # an incomplete line means that it died while writing
                answers.put(line)
    answers.put(None)
