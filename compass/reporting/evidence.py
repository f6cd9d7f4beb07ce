"""The input of a report: a profile as far as it can be read, the ledger's probes, and a list of missing parts.

`Evidence` repeats the fields of `Profile`, each of them optional: a report is made from damaged and older profiles too, which
`Profile` refuses. A test holds the two lists of fields together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import from_json

from compass.checksum import without_checksum
from compass.commands import Asked, optimize_again
from compass.errors import InputError, expected_value
from compass.files import read_record
from compass.optimizer_config import OptimizerConfig
from compass.profile import CHANGED, PROFILE_NAME, SCHEMA_VERSION, NewerProfileError, ProbeCosts, Profile
from compass.profile_lift import lifted
from compass.records import (
    STAGES,
    Choice,
    DatasetSummary,
    Fingerprint,
    Hardware,
    Outcome,
    ProbeNote,
    ProbeSpec,
    RuntimeChoice,
    Stage,
    StageFailure,
    StagePlan,
)


@dataclass(frozen=True)
class Evidence:
    """A profile of which any part may be missing; `missing` has a sentence for each."""

    name: str
    """Of the file."""
    compass_version: str | None = None
    created: str | None = None
    fingerprint: Fingerprint | None = None
    hardware: Hardware | None = None
    workload: str | None = None
    noun: str = ""
    asked: Asked | None = None
    dataset_size: int | None = None
    trainable: bool = True
    dataset: DatasetSummary | None = None
    data_cap: int | None = None
    reference: Choice | None = None
    plans: dict[Stage, StagePlan] | None = None
    failures: dict[Stage, StageFailure] | None = None
    probe_costs: ProbeCosts | None = None
    runtime: tuple[RuntimeChoice, ...] = ()
    probe_log: tuple[ProbeNote, ...] = ()
    config: OptimizerConfig | None = None
    probes: tuple[tuple[ProbeSpec, Outcome], ...] = ()
    """Of the ledger, made under the profile's fingerprint."""
    missing: tuple[str, ...] = ()
    path: Path | None = dataclasses.field(default=None, compare=False)

    def again(self, *stages: Stage, **changes: str) -> str:
        """The command that plans `stages`, or all, as this profile was asked for; `changes` are flags with other values."""
        asked, workload = self.asked or Asked(), self.workload or "visnet"
        return optimize_again(asked, workload, stages=stages, out=self.path, changes=changes)

    @property
    def stages(self) -> list[Stage]:
        """The stages with a plan or a failure."""
        return [stage for stage in STAGES if stage in self.found]

    @property
    def found(self) -> dict[Stage, StagePlan | StageFailure]:
        """Each stage's plan or failure, in the stages' order."""
        both: dict[Stage, StagePlan | StageFailure] = {**(self.failures or {}), **(self.plans or {})}
        return {stage: both[stage] for stage in STAGES if stage in both}

    @property
    def has_fixed_model(self) -> bool:
        """Whether the plans are of one fixed model, for which stages mean little."""
        return bool(self.plans) and all(plan.choice.knobs.is_fixed for plan in (self.plans or {}).values())


def of_profile(profile: Profile, name: str) -> Evidence:
    """A whole profile as evidence."""
    given = {field: getattr(profile, field) for field in Profile.model_fields if field in Evidence.__dataclass_fields__}
    return _with_gaps(Evidence(name=name, **given))


def read_evidence(path: Path) -> Evidence:
    """The readable parts of the profile in `path`, which may be cut off or damaged.

    Raises:
        InputError: no such file, nothing in it that a profile has, or written by a newer Compass.
    """
    where = f"profile {path}"
    try:
        content = read_record(path)
    except OSError as error:
        raise InputError(
            where,
            got=error.strerror or str(error),
            expected=f"a {PROFILE_NAME}",
            fix="Run `compass optimize` first.",
        ) from error
    data, missing = _parsed(content)
    version = data.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerProfileError(
            where,
            got=f"schema version {version}",
            expected=f"at most {SCHEMA_VERSION}",
            fix="Upgrade Compass, or write the profile anew.",
        )
    if not lifted(data).keys() & Profile.model_fields.keys():
        raise InputError(
            where,
            got="nothing that a profile has",
            expected=f"a {PROFILE_NAME}",
            fix="Run `compass optimize` to write it anew.",
        )
    return replace(_with_gaps(_salvaged(path.name, lifted(data), missing)), path=path)


