"""The table of a fleet: each stage on each kind, what it takes and costs there, and the kinds to choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from compass.fleet.record import FleetRecord, KindRecord
from compass.profile import Profile
from compass.records import STAGES, Record, Stage

SECONDS_PER_HOUR = 3600.0
WATT_SECONDS_PER_KWH = 3.6e6


class FleetCell(Record):
    """One stage on one kind."""

    stage: Stage
    kind: str
    model: str = ""
    """Depth, width and variant; empty without a plan."""
    capacity: int = 0
    """Trainable parameters."""
    batch_size: int = 0
    cycle_s: float = 0.0
    epoch_s: float | None = None
    training_s: float | None = None
    limited_by: str = ""
    """What keeps the plan from being larger or faster; without a plan, what prevented it."""
    is_proven: bool = False
    """Whether the plan ran on this kind under its ceiling; False: there is none."""
    is_time_estimated: bool = False
    """Whether its time is only indicative: steps were few, waited for the host, or had not settled."""
    within_target: bool = False
    """Whether the cycle ends within the stage's target, if it has one."""
    price: float | None = None
    """Of the training, in the fleet's currency; None: no price is known."""
    energy_kwh: float | None = None
    """Of the training, by the kind's power; None: no power is known."""
    reason: str = ""
    """Without a plan: why."""


class Recommendation(Record):
    """The kinds to choose for a stage."""

    stage: Stage
    fastest: str | None = None
    """The kind whose training ends first; None: no kind has a plan."""
    cheapest: str | None = None
    """The kind whose training costs least among those within the stage's target; None: no price is known."""
    beyond_target: bool = False
    """Whether none is within the target, so that the cheapest is of all."""
    why: str = ""


class FleetTable(Record):
    """All stages on all kinds."""

    currency: str
    cells: tuple[FleetCell, ...]
    recommendations: tuple[Recommendation, ...]


def fleet_table(record: FleetRecord, profiles: Mapping[str, Profile]) -> FleetTable:
    """The table of the kinds in `record`, whose `profiles` are by name."""
    stages = [
        stage for stage in STAGES if any(stage in one.plans or stage in one.failures for one in profiles.values())
    ]
    cells = {stage: [_cell(stage, kind, profiles.get(kind.name)) for kind in record.kinds] for stage in stages}
    shares = [one.config.space.reference_share for one in profiles.values()]
    recommended = [recommend(stage, cells[stage], equal_share=max(shares, default=0.0)) for stage in stages]
    return FleetTable(
        currency=record.currency,
        cells=tuple(cell for stage in stages for cell in cells[stage]),
        recommendations=tuple(recommended),
    )


def _cell(stage: Stage, kind: KindRecord, profile: Profile | None) -> FleetCell:
    if profile is None or stage not in profile.plans:
        failure = profile.failures.get(stage) if profile else None
        reason = failure.reason if failure else kind.failure or "the stage was not planned"
        return FleetCell(stage=stage, kind=kind.name, limited_by=failure.limited_by if failure else "", reason=reason)
    plan = profile.plans[stage]
    target_s, training_s = profile.config.stages[stage].target_s, plan.training_s
    priced = training_s is not None and kind.price_per_hour is not None
    powered = training_s is not None and kind.power_w is not None
    return FleetCell(
        stage=stage,
        kind=kind.name,
        model=f"{plan.choice.knobs.shape} {plan.choice.knobs.variant}",
        capacity=plan.choice.capacity,
        batch_size=plan.choice.batch_size,
        cycle_s=plan.measured.cycle_s,
        epoch_s=plan.epoch_s,
        training_s=training_s,
        limited_by=plan.limited_by,
        is_proven=True,
        is_time_estimated=plan.indicative,
        within_target=target_s is None or plan.measured.cycle_s <= target_s,
        price=(training_s or 0.0) / SECONDS_PER_HOUR * (kind.price_per_hour or 0.0) if priced else None,
        energy_kwh=(training_s or 0.0) * (kind.power_w or 0.0) / WATT_SECONDS_PER_KWH if powered else None,
    )


def recommend(stage: Stage, cells: Sequence[FleetCell], *, equal_share: float) -> Recommendation:
    """The kinds to choose for `stage`.

    In production quality is the goal, so only kinds compete whose model has at least 1 − `equal_share` of the largest one's
    parameters: the same share by which production itself takes models for equally large. In the other stages all compete.
    """
    planned = [cell for cell in cells if cell.is_proven and cell.training_s is not None]
    if not planned:
        return Recommendation(stage=stage, why="no kind has a plan")
    largest = max(cell.capacity for cell in planned)
    competing = [cell for cell in planned if stage != "production" or cell.capacity >= (1 - equal_share) * largest]
    fastest = _least(competing, lambda cell: cell.training_s)
    priced = [cell for cell in competing if cell.price is not None]
    within = [cell for cell in priced if cell.within_target]
    cheapest = _least(within or priced, lambda cell: cell.price)
    smaller = [cell.kind for cell in planned if cell not in competing]
    why = f"{', '.join(smaller)} can only hold a smaller model" if smaller else ""
    return Recommendation(
        stage=stage,
        fastest=fastest.kind if fastest else None,
        cheapest=cheapest.kind if cheapest else None,
        beyond_target=bool(priced) and not within,
        why=why,
    )


def _least(cells: Iterable[FleetCell], figure: Callable[[FleetCell], float | None]) -> FleetCell | None:
    """The cell with the least `figure`, the first by name among equals."""
    return min(cells, key=lambda cell: (figure(cell) or 0.0, cell.kind), default=None)
