"""Two profiles side by side, with their differences in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from compass.records import STAGES, Stage, StageFailure, StagePlan
from compass.records.nouns import SAMPLES, of_data
from compass.reporting.evidence import Evidence
from compass.reporting.figure import Table
from compass.reporting.words import STAGE_NAMES, change, model_name, rate, rate_unit
from compass.units import format_bytes, format_count, format_seconds

MOST_SETTINGS = 12
"""Differing settings that are listed; the rest are counted."""


@dataclass(frozen=True)
class StageDifference:
    """One stage in both profiles."""

    stage: Stage
    table: Table
    """(what, in A, in B)"""
    says: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """The differences from A to B."""

    names: tuple[str, str]
    surroundings: tuple[str, ...]
    """Machine, versions, data, settings; empty: all the same."""
    stages: tuple[StageDifference, ...]
    missing: tuple[str, ...]


def compare_profiles(a: Evidence, b: Evidence) -> Comparison:
    """The differences from profile `a` to profile `b`."""
    names = (a.name, b.name) if a.name != b.name else (f"{a.name} (first)", f"{b.name} (second)")
    return Comparison(
        names=names,
        surroundings=tuple(_surroundings(a, b)),
        stages=tuple(_stage(stage, a, b) for stage in STAGES if stage in a.found or stage in b.found),
        missing=tuple(f"{name}: {text}" for name, one in zip(names, (a, b), strict=True) for text in one.missing),
    )


def _surroundings(a: Evidence, b: Evidence) -> Iterator[str]:
    yield from _machines(a, b)
    for what, one, other in (
        ("workload", a.workload, b.workload),
        ("Compass", a.compass_version, b.compass_version),
        ("dataset", a.dataset and a.dataset.path, b.dataset and b.dataset.path),
    ):
        if one != other:
            yield f"{what}: {one or 'none'} → {other or 'none'}"
    for what, few, many in (
        (of_data(_common_noun(a, b)), a.dataset_size, b.dataset_size),
        ("data cap in parameters", a.data_cap, b.data_cap),
    ):
        if few and many and few != many:
            yield f"{what}: {format_count(few)} → {format_count(many)}, {change(few, many)}"
    yield from _settings(a, b)


def _common_noun(a: Evidence, b: Evidence) -> str:
    return a.noun if a.noun == b.noun else SAMPLES


def _machines(a: Evidence, b: Evidence) -> Iterator[str]:
    one, other = a.hardware, b.hardware
    if one and other:
        if one.name != other.name:
            yield f"device: {one.name} ({one.kind}) → {other.name} ({other.kind})"
        if one.budget_bytes != other.budget_bytes:
            yield (
                f"memory budget: {format_bytes(one.budget_bytes)} → {format_bytes(other.budget_bytes)}, "
                f"{change(one.budget_bytes, other.budget_bytes)}"
            )
    first, second = a.fingerprint, b.fingerprint
    if first is None or second is None or first == second:
        return
    before = {"driver": first.driver, "torch": first.torch, **dict(first.versions), **dict(first.runtime)}
    after = {"driver": second.driver, "torch": second.torch, **dict(second.versions), **dict(second.runtime)}
    for what in {**before, **after}:
        if before.get(what) != after.get(what):
            yield f"{what}: {before.get(what, 'none')} → {after.get(what, 'none')}"
    if first.workload != second.workload:
        yield "the workload's code, options or samples differ"


def _settings(a: Evidence, b: Evidence) -> Iterator[str]:
    if a.config is None or b.config is None:
        return
    before, after = dict(_leaves(a.config.model_dump())), dict(_leaves(b.config.model_dump()))
    differ = [key for key in {**before, **after} if before.get(key) != after.get(key) and key != "dataset.catalogue"]
    for key in differ[:MOST_SETTINGS]:
        yield f"setting {key}: {before.get(key)} → {after.get(key)}"
    if len(differ) > MOST_SETTINGS:
        yield f"and {len(differ) - MOST_SETTINGS} more settings"


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    else:
        yield place, value


def _stage(stage: Stage, a: Evidence, b: Evidence) -> StageDifference:
    one, other = a.found.get(stage), b.found.get(stage)
    unit = rate_unit(_common_noun(a, b))
    columns = [_column(entry, unit) for entry in (one, other)]
    labels = list(dict.fromkeys(label for column in columns for label in column))
    rows = tuple((label, *(column.get(label, "") for column in columns)) for label in labels)
    return StageDifference(stage, Table(("", "A", "B"), rows), tuple(_says(stage, one, other, unit)))


def _column(entry: StagePlan | StageFailure | None, unit: str) -> dict[str, str]:
    if entry is None:
        return {"choice": "not in this profile"}
    if isinstance(entry, StageFailure):
        return {"choice": "nothing found", "limited by": entry.limited_by}
    choice, measured = entry.choice, entry.measured
    return {
        "choice": f"{model_name(choice.knobs)}, batch {format_count(choice.batch_size)}",
        "parameters": format_count(choice.capacity),
        unit: rate(measured.throughput),
        "cycle": format_seconds(measured.cycle_s),
        "memory": f"{format_bytes(measured.footprint_bytes)} of {format_bytes(entry.certificate.ceiling_bytes)}",
        "limited by": entry.limited_by,
    }


def _says(
    stage: Stage, one: StagePlan | StageFailure | None, other: StagePlan | StageFailure | None, unit: str
) -> Iterator[str]:
    name = STAGE_NAMES[stage]
    if not isinstance(one, StagePlan) or not isinstance(other, StagePlan):
        if isinstance(one, StagePlan):
            yield f"{name}: only A has a plan"
        elif isinstance(other, StagePlan):
            yield f"{name}: only B has a plan"
        else:
            yield f"{name}: neither has a plan"
        return
    first, second = one.choice, other.choice
    if first.knobs == second.knobs:
        yield f"{name}: the same model" + (
            "" if first.batch_size == second.batch_size else f", batch {first.batch_size} → {second.batch_size}"
        )
    else:
        yield f"{name}: {model_name(first.knobs)} → {model_name(second.knobs)}, {change(first.capacity, second.capacity)} in parameters"
    was, now = one.measured, other.measured
    yield (
        f"{name}: {rate(was.throughput)} → {rate(now.throughput)} {unit}, {change(was.throughput, now.throughput)}; "
        f"a cycle takes {format_seconds(was.cycle_s)} → {format_seconds(now.cycle_s)}"
    )
    if one.limited_by != other.limited_by:
        yield f"{name}: limited by {one.limited_by} → {other.limited_by}"
