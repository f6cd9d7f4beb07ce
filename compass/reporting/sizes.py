"""Sizes of the dataset's complexes, and the mean size in each stage's worst batch."""

from __future__ import annotations

import math

from compass.records import DatasetSummary, SizeSummary, Stage, StagePlan
from compass.records.nouns import of_data
from compass.reporting.evidence import Evidence
from compass.reporting.figure import Figure, PlotAxis, Rule, Series, Table
from compass.reporting.words import STAGE_NAMES
from compass.units import format_count

NEAR = 0.6
"""Bins between two lines whose labels do not collide."""


def size_figures(evidence: Evidence) -> list[Figure]:
    """One histogram for each feature."""
    data = evidence.dataset
    return [] if data is None else [_figure(evidence, data, one) for one in data.sizes if len(one.histogram) > 1]


def size_table(one: SizeSummary, noun: str) -> Table:
    """The histogram in numbers; `noun` is the workload's."""
    ends = [*(f"{format_count(low)}" for low, _ in one.histogram[1:]), "largest"]
    rows = tuple(
        (f"{format_count(low)} to {end}", format_count(count))
        for (low, count), end in zip(one.histogram, ends, strict=True)
    )
    return Table((one.feature, of_data(noun)), rows)


def _figure(evidence: Evidence, data: DatasetSummary, one: SizeSummary) -> Figure:
    """The bins are even in the logarithm, and so is a place between two of them."""
    first, second = one.histogram[0][0], one.histogram[1][0]

    def place(size: float) -> float:
        return math.log(max(size, first) / first) / math.log(second / first) - 0.5

    marks = [(one.mean, "mean"), *worst_members(evidence, one.feature)]
    quantiles = dict(one.quantiles)
    middle = f", half of them under {format_count(quantiles[0.5])}" if 0.5 in quantiles else ""
    marked = "; ".join(f"{label} {format_count(size)}" for size, label in marks)
    return Figure(
        key=f"sizes-{one.feature}",
        title=f"The dataset: {one.feature}",
        says=f"{one.feature.capitalize()} of {format_count(data.n_usable)} usable {of_data(evidence.noun)}{middle}. {marked.capitalize()}.",
        x=PlotAxis(one.feature, labels=tuple(format_count(low) for low, _ in one.histogram)),
        y=PlotAxis(of_data(evidence.noun)),
        series=(
            Series(
                of_data(evidence.noun),
                "bars",
                tuple(float(i) for i in range(len(one.histogram))),
                tuple(float(count) for _, count in one.histogram),
                tuple(range(len(one.histogram))),
                kind="bars",
            ),
        ),
        table=f"sizes-{one.feature}",
        rules=_rules([(place(size), label.partition(" (")[0]) for size, label in marks]),
    )


def _rules(marks: list[tuple[float, str]]) -> tuple[Rule, ...]:
    """A line at each mark; marks that lie too close share one."""
    lines: list[tuple[float, list[str]]] = []
    for at, label in sorted(marks):
        if lines and at - lines[-1][0] < NEAR:
            lines[-1][1].append(label)
        else:
            lines.append((at, [label]))
    return tuple(Rule("x", at, " and ".join(dict.fromkeys(labels))) for at, labels in lines)


def worst_members(evidence: Evidence, feature: str) -> list[tuple[float, str]]:
    """The mean size of a member of each stage's worst batch, with a label; stages of equal size share one."""
    sizes: dict[float, list[Stage]] = {}
    for stage, plan in (evidence.plans or {}).items():
        if isinstance(plan, StagePlan) and stage != "smoke_test" and plan.certificate.worst.graphs:
            worst = plan.certificate.worst
            if feature in dict(worst.sizes):
                sizes.setdefault(worst[feature] / worst.graphs, []).append(stage)
    return [
        (size, f"mean of the worst batch ({', '.join(STAGE_NAMES[stage].lower() for stage in stages)})")
        for size, stages in sizes.items()
    ]
