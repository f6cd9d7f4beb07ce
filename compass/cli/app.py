"""The commands put together, and how an error ends them."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from compass.cli import (
    compare,
    config,
    env,
    estimate,
    explain,
    export,
    optimize,
    predict,
    report,
    scan,
    show,
    train,
    verify,
    workload,
)
from compass.errors import CompassError
from compass.version import __version__


class Commands(TyperGroup):
    """The commands. An error a person can act on is one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except CompassError as error:
            typer.secho(f"error: {error}", fg="red", err=True)
            raise typer.Exit(error.exit_code) from error
        except (KeyboardInterrupt, typer.Abort) as error:
            typer.secho("interrupted", fg="yellow", err=True)
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip
app.command("optimize")(optimize.optimize)
app.command("estimate")(estimate.estimate)
app.command("train")(train.train)
app.command("predict")(predict.predict_command)
app.command("train-run", hidden=True)(train.train_run)
app.command("scan")(scan.scan_command)
app.add_typer(workload.workload, name="workload")
app.command("show")(show.show)
app.command("export")(export.export)
app.command("verify")(verify.verify)
app.command("explain")(explain.explain)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("env")(env.env)
app.command("config")(config.config)


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
    """Find the training configuration that suits your stage of development, and certify_stage that it runs here."""