def with_probes(
    evidence: Evidence, entries: Sequence[tuple[str, ProbeSpec, Outcome]], complaints: Sequence[str] = ()
) -> Evidence:
    """`evidence` with the ledger's entries that were made under its fingerprint."""
    missing = [*evidence.missing, *complaints]
    probes: tuple[tuple[ProbeSpec, Outcome], ...] = ()
    if evidence.fingerprint is None:
        missing += (
            ["The ledger is left out: the profile does not name the machine of its measurements."] if entries else []
        )
    else:
        own = evidence.fingerprint.key
        last = {spec.key: (spec, outcome) for key, spec, outcome in entries if key == own}
        probes = tuple(last.values())
        if entries and not probes:
            missing.append(
                f"The ledger holds {len(entries):,} probes, none of them made under this profile's fingerprint."
            )
    return replace(evidence, probes=probes, missing=tuple(missing))


def _parsed(content: bytes) -> tuple[dict[str, Any], list[str]]:
    try:
        data, missing = from_json(content), []
    except ValueError:
        try:
            data = from_json(content, allow_partial=True)
        except ValueError:
            data = None
        missing = ["The profile is cut off or damaged: what stands before the damage is shown."]
    if not isinstance(data, dict):
        return {}, missing
    data, as_written = without_checksum(data)
    return data, missing if as_written or missing else [f"The profile: {CHANGED}."]


def _salvaged(name: str, data: dict[str, Any], missing: list[str]) -> Evidence:
    """Field by field, stage by stage, probe by probe."""
    fields: dict[str, Any] = {}
    for field, info in Profile.model_fields.items():
        if field not in data or field in {"schema_version", "plans", "failures", "probe_log"}:
            continue
        try:
            fields[field] = TypeAdapter[Any](info.annotation or object).validate_python(data[field])
        except ValidationError as error:
            missing.append(f"`{field}` cannot be read: {_first(error)}.")
    for field, kind in (("plans", StagePlan), ("failures", StageFailure)):
        entries = data.get(field)
        fields[field] = {
            stage: entry
            for stage, raw in (entries.items() if isinstance(entries, dict) else ())
            if stage in STAGES and (entry := _entry(kind, stage, raw, missing)) is not None
        }
    return Evidence(name=name, probe_log=_probe_log(data.get("probe_log"), missing), missing=tuple(missing), **fields)


def _entry(kind: type[BaseModel], stage: str, raw: Any, missing: list[str]) -> Any:
    """A stage's plan or failure, without its unreadable optional parts."""
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        bad = {str(one["loc"][0]) if one["loc"] else "" for one in error.errors()}
        optional = {field for field, info in kind.model_fields.items() if not info.is_required()}
        if isinstance(raw, dict) and bad <= optional | (raw.keys() - kind.model_fields.keys()):
            missing.append(f"{stage}: {', '.join(sorted(bad))} cannot be read and is left out.")
            return kind.model_validate({field: value for field, value in raw.items() if field not in bad})
        missing.append(f"{stage} is left out: {_first(error)}.")
        return None


def _probe_log(raw: Any, missing: list[str]) -> tuple[ProbeNote, ...]:
    notes, n_bad = [], 0
    for one in raw if isinstance(raw, list) else ():
        try:
            notes.append(ProbeNote.model_validate(one))
        except ValidationError:
            n_bad += 1
    if n_bad:
        missing.append(f"{n_bad} of {n_bad + len(notes)} probes in the profile cannot be read.")
    return tuple(notes)


def _first(error: ValidationError) -> str:
    one = error.errors()[0]
    return f"{'.'.join(map(str, one['loc'])) or 'all of it'}: expected {expected_value(one)}"


def _with_gaps(evidence: Evidence) -> Evidence:
    """`evidence` with a sentence for each missing part."""
    gaps = [
        text
        for text, lacks in (
            ("The profile does not name its machine.", evidence.hardware is None),
            ("The profile does not record its settings.", evidence.config is None),
            ("The profile has no stage's plan.", not evidence.found),
            (
                f"Not in this profile: {', '.join(stage for stage in STAGES if stage not in evidence.found)}.",
                0 < len(evidence.found) < len(STAGES) and not evidence.has_fixed_model,
            ),
            ("The profile does not hold the probes behind it: an older Compass wrote it.", not evidence.probe_log),
        )
        if lacks
    ]
    older = [stage for stage, one in evidence.found.items() if stage != "smoke_test" and not one.candidates]
    if older:
        gaps.append(f"The other candidates are not recorded for {', '.join(older)}: an older Compass wrote it.")
    return replace(evidence, missing=(*evidence.missing, *gaps))
