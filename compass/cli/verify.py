"""`compass verify`: whether a profile still holds here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.options import AsJsonOption, CacheOption, DeviceOption

if TYPE_CHECKING:
    from compass.profile import Profile
    from compass.verify import VerifyReport


def verify_command(
    stage: Annotated[
        list[str] | None, typer.Option(metavar="STAGE", help="Only this plan; may be repeated. Default: all.")
    ] = None,
    path: Annotated[
        Path | None, typer.Option("--profile", metavar="FILE", help="Default: the one optimize writes.")
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="If the plans hold, write what was found here into the profile.")
    ] = False,
    device: DeviceOption = None,
    cache: CacheOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Run a profile's certificates again and say whether its plans still hold here.

    Exit codes: 0 it holds, 2 bad input, 3 it does not.
    """
    from rich.console import Console

    from compass import verify
    from compass.cli.parse import check_output, parse_stages
    from compass.cli.progress import live_progress
    from compass.profile import PROFILE_NAME, read_profile, write_profile

    path = path or Path(PROFILE_NAME)
    profile = read_profile(path)
    stages = parse_stages(stage, option="--stage") if stage else ()
    if update:
        check_output(path, "--profile")
    with live_progress(Console(stderr=True)) as watch:
        report = verify.verify(profile, stages, device=device, cache=cache, watch=watch)
    if as_json:
        typer.echo(json.dumps({"holds": report.holds, **report.model_dump(mode="json")}, indent=2))
    else:
        print_verdict(profile, report)
    if update and report.plans_hold:
        write_profile(verify.updated(profile, report), path)
        typer.echo(f"updated {path}", err=as_json)
    elif not report.holds:
        typer.secho(_advice(path, report), fg="red", err=True)
        raise typer.Exit(3)
    elif not as_json:
        typer.echo(f"{path} holds")


def _advice(path: Path, report: VerifyReport) -> str:
    if not report.plans_hold:
        return f"{path} does not hold here. Run `compass optimize` again; it starts from what was measured now."
    return (
        f"{path} is of another machine or other versions, but its plans hold here. "
        "`compass verify --update` makes it this one's."
    )


def print_verdict(profile: Profile, report: VerifyReport) -> None:
    """What is not the same as it was, a table of what was promised and what was found, and what is not kept."""
    from rich.console import Console
    from rich.table import Table

    from compass.units import format_bytes, format_seconds

    console = Console(highlight=False, markup=False)
    for difference in report.stale:
        console.print(f"not as it was: {difference}")
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("stage", no_wrap=True)
    for header in ("step", "promised", "memory", "certified", "at most", "holds"):
        table.add_column(header, justify="right")
    for found in report.checks:
        plan, outcome = profile.plans[found.stage], found.outcome
        measured = plan.measured
        table.add_row(
            found.stage,
            format_seconds(outcome.step.median_s) if outcome and outcome.step else "",
            format_seconds(measured.step.median_s),
            format_bytes(outcome.footprint_bytes) if outcome and outcome.footprint_bytes else "",
            format_bytes(measured.footprint_bytes),
            format_bytes(plan.certificate.footprint_bound_bytes),
            "yes" if found.holds else "no",
        )
    console.print(table)
    for found in report.checks:
        for problem in found.problems:
            console.print(f"{found.stage}: {problem}")
