"""Profiles as tables of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence

from rich.table import Table

from compass.cli.json_text import print_json
from compass.cli.plain_console import PlainConsole
from compass.errors import InputError
from compass.profile import Profile
from compass.records import (
    STAGES,
    Choice,
    DatasetSummary,
    Description,
    Knobs,
    Stage,
    StageFailure,
    StagePlan,
    shape_header,
)
from compass.records.nouns import counted, of_batch, of_data
from compass.reporting.answers import memory_words, model_words, stand_in_words, training_words
from compass.reporting.devices import devices_table, devices_words
from compass.reporting.words import batch_words, plan_limit_words, rate, rate_unit
from compass.stages import POLICIES
from compass.units import format_bytes, format_count, format_duration, format_seconds

MOST_NAMES = 5
"""Samples named in a line; the profile names all."""


def print_profile(profile: Profile) -> None:
    """Print the machine in a line, the plans in a table, and a sentence on each plan."""
    console = PlainConsole()
    hardware = profile.hardware
    n_devices = profile.asked.devices
    each = "" if n_devices == 1 else f" by each of {n_devices} ranks"
    console.print(f"{hardware.name} ({hardware.kind}), {format_bytes(hardware.budget_bytes)} may be used{each}")
    question = f"{profile.workload}, {counted(profile.dataset_size, of_data(profile.noun))}"
    cap = "" if profile.data_cap is None else f": at most {format_count(profile.data_cap)} parameters"
    console.print(question + cap)
    if profile.dataset is not None:
        console.print(_dataset_line(profile.dataset, profile.noun))
    if profile.reference is not None:
        console.print(f"reference: {_model(profile.reference.knobs)}, {format_count(profile.reference.capacity)}")
    if profile.plans:
        console.print(_plans_table([profile.plans[stage] for stage in STAGES if stage in profile.plans]))
        cycle, data = format_count(profile.config.cycle_batches), counted(profile.dataset_size, of_data(profile.noun))
        console.print(f"cycle: {cycle} batches. epoch: all {data} once. ~: indicative only.")
    for stage in STAGES:
        if stage in profile.plans:
            console.print()
            _print_answers(console, profile, profile.plans[stage])
        if stage in profile.failures:
            console.print()
            console.print(failure_line(profile.failures[stage]))
    if profile.plans and profile.dataset is None and not profile.noun:
        console.print(f"\n{stand_in_words(profile.config.test_bench.name)}")


def print_commands(commands: Sequence[tuple[str, str]]) -> None:
    """Print the commands that come next, each with what it is for."""
    console = PlainConsole()
    if not commands:
        return
    console.print("\nnext:")
    width = max(len(text) for text, _ in commands)
    for text, what_for in commands:
        console.print(f"  {text:<{width}}  # {what_for}", soft_wrap=True)


def _print_answers(console: PlainConsole, profile: Profile, plan: StagePlan) -> None:
    """The model, the times, the memory, the limit and the alternative of a plan, a line each."""
    says = [model_words(plan, profile.noun)]
    if POLICIES[plan.stage].certified:
        says.append(training_words(plan, profile.dataset_size, profile.config, profile.noun))
    limited_by = plan_limit_words(plan, profile.noun, profile.config)
    says += [memory_words(plan), limited_by, plan.why, *_batch_lines(plan, profile.noun)]
    says += [devices_words(plan, profile.noun)] if plan.ranks is not None else []
    says += [f"not recommended: {plan.discouraged}"] if plan.discouraged else []
    says += plan.doubts
    console.print(plan.stage)
    for text in filter(None, says):
        sentence = f"{text[0].upper()}{text[1:].removesuffix('.')}."
        console.print(textwrap.fill(sentence, console.width - 1, initial_indent="  ", subsequent_indent="  "))
    if plan.ranks is not None:
        table = devices_table(plan, profile.noun)
        console.print(plain_table("  what devices would buy:", table.headers, table.rows), new_line_start=True)


def print_stage(profile: Profile, stage: Stage, *, as_json: bool) -> None:
    """Print one stage in full.

    Raises:
        InputError: the profile has neither a plan nor a failure for it.
    """
    entry = profile.plans.get(stage) or profile.failures.get(stage)
    if entry is None:
        raise InputError(
            f"stage {stage}",
            got="nothing in this profile",
            expected="a plan",
            fix=f"Run `{profile.again(stage)}`.",
        )
    if as_json:
        print_json(entry.model_dump_json(indent=2))
        return
    console = PlainConsole()
    if isinstance(entry, StageFailure):
        console.print(failure_line(entry))
        return
    print_rows(_details(entry, profile.noun, profile.config.training.epochs))
    for title, choices in (
        ("runners-up, predicted", entry.runners_up),
        ("front of throughput, parameters and cycle, predicted", entry.front),
    ):
        if choices:
            console.print(_choices_table(title, choices, profile.noun))
    if entry.ranks is not None:
        table = devices_table(entry, profile.noun)
        console.print(plain_table("what devices would buy", table.headers, table.rows))


def print_description(found: Description, allocators: Mapping[str, str]) -> None:
    """Print the device, its memory, the versions and each of `allocators` with what it is, one per line."""
    hardware, fingerprint = found.hardware, found.fingerprint
    limit = "none" if hardware.limit_bytes is None else format_bytes(hardware.limit_bytes)
    print_rows(
        [
            ("device", f"{hardware.name} ({hardware.kind})"),
            ("driver", hardware.driver),
            (
                "memory",
                (
                    f"{format_bytes(hardware.total_bytes)}, {format_bytes(hardware.free_bytes)} free, "
                    f"{format_bytes(hardware.others_bytes)} held by other processes"
                ),
            ),
            ("limit", limit),
            (
                "budget",
                (
                    f"{format_bytes(hardware.budget_bytes)} may be used, an idle worker takes "
                    f"{format_bytes(found.baseline_bytes)}"
                ),
            ),
            ("torch", fingerprint.torch),
            *fingerprint.versions,
            ("fingerprint", fingerprint.key),
            *((f"sample {name}", load.in_words(found.family.noun)) for name, load in found.samples),
            *((f"allocator {name}", text) for name, text in allocators.items()),
        ]
    )


def print_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Print labels on the left, and texts on the right."""
    table = Table.grid(padding=(0, 2))
    for label, text in rows:
        table.add_row(label, text)
    PlainConsole().print(table)


