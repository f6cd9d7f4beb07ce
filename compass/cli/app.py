"""The `compass` command: all commands together, and the exit code of an error."""

from __future__ import annotations

from typing import Annotated, Any

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
from compass.cli.flags import PlainCommand, PlainGroup
from compass.errors import CompassError
from compass.version import __version__


class Commands(PlainGroup):
    """All commands. An error that the user can act on ends in one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command, and turn an error into one line and an exit code."""
        try:
            return super().invoke(ctx)
        except CompassError as error:
            typer.secho(f"error: {error}", fg="red", err=True)
            raise typer.Exit(error.exit_code) from error
        except (KeyboardInterrupt, typer.Abort) as error:
            typer.secho("interrupted", fg="yellow", err=True)
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo", cls=PlainCommand)(demo.demo)
app.command("doctor", cls=PlainCommand)(doctor.doctor)
app.command("optimize", cls=PlainCommand)(optimize.optimize_command)
app.command("estimate", cls=PlainCommand)(estimate.estimate_command)
app.command("train", cls=PlainCommand)(train.train)
app.command("predict", cls=PlainCommand)(predict.predict_command)
app.command("train-run", cls=PlainCommand, hidden=True)(train.train_run)
app.command("scan", cls=PlainCommand)(scan.scan_command)
app.add_typer(workload.workload, name="workload")
app.command("show", cls=PlainCommand)(show.show)
app.command("export", cls=PlainCommand)(export.export)
app.command("verify", cls=PlainCommand)(verify.verify_command)
app.command("explain", cls=PlainCommand)(explain.explain)
app.command("report", cls=PlainCommand)(report.report)
app.command("compare", cls=PlainCommand)(compare.compare)
app.command("env", cls=PlainCommand)(env.env)
app.command("config", cls=PlainCommand)(config.config)
app.command("schema", cls=PlainCommand)(schema.schema)


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
