"""The course of the search: every probe in its order, with its duration and outcome."""

from __future__ import annotations

from collections.abc import Sequence

from compass.records import Outcome, ProbeNote, ProbeSpec, Status
from compass.reporting.evidence import Evidence
from compass.reporting.figure import Figure, PlotAxis, Role, Series, Table
from compass.reporting.words import STAGE_NAMES, model_name
from compass.units import format_bytes, format_seconds

SEARCH_COLUMNS = (
    "probe",
    "phase",
    "stage",
    "model",
    "batch",
    "outcome",
    "step",
    "live",
    "footprint",
    "took",
    "from the ledger",
)
PHASES: dict[Role, str] = {
    "runtime": "runtime settings",
    "calibrate": "calibrate",
    "search": "search",
    "certify": "certify",
    "failed": "did not run",
}


def search_notes(evidence: Evidence) -> tuple[ProbeNote, ...]:
    """The probes of the profile; of an older profile, those of the ledger, with a phase guessed from the request."""
    return evidence.probe_log or tuple(_noted(spec, outcome) for spec, outcome in evidence.probes)


def search_table(evidence: Evidence) -> Table:
    """One row for each probe."""
    rows = tuple(_row(place, note, evidence.noun) for place, note in enumerate(search_notes(evidence)))
    return Table(SEARCH_COLUMNS, rows)


def search_figure(evidence: Evidence) -> Figure | None:
    """The duration of each probe."""
    notes = search_notes(evidence)
    if not notes:
        return None
    series = []
    for role, name in PHASES.items():
        places = tuple(place for place, note in enumerate(notes) if _role(note) == role)
        if places:
            took_s = tuple(notes[place].wall_s for place in places)
            series.append(Series(name, role, tuple(map(float, places)), took_s, places, kind="bars"))
    return Figure(
        key="search",
        title="The search, probe by probe",
        says=_says(evidence, notes),
        x=PlotAxis("probe", labels=tuple(str(place + 1) for place in range(len(notes)))),
        y=PlotAxis("seconds"),
        series=tuple(series),
        table="search",
    )


def found(note: ProbeNote) -> str:
    """`ran`, or the failure of a probe."""
    return "ran" if note.status is Status.OK else f"{note.status.replace('_', ' ')}: {note.detail}".rstrip(": ")


def _says(evidence: Evidence, notes: Sequence[ProbeNote]) -> str:
    n_reused, wall_s = sum(note.reused for note in notes), sum(note.wall_s for note in notes)
    failed = sum(note.status is not Status.OK for note in notes)
    text = f"{len(notes)} probes that took {format_seconds(wall_s)} in all"
    if n_reused:
        text += f", {n_reused} of them taken from the ledger of an earlier run"
    text += ". All ran to their end." if not failed else f". {failed} did not run to their end."
    cost = evidence.probe_costs
    if cost is None or not cost.wall_s:
        return text
    return f"{text} The whole last run took {format_seconds(cost.wall_s)}."


def _role(note: ProbeNote) -> Role:
    return note.phase if note.status is Status.OK else "failed"


def _row(place: int, note: ProbeNote, noun: str) -> tuple[str, ...]:
    return (
        str(place + 1),
        note.phase,
        STAGE_NAMES[note.stage] if note.stage else "all stages",
        model_name(note),
        "" if note.load is None else note.load.in_words(noun),
        found(note),
        "" if note.step is None else f"{note.step.median_s:.3g} s",
        "" if note.live_bytes is None else format_bytes(note.live_bytes),
        "" if note.footprint_bytes is None else format_bytes(note.footprint_bytes),
        format_seconds(note.wall_s),
        "yes" if note.reused else "no",
    )


def _noted(spec: ProbeSpec, outcome: Outcome) -> ProbeNote:
    real = spec.batches[-1].synthetic is None
    return ProbeNote.of(
        spec.knobs,
        key=spec.key,
        phase="certify" if spec.fresh else "search" if real else "calibrate",
        load=outcome.step_load,
        reused=True,
        status=outcome.status,
        detail=outcome.detail,
        live_bytes=outcome.live_bytes,
        footprint_bytes=outcome.footprint_bytes,
        step=outcome.step,
        wall_s=outcome.wall_s,
    )