def plain_table(title: str, headers: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of text; the first column holds labels."""
    table = Table(box=None, padding=(0, 1), pad_edge=False, title=title, title_justify="left")
    for header in headers:
        table.add_column(header)
    for row in rows:
        table.add_row(*row)
    return table


def failure_line(failure: StageFailure) -> str:
    """A stage without a plan: its limit, the reason and the nearest miss, e.g. `production: no plan, limited by memory: …`."""
    line = f"{failure.stage}: no plan, limited by {failure.limited_by}: {failure.reason}"
    if failure.nearest is None:
        return line
    near = failure.nearest
    return (
        f"{line.rstrip().removesuffix('.')}. Nearest miss: {_model(near.knobs)}, batch {near.batch_size}, "
        f"{format_bytes(near.footprint_bound_bytes)}, a cycle of {format_seconds(failure.nearest_cycle_s or near.cycle_s)}."
    )


def _dataset_line(data: DatasetSummary, noun: str) -> str:
    """The number of complexes, or what `noun` calls them, their mean sizes, and the treatment of the largest."""
    sizes = ", ".join(f"{format_count(one.mean)} {one.feature} on average" for one in data.sizes)
    n_all = counted(data.n_complexes, of_data(noun))
    line = f"{data.path}: {format_count(data.n_usable)} of {n_all} usable, {sizes}"
    if not data.oversize:
        return line
    done = {"isolate": "are batched alone", "crop": "are cropped", "refuse": "are left out"}[data.oversize_policy]
    return f"{line}; the largest {len(data.oversize)} {done}: {_names(data.oversize)}"


def _batch_lines(plan: StagePlan, noun: str) -> Iterable[str]:
    """The budgeted alternative, and the samples that are left out."""
    budget = plan.batch_budget
    if budget is not None:
        advice = ", recommended" if plan.recommended == "batch_budget" else ""
        yield (
            f"batches that fill {format_bytes(budget.budget_bytes)} instead hold {budget.mean_graphs:.1f} {of_batch(noun)} "
            f"on average and are {abs(budget.gain):.0%} {'faster' if budget.gain > 0 else 'slower'}{advice}"
        )
    if plan.certificate.left_out:
        yield f"not trained on, because too large even alone: {_names(plan.certificate.left_out)}"


def _names(ids: Sequence[str]) -> str:
    shown = ", ".join(ids[:MOST_NAMES])
    return shown if len(ids) <= MOST_NAMES else f"{shown} and {len(ids) - MOST_NAMES} more"


def _model(knobs: Knobs) -> str:
    return f"{knobs.shape} {knobs.variant}"


def _plans_table(plans: Sequence[StagePlan]) -> Table:
    table = Table(box=None, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column("stage", no_wrap=True)
    table.add_column(shape_header(plan.choice.knobs for plan in plans), overflow="fold")
    for header in ("parameters", "batch", "cycle", "epoch", "memory", "limited\nby"):
        table.add_column(header, justify="right")
    for plan in plans:
        about = "~" if plan.indicative else ""
        table.add_row(
            plan.stage,
            _model(plan.choice.knobs),
            format_count(plan.choice.capacity),
            format_count(plan.choice.batch_size),
            f"{about}{format_duration(plan.measured.cycle_s)}",
            "" if plan.epoch_s is None else f"{about}{format_duration(plan.epoch_s)}",
            format_bytes(plan.measured.footprint_bytes),
            plan.limited_by,
        )
    return table


def _choices_table(title: str, choices: Sequence[Choice], noun: str) -> Table:
    table = Table(box=None, padding=(0, 1), pad_edge=False, title=title, title_justify="left")
    table.add_column(shape_header(choice.knobs for choice in choices), overflow="fold")
    for header in ("parameters", "batch", "cycle", rate_unit(noun), "memory", "score"):
        table.add_column(header, justify="right")
    for choice in choices:
        table.add_row(
            _model(choice.knobs),
            format_count(choice.capacity),
            format_count(choice.batch_size),
            format_seconds(choice.cycle_s),
            rate(choice.throughput),
            format_bytes(choice.footprint_bound_bytes),
            "" if choice.score is None else f"{choice.score:.4f}",
        )
    return table


def _hint(plan: StagePlan) -> str:
    """How far a cycle is to be believed, if it is only a hint."""
    if plan.unsettled:
        step, n_steps = plan.measured.step, plan.measured.cycle_s / plan.measured.step.median_s
        low_s, high_s = step.low_s * n_steps, step.high_s * n_steps
        return f", indicative only: {format_seconds(low_s)} to {format_seconds(high_s)}, for its steps did not settle"
    return ", indicative only" if plan.indicative else ""


def _batched(plan: StagePlan, noun: str) -> str:
    """How the throughput is reached where batches of the fixed size, whose step and cycle are shown, are not recommended."""
    if plan.recommended == "batch_size":
        return ""
    fixed = f"{rate(plan.together_throughput)} in batches of {counted(plan.choice.batch_size, of_batch(noun))}"
    return f" in batches that fill the memory, as recommended; {fixed}"


def _details(plan: StagePlan, noun: str, epochs: int) -> list[tuple[str, str]]:
    choice, predicted, measured, certificate = plan.choice, plan.predicted, plan.measured, plan.certificate
    step = measured.step
    ceiling = "enforced" if certificate.enforced else "not enforced"
    rows = [
        ("stage", plan.stage),
        ("model", f"{choice.knobs}"),
        *((f"  {name}", str(value)) for name, value in choice.knobs.variant.options),
        ("parameters", format_count(choice.capacity)),
        ("batch", batch_words(plan, noun)),
        ("step", f"{step.median_s:.3g} s, {step.low_s:.3g} to {step.high_s:.3g} s in {step.n_steps} steps"),
        ("cycle", f"{format_seconds(plan.measured.cycle_s)}{_hint(plan)}"),
        ("epoch", "" if plan.epoch_s is None else format_duration(plan.epoch_s)),
        (
            "training",
            "" if plan.training_s is None else f"{format_duration(plan.training_s)} for {counted(epochs, 'epochs')}",
        ),
        ("throughput", f"{rate(plan.throughput)} {rate_unit(noun)}{_batched(plan, noun)}"),
        (
            "live memory",
            f"{format_bytes(predicted.live_bytes)} predicted, {format_bytes(measured.live_bytes)} measured",
        ),
        (
            "footprint",
            (
                f"{format_bytes(predicted.footprint_bound_bytes)} predicted at most, "
                f"{format_bytes(measured.footprint_bytes)} measured"
            ),
        ),
        ("certificate", f"{certificate.n_steps} steps under {format_bytes(certificate.ceiling_bytes)}, {ceiling}"),
        (
            "worst batch",
            f"{certificate.worst.in_words(noun)}: {_names([name for name, _ in certificate.batches[0].members])}",
        ),
        ("runtime", f"{plan.runtime.threads} threads, {plan.runtime.allocator} allocator"),
        ("limited by", plan.limited_by),
        ("why", plan.why),
    ]
    rows += [("devices", devices_words(plan, noun))] if plan.ranks is not None else []
    rows += [("alternative", line) for line in _batch_lines(plan, noun)]
    rows += [("not recommended", plan.discouraged)] if plan.discouraged else []
    rows += [("doubt", doubt) for doubt in plan.doubts]
    if plan.follows:
        rows.append(("follows", plan.follows))
    beside = {"fastest model": plan.fastest, "largest batch": plan.largest_batch, "a little smaller": plan.smaller}
    rows += [(name, _in_a_line(choice, noun)) for name, choice in beside.items() if choice is not None]
    return rows


def _in_a_line(choice: Choice, noun: str) -> str:
    speed = f"{rate(choice.throughput)} {rate_unit(noun)}"
    return f"{_model(choice.knobs)}, batch {choice.batch_size} under {choice.allocator}, {speed} predicted"
