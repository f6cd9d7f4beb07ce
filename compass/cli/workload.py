"""`compass workload check`: does the cost model apply to a custom workload?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.examples import epilog
from compass.cli.flags import PlainCommand, PlainGroup
from compass.cli.json_text import print_json
from compass.cli.options import AsJsonOption, ConfigOption, DeviceOption, MemoryLimitOption, SetOption
from compass.cli.say import say
from compass.cli.verbosity import with_verbosity

if TYPE_CHECKING:
    from compass.workload_check.report import CheckReport

MARKS = {"good": ("✓", "green"), "note": ("·", "yellow"), "bad": ("✗", "red")}


def check_command(
    source: Annotated[
        str, typer.Argument(metavar="WORKLOAD", help="A family, package.module:factory or file.py:factory.")
    ],
    device: DeviceOption = None,
    memory_limit: MemoryLimitOption = None,
    config_file: ConfigOption = None,
    set_values: SetOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Run small probes and say whether memory and time follow the declared sizes, and which size is missing.

    Exit codes: 0 the cost model applies, 2 bad input, 3 it does not apply.
    """
    from rich.console import Console

    from compass.cli.parse import load_settings, parse_memory_limit
    from compass.cli.progress import live_progress
    from compass.workload_check.checkup import check_workload

    config = load_settings(config_file, set_values)
    with live_progress(Console(stderr=True)) as watch:
        report = check_workload(
            source, config, device=device, limit_bytes=parse_memory_limit(memory_limit), watch=watch
        )
    if as_json:
        print_json(report.model_dump_json(indent=2))
    else:
        print_check_report(report)
    if not report.ok:
        raise typer.Exit(3)


def print_check_report(report: CheckReport) -> None:
    """The findings, the sizes, and the traceback if there is one."""
    sizes = ", ".join(report.features)
    say(
        f"{report.workload}: {report.n_samples:,} samples with {sizes}; {report.n_probes} probes, {report.seconds:.0f} s"
    )
    for finding in report.findings:
        mark, colour = MARKS[finding.level]
        say(f"{mark} {finding.about:<12} {finding.text}", fg=colour)
    if report.loads is not None and report.loads.without:
        typer.echo("\nworst error of memory if a size were not declared")
        for name, worst in report.loads.without:
            say(f"  {name:<20} {worst:.2%}")
    if report.failure:
        say(f"\n{report.failure}", err=True)
    say(f"\n{report.verdict}", fg="green" if report.ok else "red")


group = typer.Typer(
    cls=PlainGroup,
    no_args_is_help=True,
    help="Check a custom workload.",
    context_settings={"help_option_names": ["-h", "--help"]},
)
group.command("check", cls=PlainCommand, epilog=epilog("workload check"))(with_verbosity(check_command))


@group.callback()
def _group() -> None:
    """Check a custom workload."""
