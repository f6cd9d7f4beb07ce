"""`hardware_profile.json`: every stage's plan, with the machine and the settings that it holds for."""

from __future__ import annotations

import copy
import json
import logging
import reprlib
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import Any

from pydantic import PrivateAttr, ValidationError

from compass.checksum import CHECKSUM, with_checksum, without_checksum
from compass.commands import Asked, as_option, command, optimize_again
from compass.errors import InputError, expected_value
from compass.files import read_record, write_text
from compass.optimizer_config import OptimizerConfig
from compass.profile_lift import lifted
from compass.records import (
    Choice,
    DatasetSummary,
    Description,
    Fingerprint,
    Hardware,
    ProbeNote,
    Record,
    RuntimeChoice,
    RuntimeSettings,
    Stage,
    StageFailure,
    StagePlan,
    shape_header,
)
from compass.units import format_bytes, format_duration

log = logging.getLogger(__name__)

PROFILE_NAME = "hardware_profile.json"
"""The file that `compass optimize` writes, and the other commands read, unless told otherwise."""
SCHEMA_VERSION = 3
"""Raised with every change that an older release could not read, together with a step in `profile_lift`."""


class ProbeCosts(Record):
    """Probes and training steps that a run made, by phase."""

    runtime_probes: int = 0
    """Probes that compared runtime settings."""
    runtime_steps: int = 0
    """Their training steps."""
    calibrate_probes: int = 0
    """Probes of the calibration."""
    calibrate_steps: int = 0
    """Their training steps."""
    search_probes: int = 0
    """Models that were timed."""
    search_steps: int = 0
    """Their training steps."""
    certify_probes: int = 0
    """Certificates and their repetitions."""
    certify_steps: int = 0
    """Their training steps."""
    out_of_memory: int = 0
    """Probes that ran out of memory."""
    reused: int = 0
    """Probes whose outcome was in the ledger of an earlier run."""
    wall_s: float = 0.0
    """Seconds of the whole run."""


class _Place:
    """Where a profile lies, and whether it is as Compass wrote it. No part of the profile, so that copies in two files are equal."""

    path: Path | None = None
    as_written: bool = True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Place)

    __hash__ = None  # type: ignore[assignment]


