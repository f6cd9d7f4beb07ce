"""The process in which a fault happens: the `compass` command, with what the harness changes in it.

It is a fork of the harness, which has imported everything already (a warm start), or a new interpreter (a cold start,
`python -m benchmarks.faults.child SETTINGS`). Nothing of Compass's own work is changed but this:

- `simulated`: the probes run on simulated hardware; ledger, search, profile and signals are those of every run.
- `on_this_machine`: `compass train` takes the profile as measured here, and starts no worker to compare.
- `jump_after_s`, `jump_s`: the wall clock of this process (`time.time`, and the date in profiles) jumps once. The monotonic
  clock does not, as on a machine whose clock is set.
- warm starts also fork the processes of the pool that reads structures, and go on in the same process where `compass train`
  would replace itself by the process of the run.
"""

from __future__ import annotations

import atexit
import datetime as dt
import json
import multiprocessing.util
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from typing import Any, NoReturn

MACHINE = "RTX 3060 Laptop 6GB"


@dataclass(frozen=True)
class Settings:
    """The command, and the changes around it."""

    argv: tuple[str, ...]
    simulated: bool = False
    on_this_machine: bool = False
    jump_after_s: float | None = None
    jump_s: float = 0.0
    ranks: int = 1
    """Processes, which torchrun starts and watches; each is a new interpreter."""
    port: int = 0
    """On which they meet."""
    cold: bool = False


def run(settings: Settings) -> None:
    """Run the command in this process.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    change(settings)
    run_command(settings.argv)


def change(settings: Settings) -> None:
    """Make the changes that `settings` name."""
    if settings.simulated:
        _simulate()
    if settings.on_this_machine:
        import compass.training.prepare

        compass.training.prepare.check_fresh = lambda request: request.profile.fingerprint
    if settings.jump_after_s is not None:
        _jump(settings.jump_after_s, settings.jump_s)
    if not settings.cold:
        import compass.data.pool

        compass.data.pool.get_context = lambda _: get_context("fork")  # type: ignore[attr-defined,assignment]
        vars(os)["execve"] = _go_on


def run_command(argv: Sequence[str]) -> None:
    """Run `compass` with these arguments.

    Raises:
        SystemExit: always.
    """
    from compass.cli import main

    sys.argv = ["compass", *argv]
    main()
    raise SystemExit(0)


def _go_on(_: str, command: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """In place of `os.execve`: the command after `-m compass`, in this process."""
    os.environ.clear()
    os.environ.update(environment)
    run_command(command[3:])
    raise AssertionError


def _simulate() -> None:
    from compass.planning import session
    from compass.probe.simulation import SimulatedRunner, machine_named
    from compass.records import Outcome, ProbeSpec

    class Forgetful(SimulatedRunner):
        """Its outcomes depend on the question alone: a run that was interrupted asks fewer times than one that was not."""

        def probe(self, spec: ProbeSpec) -> Outcome:
            self._asked.clear()
            return super().probe(spec)

    session.local_runner = lambda *_: Forgetful(machine_named(MACHINE))  # type: ignore[assignment]


def _jump(after_s: float, by_s: float) -> None:
    """Let this process's wall clock jump."""
    import compass.optimizer

    began_s, now = time.monotonic(), time.time

    def offset_s() -> float:
        return by_s if time.monotonic() - began_s > after_s else 0.0

    class Jumped(dt.datetime):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> Any:
            return dt.datetime.now(tz) + dt.timedelta(seconds=offset_s())

    time.time = lambda: now() + offset_s()
    vars(compass.optimizer)["datetime"] = Jumped


# ---------------------------------------------------------------------------------------------------- forked processes


def become(settings: Settings) -> NoReturn:
    """Run the command in this forked process, and end it as an interpreter would."""
    code = 1
    atexit._clear()  # noqa: SLF001 - those of the harness
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
        run(settings)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 - as an interpreter would show it
        traceback.print_exc()
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - what an interpreter does first
    atexit._run_exitfuncs()  # noqa: SLF001
    multiprocessing.util._exit_function()  # type: ignore[attr-defined]  # noqa: SLF001 - it is among those of the harness
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def as_argument(settings: Settings) -> str:
    """`settings` as an argument of this module."""
    return json.dumps(asdict(settings))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    run(Settings(**{**given, "argv": tuple(given["argv"])}))
