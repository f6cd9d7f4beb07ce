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
import datetime
import json
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
    """Processes, which torchrun's agent starts and watches."""
    port: int = 0
    """On which they meet."""
    cold: bool = False


def run(settings: Settings) -> None:
    """Run the command in this process.

    Raises:
        SystemExit: always, with the command's exit code.
    """
    if settings.ranks > 1:
        _run_ranks(settings)
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
        os.execve = _go_on


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

    session.local_runner = lambda *_: Forgetful(machine_named(MACHINE))  # type: ignore[assignment,return-value]


def _jump(after_s: float, by_s: float) -> None:
    """Let this process's wall clock jump."""
    import compass.optimizer

    began_s, now = time.monotonic(), time.time

    def offset_s() -> float:
        return by_s if time.monotonic() - began_s > after_s else 0.0

    class Jumped(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return datetime.datetime.now(tz) + datetime.timedelta(seconds=offset_s())

    time.time = lambda: now() + offset_s()
    compass.optimizer.datetime = Jumped  # type: ignore[misc]


# ---------------------------------------------------------------------------------------------------- several ranks


def _run_ranks(settings: Settings) -> NoReturn:
    """The command in several processes, which torchrun's agent forks and watches."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=settings.ranks,
        run_id="faults",
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{settings.port}",
        rdzv_configs={"rank": 0},
        max_restarts=0,
        monitor_interval=0.1,
        start_method="fork",
    )
    try:
        elastic_launch(config, _rank)(settings)
    except ChildFailedError as error:
        raise SystemExit(max(1, *(failure.exitcode for failure in error.failures.values()))) from None
    raise SystemExit(0)


def _rank(settings: Settings) -> None:
    """One of the processes: it returns, because the agent waits for what it returns."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    become(replace(settings, ranks=1))


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
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def as_argument(settings: Settings) -> str:
    """`settings` as an argument of this module."""
    return json.dumps(asdict(settings))


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    run(Settings(**{**given, "argv": tuple(given["argv"])}))