class Profile(Record):
    """The plans of all stages for one machine, workload and dataset."""

    schema_version: int = SCHEMA_VERSION
    """Version of this format."""
    compass_version: str
    """Version of Compass that wrote it."""
    created: str
    """UTC, ISO 8601."""
    fingerprint: Fingerprint
    hardware: Hardware
    workload: str
    """Name of the model family, or `file.py:factory`."""
    noun: str = ""
    """What the workload's data consist of, in the plural, e.g. `images`; empty: of complexes, in batches of graphs."""
    asked: Asked = Asked()
    """The request behind this profile, from which its commands are made."""
    dataset_size: int
    """Complexes, or other samples, to train on."""
    trainable: bool = True
    """Whether `compass train` can follow the plans. Otherwise only the user's own trainer can: a step has no loss, or not all samples
    are known."""
    dataset: DatasetSummary | None = None
    """None: no dataset was given; the test bench's complex stood for it, or the workload has its own samples."""
    data_cap: int | None
    """Most trainable parameters that the size of the dataset allows; None: any number."""
    reference: Choice | None = None
    """The production stage's model as predicted. The other stages are measured against it."""
    runtime: tuple[RuntimeChoice, ...] = ()
    """Settings that were fixed before any measurement, with their gains. Training starts with exactly these."""
    plans: dict[Stage, StagePlan] = {}
    """The plan of each stage that has one."""
    failures: dict[Stage, StageFailure] = {}
    """The reason for each stage that has none."""
    probe_costs: ProbeCosts = ProbeCosts()
    probe_log: tuple[ProbeNote, ...] = ()
    """Every probe behind the plans, beside its prediction."""
    config: OptimizerConfig
    _place: _Place = PrivateAttr(default_factory=_Place)

    def __str__(self) -> str:
        return repr(self)

    def __repr__(self) -> str:
        """The workload, the machine and each stage's answer, in a line."""
        answers = [f"{stage} {_in_short(plan)}" for stage, plan in self.plans.items()]
        answers += [f"{stage} no plan" for stage in self.failures]
        return f"<Profile of {self.workload} on {self.hardware.name}: {'; '.join(answers) or 'nothing planned'}>"

    def _repr_html_(self) -> str:
        """The same as a table, for notebooks."""
        shape = shape_header(plan.choice.knobs for plan in self.plans.values())
        head = "".join(f"<th>{name}</th>" for name in ("stage", shape, "batch", "epoch", "memory", "limited by"))
        rows = [_html_row(stage, plan) for stage, plan in self.plans.items()]
        rows += [
            f"<tr><td>{stage}</td><td colspan=5>no plan: {escape(one.reason)}</td></tr>"
            for stage, one in self.failures.items()
        ]
        caption = escape(f"{self.workload} on {self.hardware.name}, {format_bytes(self.hardware.budget_bytes)}")
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{''.join(rows)}</table>"

    @property
    def conditions(self) -> dict[str, object]:
        """The conditions that all stages of a profile share, by name."""
        limit_bytes = self.hardware.limit_bytes
        return {
            "workload": self.workload,
            "dataset size": self.dataset_size,
            "memory limit": "none" if limit_bytes is None else format_bytes(limit_bytes),
            "cycle": self.config.cycle_batches,
            "devices": self.asked.devices * self.asked.nodes,
            "machine, versions or settings": self.fingerprint,
        }

    def changed_since(self, earlier: Profile) -> tuple[str, ...]:
        """The conditions that differ from those of `earlier`, in words; empty if its plans hold for this profile too."""
        if not earlier.as_written:
            return ("its checksum is not that of its content",)
        pairs = zip(self.conditions.items(), earlier.conditions.values(), strict=True)
        return tuple(
            name if name.startswith("machine") else f"{name} {then}, now {now}"
            for (name, now), then in pairs
            if now != then
        )

    def again(self, *stages: Stage, **changes: str) -> str:
        """The command that plans `stages`, or all, as before and into the same file; `changes` are flags with other values."""
        return optimize_again(self.asked, self.workload, stages=stages, out=self.path, changes=changes)

    @property
    def calibrated_runtime(self) -> RuntimeSettings | None:
        """The runtime settings of the worker whose fingerprint this is; None without a plan."""
        allocator = self.config.stages.calibration_allocator
        runtimes = [plan.runtime for plan in self.plans.values()]
        same = [runtime for runtime in runtimes if runtime.allocator == allocator]
        if same or not runtimes:
            return same[0] if same else None
        return runtimes[0].model_copy(update={"allocator": allocator, "library": ""})

    @property
    def path(self) -> Path | None:
        """The file that it was read from or written to."""
        return self._place.path

    @property
    def as_written(self) -> bool:
        """Whether its file is as Compass wrote it. One that is not can be read, but nothing of it goes into another profile."""
        return self._place.as_written

    @property
    def verified_anew(self) -> str:
        """The command that accepts this machine if all plans hold on it."""
        return command("verify", {"--profile": as_option(self.path)}, ["--update"])

    def plan(self, stage: Stage) -> StagePlan:
        """The plan of `stage`.

        Raises:
            InputError: the stage has no plan; the reason, if it was planned without success.
        """
        if stage in self.plans:
            return self.plans[stage]
        failure, known = self.failures.get(stage), ", ".join(self.plans) or "none"
        got = f"no plan: {failure.reason}" if failure else "no plan: the stage was not planned"
        raise InputError(
            f"stage {stage}",
            got=got,
            expected=f"a stage with a plan ({known})",
            fix=f"Run `{self.again(stage)}`.",
        )

    def with_earlier(self, earlier: Profile | None) -> Profile:
        """This profile, completed by stages of `earlier` that it did not plan itself, if both share the same conditions."""
        if earlier is None or self.changed_since(earlier):
            return self
        redone = self.plans.keys() | self.failures.keys()
        plans = {stage: plan for stage, plan in earlier.plans.items() if stage not in redone}
        failures = {stage: failure for stage, failure in earlier.failures.items() if stage not in redone}
        runtime = tuple(choice for choice in earlier.runtime if choice.stage in plans)
        kept = (note for note in earlier.probe_log if note.stage in plans or note.stage in failures)
        return self.model_copy(
            update={
                "plans": {**plans, **self.plans},
                "failures": {**failures, **self.failures},
                "runtime": (*self.runtime, *runtime),
                "probe_log": (*kept, *self.probe_log),
            }
        )


def _in_short(plan: StagePlan) -> str:
    return f"{plan.choice.knobs.shape}, batch {plan.choice.batch_size}"


def _html_row(stage: Stage, plan: StagePlan) -> str:
    memory = f"{format_bytes(plan.measured.footprint_bytes)} of {format_bytes(plan.certificate.ceiling_bytes)}"
    epoch = "" if plan.epoch_s is None else format_duration(plan.epoch_s)
    model = f"{plan.choice.knobs.shape} {plan.choice.knobs.variant}"
    cells = (stage, model, str(plan.choice.batch_size), epoch, memory, plan.limited_by)
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def stale(profile: Profile, description: Description) -> tuple[str, ...]:
    """Differences between this machine and the one that `profile` was measured on, in words; empty if there are none.

    `description` must come from a worker under `profile.calibrated_runtime`, because other settings make other
    fingerprints.
    """
    then, now = profile.fingerprint, description.fingerprint
    pairs = {name: (getattr(then, name), getattr(now, name)) for name in ("device", "driver", "torch")}
    pairs |= _side_by_side(then.versions, now.versions)
    pairs |= {f"runtime {name}": pair for name, pair in _side_by_side(then.runtime, now.runtime).items()}
    found = [f"{name}: {was}, now {is_now}" for name, (was, is_now) in pairs.items() if was != is_now]
    if then.workload != now.workload:
        found.append("workload: its code, its options or its samples are not the same now")
    return tuple(found)


