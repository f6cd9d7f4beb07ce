"""The `compass` command: all commands together, and the exit code of an error."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Never

import typer

from compass.cli import (
    compare,
    config,
    demo,
    doctor,
    env,
    estimate,
    explain,
    export,
    fit,
    fleet,
    optimize,
    predict,
    report,
    scan,
    schema,
    show,
    train,
    verify,
    workload,
)
from compass.cli.examples import epilog
from compass.cli.flags import PlainCommand, PlainGroup
from compass.cli.options import FAMILY_NAMES, STAGES_TEXT
from compass.cli.say import say
from compass.cli.verbosity import with_verbosity
from compass.errors import CompassError
from compass.files import failed_by_machine
from compass.version import __version__


class Commands(PlainGroup):
    """All commands. An error that the user can act on ends in one line on stderr and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command line. Help and version are printed before a command is invoked, and may fail too."""
        with _in_a_line(sys.exit):
            return super().main(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn an error into one line and an exit code."""
        with _in_a_line(ctx.exit):
            found = super().invoke(ctx)
            if sys.stdout is not None:
                sys.stdout.flush()  # at the interpreter's end, an error would have no line
            return found


@contextmanager
def _in_a_line(leave: Callable[[int], Never]) -> Iterator[None]:
    """Turn an error of the block into one line, and `leave` with its exit code. Bugs keep their traceback."""
    try:
        yield
    except CompassError as error:
        _show(error)
        leave(error.exit_code)
    except OSError as error:
        failure = failed_by_machine(error)
        if failure is None:
            raise
        _show(failure)
        leave(failure.exit_code)
    except Exception as error:
        if not (isinstance(error, typer.Abort) or _hides_interrupt(error)):
            raise
        _leave_interrupted(leave)
    except KeyboardInterrupt:
        _leave_interrupted(leave)


def _leave_interrupted(leave: Callable[[int], Never]) -> Never:
    say("interrupted", fg="yellow", err=True)
    leave(130)


def _hides_interrupt(error: Exception) -> bool:
    """Whether `error` is what pydantic makes of Ctrl-C while it writes JSON: an error of its own, which names it."""
    return type(error).__name__ == "PydanticSerializationError" and "KeyboardInterrupt" in str(error)


def _show(error: CompassError) -> None:
    say(f"error: {error}", fg="red", err=True)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\n\n".join(
        [
            f"Stages of development: {STAGES_TEXT}.",
            f"Model families: {', '.join(FAMILY_NAMES)}, or your own: compass workload --help.",
            "First steps: compass demo my_demo, compass doctor, compass optimize --dataset PATH.",
        ]
    ),
)

CLI_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo.demo,
    "doctor": doctor.doctor,
    "optimize": optimize.optimize_command,
    "fit": fit.fit_command,
    "estimate": estimate.estimate_command,
    "train": train.train_command,
    "predict": predict.predict_command,
    "scan": scan.scan_command,
    "show": show.show,
    "export": export.export,
    "verify": verify.verify_command,
    "explain": explain.explain,
    "report": report.report_command,
    "compare": compare.compare,
    "env": env.env,
    "config": config.config,
    "schema": schema.schema,
}
"""In the order of the help: first steps, planning, training, looking."""
for _name, _command in CLI_COMMANDS.items():
    app.command(_name, cls=PlainCommand, epilog=epilog(_name))(with_verbosity(_command))
app.command("train-run", cls=PlainCommand, hidden=True)(with_verbosity(train.train_run))
app.add_typer(workload.group, name="workload")
app.add_typer(fleet.fleet_group, name="fleet")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def compass(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Find training configurations for this machine, and certify that they run within its memory."""
