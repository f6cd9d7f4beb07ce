"""`compass verify`: repeat the certificates of a profile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compass.cli.json_text import print_json
from compass.cli.options import (
    AsJsonOption,
    CacheOption,
    DeviceOption,
    NamedWorkloadOption,
    ProfileOption,
    TrustOption,
    WordsArgument,
    stage_option,
)
from compass.cli.plain_console import PlainConsole
from compass.cli.say import say

if TYPE_CHECKING:
    from compass.profile import Profile
    from compass.verifying import VerifyReport


def verify_command(
    words: WordsArgument = None,
    stage: Annotated[
        list[str] | None, stage_option("Stages whose plans are verified, with commas or repeated. Default: all.")
    ] = None,
    profile_path: ProfileOption = None,
    update: Annotated[
        bool,
        typer.Option("--update", help="If all plans pass, accept this machine and write its figures into the profile."),
    ] = False,
    device: DeviceOption = None,
    workload: NamedWorkloadOption = None,
    trust: TrustOption = False,
    cache: CacheOption = None,
    as_json: AsJsonOption = False,
) -> None:
    """Repeat the certificates of a profile, and compare memory and time with its plans.

    If the machine or versions changed but all plans still pass, --update accepts them.
    Exit codes: 0 the profile holds, 2 bad input, 3 it does not.
    """
    from rich.console import Console

    from compass.cli.parse import check_output, named
    from compass.cli.progress import live_progress
    from compass.planning.trust import check_trusted
    from compass.profile import PROFILE_NAME, check_as_written, read_profile, write_profile
    from compass.verifying import updated, verify

    stages, given = named(words, stage, profile_path)
    path = given or Path(PROFILE_NAME)
    profile = read_profile(path)
    if update:
        check_output(path, "--profile")
        check_as_written(profile)
    check_trusted(profile.workload, named=workload, trust=trust)
    with live_progress(Console(stderr=True)) as watch:
        report = verify(profile, stages, device=device, cache=cache, watch=watch)
    if as_json:
        print_json(json.dumps({"holds": report.holds, **report.model_dump(mode="json")}, indent=2))
    else:
        print_verify_report(profile, report)
    if update and report.plans_hold:
        write_profile(updated(profile, report), path)
        say(f"updated {path}", err=as_json)
    elif not report.holds:
        say(_advice(profile, path, report), fg="red", err=True)
        raise typer.Exit(3)
    elif not as_json:
        say(f"{path} holds")


def _advice(profile: Profile, path: Path, report: VerifyReport) -> str:
    if not report.plans_hold:
        return f"{path} does not hold here. Run `{profile.again()}`; it starts from these measurements."
    return (
        f"{path} was measured on another machine or with other versions, but its plans hold here. "
        f"`{profile.verified_anew}` accepts them."
    )


def print_verify_report(profile: Profile, report: VerifyReport) -> None:
    """Print the differences of the machine, a table of promises and measurements, and the broken promises."""
    from rich.table import Table

    from compass.units import format_bytes, format_seconds

    console = PlainConsole()
    for difference in report.stale:
        console.print(f"changed: {difference}")
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