def _side_by_side(then: tuple[tuple[str, str], ...], now: tuple[tuple[str, str], ...]) -> dict[str, tuple[str, str]]:
    names = dict.fromkeys(name for name, _ in (*then, *now))
    return {name: (dict(then).get(name, "none"), dict(now).get(name, "none")) for name in names}


CHANGED = "it was changed after Compass wrote it, or is damaged: what was certified may no longer be what it says"


class NewerProfileError(InputError):
    """A profile that a newer Compass wrote, which this version must neither read nor overwrite."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a profile, as published in docs and printed by `compass schema`."""
    found = Profile.model_json_schema(mode="serialization")
    found["properties"][CHECKSUM] = {
        "type": "string",
        "description": "Sixteen hex digits over all other values, by which a reader notices damage; optional.",
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:compass:hardware_profile:{SCHEMA_VERSION}",
        **found,
    }


def write_profile(profile: Profile, path: Path) -> None:
    """Write `profile` to `path`, whole.

    Raises:
        InputError: the folder cannot be written to, or the profile is not as Compass wrote it.
    """
    check_as_written(profile)
    write_text(laid_out(with_checksum(profile.model_dump(mode="json"))) + "\n", path)
    profile._place.path = path  # noqa: SLF001 - ours


def check_as_written(profile: Profile) -> None:
    """Refuse to give a profile that was changed, or is damaged, a checksum that calls it whole.

    Raises:
        InputError: its file is not as Compass wrote it.
    """
    if not profile.as_written:
        raise InputError(
            f"profile {profile.path}",
            got="one that was changed after Compass wrote it, or is damaged",
            expected="one as it was written",
            fix=f"Run `{profile.again()}`; it starts from the measurements in the ledger.",
        )


_IN_A_LINE = json.JSONEncoder(ensure_ascii=False).encode
"""Made once: `json.dumps` would make an encoder for each of some ten thousand values."""


def laid_out(value: Any, indent: str = "") -> str:
    """`value` as indented JSON, where an object or list of plain values takes one line."""
    inner = indent + "  "
    if isinstance(value, dict) and any(isinstance(item, (dict, list)) for item in value.values()):
        lines = [f"{inner}{json.dumps(key)}: {laid_out(item, inner)}" for key, item in value.items()]
        return "{\n" + ",\n".join(lines) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value):
        return "[\n" + ",\n".join(inner + laid_out(item, inner) for item in value) + f"\n{indent}]"
    return _IN_A_LINE(value)


def read_profile(path: Path | str) -> Profile:
    """The profile in `path`.

    Raises:
        InputError: no such file, not a profile, or written by a newer Compass.
    """
    path = Path(path)
    where = f"profile {path}"
    try:
        data = json.loads(read_record(path).decode("utf-8"))
    except OSError as error:
        raise InputError(
            where, got=error.strerror or str(error), expected=f"a {PROFILE_NAME}", fix="Run `compass optimize` first."
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            where,
            got="text that is not JSON",
            expected=f"a {PROFILE_NAME}",
            fix="Run `compass optimize` to write it anew.",
        ) from error
    as_written = True
    if isinstance(data, dict):
        data, as_written = without_checksum(data)
        if not as_written:
            log.warning("%s: %s", where, CHANGED)
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise NewerProfileError(
            where,
            got=f"schema version {version}",
            expected=f"at most {SCHEMA_VERSION}",
            fix="Upgrade Compass, or write the profile anew.",
        )
    try:
        profile = _validated(lifted(data) if isinstance(data, dict) else data, where)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the whole file"
        got = "nothing" if first["type"] == "missing" else reprlib.repr(first["input"])
        raise InputError(
            f"{where}, {field}", got=got, expected=expected_value(first), fix="Run `compass optimize` to write it anew."
        ) from error
    place = profile._place  # noqa: SLF001 - ours
    place.path, place.as_written = path, as_written
    return profile


def _validated(data: Any, where: str) -> Profile:
    """The profile in `data`. Fields that this version does not know are left out with a warning: a later one may add some."""
    try:
        return Profile.model_validate(data)
    except ValidationError as error:
        unknown = [one["loc"] for one in error.errors() if one["type"] == "extra_forbidden"]
        if not unknown or not isinstance(data, dict):
            raise
        data = copy.deepcopy(data)
        with suppress(KeyError, IndexError, TypeError):  # a damaged part may be named otherwise than it stands there
            for place in unknown:
                _drop(data, place)
    names = ", ".join(".".join(map(str, place)) for place in unknown)
    profile = Profile.model_validate(data)
    log.warning("%s: left out, because this version of Compass does not know it: %s", where, names)
    return profile


def _drop(data: Any, place: tuple[int | str, ...]) -> None:
    *above, last = place
    for part in above:
        data = data[part]
    del data[last]


def read_earlier(path: Path) -> Profile | None:
    """The profile at `path`, which a new one would replace; None if there is none that can be read.

    Raises:
        NewerProfileError: written by a newer Compass.
    """
    try:
        return read_profile(path)
    except NewerProfileError:
        raise
    except InputError:
        return None
