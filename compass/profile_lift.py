"""Profiles that earlier releases wrote, lifted to the present schema.

One pure function per schema, each from the parsed JSON of a schema to that of the next. A file may be damaged: a part that is
missing or of the wrong kind stays as it is, and the reader reports it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from compass.optimizer_config import present_names

_Json = dict[str, Any]
"""A JSON object."""

_PREDICTED = ("live_bytes", "step_s", "cycle_s", "throughput", "score")
_MEASURED_BY_PLAN = ("step", "cycle_s", "throughput", "terms")
_MEASURED_BY_CERTIFICATE = ("live_bytes", "footprint_bytes", "update_s", "collate_s")
_BOUND = {"footprint_bytes": "footprint_bound_bytes"}


def lifted(data: _Json) -> _Json:
    """`data`, a profile of any schema up to the present, in the present schema. Anything else is returned as it is."""
    if data.get("schema_version") == 1:
        data = _from_schema_1(data)
    return _from_schema_2(data) if data.get("schema_version") == 2 else data


def _from_schema_2(data: _Json) -> _Json:
    """Schema 2: maps were lists of pairs, which are still read; a scan's file in the user's cache was named."""
    config = data.get("config")
    dataset = config.get("dataset") if isinstance(config, dict) else None
    if isinstance(config, dict) and isinstance(dataset, dict):
        data = data | {"config": config | {"dataset": dataset | {"catalogue": ""}}}
    return data | {"schema_version": 3}


def _from_schema_1(data: _Json) -> _Json:
    """Schema 1, of Compass 0.1: predictions and measurements of a plan under the same names."""
    data = _renamed(data, {"ledger": "probe_costs", "trail": "probe_log"}) | {"schema_version": 2}
    data = _edited(
        data,
        {
            "reference": lambda choice: _renamed(choice, _BOUND),
            "probe_costs": lambda costs: {name.replace("confirm_", "certify_"): value for name, value in costs.items()},
            "probe_log": _note_from_1,
            "config": present_names,
        },
    )
    for entries, lift in (("plans", _plan_from_1), ("failures", _failure_from_1)):
        if isinstance(data.get(entries), dict):
            data[entries] = {stage: lift(one) if isinstance(one, dict) else one for stage, one in data[entries].items()}
    return data


def _allocator_of(plan: _Json) -> _Json:
    """Schema 1 named the allocator with the runtime settings alone."""
    runtime = plan.get("runtime")
    return _only(runtime, ["allocator"]) if isinstance(runtime, dict) else {}


def _plan_from_1(plan: _Json) -> _Json:
    choice, certificate = (plan[name] if isinstance(plan.get(name), dict) else {} for name in ("choice", "certificate"))
    bound_bytes = certificate.get("bound_bytes") or choice.get("footprint_bytes")
    whole = {name: plan[name] for name in ("choice", "certificate") if name in plan}
    if choice:
        whole["choice"] = _without(choice, {*_PREDICTED, "footprint_bytes"}) | _allocator_of(plan)
    if certificate:
        kept = _without(certificate, {*_MEASURED_BY_CERTIFICATE, "bound_bytes"})
        whole["certificate"] = kept | {"footprint_bound_bytes": bound_bytes}
    predicted = _renamed(_only(choice, {*_PREDICTED, "footprint_bytes"}), _BOUND)
    measured = _only(plan, _MEASURED_BY_PLAN) | _only(certificate, _MEASURED_BY_CERTIFICATE)
    rest = _renamed(_without(plan, _MEASURED_BY_PLAN), {"binds": "limited_by", "literal": "fastest"})
    lifted_plan = _considered_from_1(rest | whole | {"predicted": predicted, "measured": measured})
    under = _allocator_of(plan)
    return _edited(lifted_plan, {name: lambda one: one | under for name in ("fastest", "runners_up", "front")})


def _failure_from_1(failure: _Json) -> _Json:
    return _considered_from_1(_renamed(failure, {"binds": "limited_by"}))


def _considered_from_1(entry: _Json) -> _Json:
    """Every configuration that a stage names beside its choice: their footprint was always an upper bound."""
    bound = {
        name: lambda one: _renamed(one, _BOUND) for name in ("fastest", "runners_up", "front", "nearest", "candidates")
    }
    return _edited(entry, {**bound, "what_ifs": lambda one: _edited(one, {"pick": lambda row: _renamed(row, _BOUND)})})


def _note_from_1(note: _Json) -> _Json:
    note = note | ({"phase": "certify"} if note.get("phase") == "confirm" else {})
    return _edited(note, {"expected": lambda expected: _renamed(expected, _BOUND)})


def _edited(entry: _Json, edits: Mapping[str, Callable[[_Json], _Json]]) -> _Json:
    """`entry` with an edit made to each named object, or to every object of a list."""
    changed = dict(entry)
    for name, edit in edits.items():
        value = entry.get(name)
        if isinstance(value, dict):
            changed[name] = edit(value)
        elif isinstance(value, list):
            changed[name] = [edit(one) if isinstance(one, dict) else one for one in value]
    return changed


def _renamed(entry: _Json, names: Mapping[str, str]) -> _Json:
    return {names.get(name, name): value for name, value in entry.items()}


def _only(entry: _Json, names: Collection[str]) -> _Json:
    return {name: value for name, value in entry.items() if name in names}


def _without(entry: _Json, names: Collection[str]) -> _Json:
    return {name: value for name, value in entry.items() if name not in names}
