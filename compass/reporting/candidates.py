"""The models that a stage considered: throughput, capacity, cycle; which one was chosen, and the reasons against the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from compass.records import FIXED_SHAPE, Candidate, CandidateVerdict, Choice, Stage, StageFailure, StagePlan, shape_name
from compass.records.nouns import of_batch
from compass.reporting.evidence import Evidence
from compass.reporting.figure import Figure, PlotAxis, Role, Rule, Series, Table
from compass.reporting.words import STAGE_NAMES, allowed_s, model_name, rate, rate_unit, searched_share, why_not
from compass.units import format_bytes, format_count, format_seconds

ROLES: dict[Role, str] = {
    "space": "size of another stage",
    "data": "over the data cap",
    "model": "does not run",
    "memory": "too much memory",
    "time": "too slow",
    "batch": "batch too small",
    "untried": "not tried",
    "admissible": "admissible",
    "runner_up": "runner-up",
    "chosen": "chosen",
}
"""In the order in which they are drawn: the most important roles come last and lie on top."""
COUNTED: dict[Role, str] = {
    "runner_up": "close behind",
    "admissible": "admissible",
    "untried": "not tried",
    "batch": "with too small a batch",
    "time": "too slow",
    "memory": "that need too much memory",
    "model": "that do not run",
    "data": "over the data cap",
    "space": "of the size of another stage",
}
"""The words after a count of each role, most important first."""


def candidates_of(evidence: Evidence, stage: Stage) -> tuple[Candidate, ...]:
    """The candidates that the profile records; of an older profile, the models that it names elsewhere."""
    entry = evidence.found[stage]
    if entry.candidates or not isinstance(entry, StagePlan):
        return entry.candidates
    named: dict[object, Candidate] = {}
    for choice in (entry.predicted_choice, *entry.runners_up, *entry.front):
        verdict: CandidateVerdict = "chosen" if choice.knobs == entry.choice.knobs else "admissible"
        named.setdefault(choice.knobs, _candidate(choice, verdict))
    return tuple(named.values())


def candidate_table(evidence: Evidence, stage: Stage) -> Table:
    """One row for each candidate, and a last one with the measurements of the chosen model."""
    entry, rows = evidence.found[stage], candidates_of(evidence, stage)
    roles = roles_of(entry, rows)
    body = [_predicted(evidence, stage, row, role) for row, role in zip(rows, roles, strict=True)]
    if isinstance(entry, StagePlan):
        body.append(_measured(entry))
    throughput = rate_unit(evidence.noun)
    columns = ("model", "parameters", "batch", throughput, "cycle", "memory, at most", "score", "status", "why not")
    return Table(columns, tuple(body))


def stage_figures(evidence: Evidence, stage: Stage) -> list[Figure]:
    """Throughput and cycle over capacity, and the space as layers over channels."""
    rows = candidates_of(evidence, stage)
    if stage == "smoke_test" or not rows:
        return []
    found = []
    if any(row.step_s is not None for row in rows):
        found = [_throughput(evidence, stage, rows), *([_cycle(evidence, stage, rows)] if evidence.config else [])]
    is_choice = any((row.layers, row.channels) != FIXED_SHAPE for row in rows)
    return [*found, *([_space(evidence, stage, rows)] if is_choice else [])]


def roles_of(entry: StagePlan | StageFailure, rows: Sequence[Candidate]) -> list[Role]:
    """The role of each row."""
    runners_up = [choice.knobs for choice in entry.runners_up] if isinstance(entry, StagePlan) else []
    return [
        "runner_up" if row.verdict == "admissible" and any(row.is_of(knobs) for knobs in runners_up) else row.verdict
        for row in rows
    ]


def _candidate(choice: Choice, verdict: CandidateVerdict) -> Candidate:
    return Candidate.of(
        choice.knobs,
        capacity=choice.capacity,
        verdict=verdict,
        batch_size=choice.batch_size,
        live_bytes=choice.live_bytes,
        footprint_bound_bytes=choice.footprint_bound_bytes,
        step_s=choice.step_s,
        score=choice.score,
    )


def _predicted(evidence: Evidence, stage: Stage, row: Candidate, role: Role) -> tuple[str, ...]:
    name, capacity = model_name(row), format_count(row.capacity)
    excuse = "" if row.verdict in {"chosen", "admissible"} else why_not(row, evidence, stage)
    if row.batch_size is None or row.step_s is None:
        return (name, capacity, "", "", "", "", "", ROLES[role], excuse)
    return (
        name,
        capacity,
        format_count(row.batch_size),
        rate(row.throughput or 0.0),
        format_seconds(row.step_s * evidence.config.cycle_batches) if evidence.config else "",
        "" if row.footprint_bound_bytes is None else format_bytes(row.footprint_bound_bytes),
        "" if row.score is None else f"{row.score:.4f}",
        ROLES[role],
        excuse,
    )


def _measured(plan: StagePlan) -> tuple[str, ...]:
    choice, measured = plan.choice, plan.measured
    return (
        model_name(choice.knobs),
        format_count(choice.capacity),
        format_count(choice.batch_size),
        rate(measured.throughput),
        format_seconds(measured.cycle_s),
        f"{format_bytes(measured.footprint_bytes)} measured",
        "" if measured.terms is None else f"{measured.terms.score:.4f}",
        "chosen, as measured",
        "",
    )


def _throughput(evidence: Evidence, stage: Stage, rows: Sequence[Candidate]) -> Figure:
    entry, members = evidence.found[stage], of_batch(evidence.noun)
    measured = entry.measured.throughput if isinstance(entry, StagePlan) else None
    return Figure(
        key=f"{stage}-throughput",
        title=f"{STAGE_NAMES[stage]}: throughput and capacity",
        says=_says(evidence, stage, rows, f"{members.capitalize()} per second over trainable parameters"),
        x=PlotAxis("trainable parameters", "log"),
        y=PlotAxis(f"{members} per second", "log"),
        series=_series(entry, rows, lambda row: row.throughput, measured),
        table=stage,
        rules=_capacity_rules(evidence, stage),
    )


def _cycle(evidence: Evidence, stage: Stage, rows: Sequence[Candidate]) -> Figure:
    entry, batches = evidence.found[stage], evidence.config.cycle_batches if evidence.config else 0
    measured = entry.measured.cycle_s / 60 if isinstance(entry, StagePlan) else None
    rules = evidence.config.stages[stage] if evidence.config else None
    limits = []
    if rules is not None and rules.target_s is not None:
        limits = [Rule("y", rules.target_s / 60, "target")]
        if rules.window_s:
            limits.append(Rule("y", (allowed_s(stage, evidence.config) or 0) / 60, "end of the window"))
    return Figure(
        key=f"{stage}-cycle",
        title=f"{STAGE_NAMES[stage]}: cycle and capacity",
        says=_says(evidence, stage, rows, f"Minutes of a cycle of {batches} batches over trainable parameters"),
        x=PlotAxis("trainable parameters", "log"),
        y=PlotAxis("minutes per cycle", "log"),
        series=_series(entry, rows, lambda row: None if row.step_s is None else row.step_s * batches / 60, measured),
        table=stage,
        rules=(*limits, *_capacity_rules(evidence, stage)),
    )


def _space(evidence: Evidence, stage: Stage, rows: Sequence[Candidate]) -> Figure:
    """Layers over channels. Variants of one architecture lie side by side, so that all can be seen."""
    entry = evidence.found[stage]
    roles = roles_of(entry, rows)
    apart = {kind: 5.0 * place for place, kind in enumerate(sorted({row.label for row in rows}))}
    series = []
    for role, name in ROLES.items():
        places = tuple(place for place, own in enumerate(roles) if own == role)
        if places:
            x = tuple(rows[place].channels + apart[rows[place].label] for place in places)
            series.append(Series(name, role, x, tuple(float(rows[place].layers) for place in places), places))
    return Figure(
        key=f"{stage}-space",
        title=f"{STAGE_NAMES[stage]}: the space",
        says=_says(evidence, stage, rows, "Layers over channels, every model of the space"),
        x=PlotAxis("channels" if len(apart) == 1 else f"channels; side by side: {', '.join(apart)}"),
        y=PlotAxis("layers"),
        series=tuple(series),
        table=stage,
    )


def _series(
    entry: StagePlan | StageFailure,
    rows: Sequence[Candidate],
    value: Callable[[Candidate], float | None],
    measured: float | None,
) -> tuple[Series, ...]:
    """The rows with a value, by role; the front as rings around its members; the chosen model once more, as measured."""
    values, roles = [value(row) for row in rows], roles_of(entry, rows)

    def series(name: str, role: Role, places: Sequence[int]) -> list[Series]:
        marks = [(float(rows[i].capacity), y, i) for i in places if (y := values[i]) is not None]
        if not marks:
            return []
        xs, ys, index = zip(*marks, strict=True)
        names = tuple(choice_name(rows[i]) for i in index) if role in {"chosen", "runner_up"} else ()
        return [Series(name, role, xs, ys, index, names)]

    found = []
    if isinstance(entry, StagePlan):
        front = [place for place, row in enumerate(rows) if any(row.is_of(choice.knobs) for choice in entry.front)]
        found += series("on the Pareto front", "front", front)
    for role, name in ROLES.items():
        found += series(name, role, [place for place, own in enumerate(roles) if own == role])
    if isinstance(entry, StagePlan) and measured is not None:
        x, chosen = (
            float(entry.choice.capacity),
            next((i for i, row in enumerate(rows) if row.verdict == "chosen"), None),
        )
        predicted = None if chosen is None else values[chosen]
        if chosen is None or predicted is None:
            found.append(Series("chosen, measured", "achieved", (x,), (measured,), (len(rows),)))
        else:
            name = f"chosen, measured: {measured / predicted:.2f} × predicted"
            found.append(Series(name, "achieved", (x, x), (predicted, measured), (chosen, len(rows)), kind="line"))
    return tuple(found)


def choice_name(row: Candidate) -> str:
    """A model and its batch, as short as beside a mark: `5 × 96, batch 9`."""
    return f"{shape_name(row.layers, row.channels)}{row.label.removeprefix('fp32')}, batch {row.batch_size}"


def _capacity_rules(evidence: Evidence, stage: Stage) -> tuple[Rule, ...]:
    span, rules = searched_share(stage, evidence.config), []
    if span and evidence.reference:
        rules = [Rule("x", end * evidence.reference.capacity, f"{end:.0%} of production") for end in span if end > 0]
    if stage == "production" and evidence.data_cap:
        rules.append(Rule("x", float(evidence.data_cap), "data cap"))
    return tuple(rules)


def _says(evidence: Evidence, stage: Stage, rows: Sequence[Candidate], what: str) -> str:
    """The plot in words, for readers who do not see it."""
    entry = evidence.found[stage]
    roles = roles_of(entry, rows)
    counts = ", ".join(f"{n} {name}" for role, name in COUNTED.items() if (n := roles.count(role)))
    models = "1 model" if len(rows) == 1 else f"{len(rows):,} models"
    if not isinstance(entry, StagePlan):
        return f"{what}, {models}: none chosen; {counts}."
    choice = entry.choice
    return (
        f"{what}, {models}. Chosen: {model_name(choice.knobs)}, batch {choice.batch_size}, "
        f"{format_count(choice.capacity)} parameters, {rate(entry.measured.throughput)} {rate_unit(evidence.noun)} and a cycle of "
        f"{format_seconds(entry.measured.cycle_s)} measured. The other models: {counts or 'none'}."
    )
