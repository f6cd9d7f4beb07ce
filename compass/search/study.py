"""Optuna's study, as a view of the ledger: rebuilt from the probes whenever a run ends, never read back by Compass.

Each machine has three studies. `…/ledger` holds every timed or certified probe, with throughput and capacity to maximise. A timed
stage's study holds the probes in its own space, with the stage's score to minimise. A trial shows measurements, no predictions:
its batch is the probe's own. A constraint is at most 0 where a probe is admissible, as Optuna defines it:

    memory   footprint / ceiling − 1; `REFUSED` where it ran out
    time     cycle / (target + window) − 1 of the study's stage; 0 where no time is known, or none is set

A probe that ran out of memory is a complete trial, since samplers learn nothing from failed ones. A probe that crashed, hung or
was invalid is a failed trial with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from compass.optimizer_config import OptimizerConfig, StageRules
from compass.records import AXES, Choice, Knobs, Outcome, ProbeSpec, Stage, Status, digest
from compass.search.score import score, worth

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

Direction = Literal["minimize", "maximize"]

REFUSED = 0.1
"""The memory constraint of a probe that ran out of memory: its true excess is not known."""
NO_SCORE = 3.0
"""The score of a model that does not run or is too slow: finite, for samplers and plots. The reference scores 1, and admissible
models stay under about 2."""


@dataclass(frozen=True)
class Frame:
    """Everything needed to turn a probe into a trial."""

    machine: str
    """Name of the device, with the start of its fingerprint."""
    config: OptimizerConfig
    budget_bytes: int
    capacities: Mapping[Knobs, int]
    """Trainable parameters, for probes that ended before they could count them."""
    shares: Mapping[Stage, tuple[float, float]]
    """The space of each stage that gets a study, as shares of the reference's capacity."""
    reference: Choice | None
    """The model that scores are relative to; None: the ledger's study is the only one."""

    def name(self, of: str) -> str:
        """The name of the study of a stage, or of the `ledger`."""
        return f"compass/{self.machine}/{of}"


@dataclass(frozen=True)
class ShownProbe:
    """A timed or certified probe, as a trial shows it."""

    spec: ProbeSpec
    outcome: Outcome
    capacity: int

    @property
    def n_graphs(self) -> int:
        """Graphs in the batch whose step was timed."""
        if self.outcome.source == "training" and self.outcome.timed_load is not None:
            return self.outcome.timed_load.graphs
        return sum(copies for _, copies in self.spec.sequence[-1].members)

    @property
    def throughput(self) -> float:
        """Graphs per second; 0 if it did not run."""
        return self.n_graphs / self.outcome.step.median_s if self.outcome.step else 0.0

    def cycle_s(self, frame: Frame) -> float | None:
        """Seconds of a cycle at the measured step; None if there is none."""
        return self.outcome.step.median_s * frame.config.cycle_batches if self.outcome.step else None


def runs(probes: Iterable[tuple[ProbeSpec, Outcome]], frame: Frame) -> list[ShownProbe]:
    """Each question on real samples with its last answer, in the order of asking; micro-probes are left out.

    So are probes with too few steps for a time, and probes that ended before their parameters were counted if their model is in no
    known space.
    """
    answers = {
        _question(spec, outcome): (spec, outcome)
        for spec, outcome in probes
        if spec.batches[-1].members and not (outcome.ok and outcome.step is None)
    }
    counted = [
        (spec, outcome, outcome.parameters or frame.capacities.get(spec.knobs)) for spec, outcome in answers.values()
    ]
    return [ShownProbe(spec, outcome, capacity) for spec, outcome, capacity in counted if capacity is not None]


def _question(spec: ProbeSpec, outcome: Outcome) -> str:
    """The key of the question; later answers replace earlier ones. Cycles of one training differ in their fullest batch only."""
    if outcome.source == "probe" or outcome.timed_load is None:
        return spec.key
    return digest(spec.knobs, spec.runtime, outcome.timed_load.graphs)


def fill_studies(probes: Iterable[tuple[ProbeSpec, Outcome]], frame: Frame, storage: BaseStorage) -> int:
    """Replace the machine's studies in `storage` by trials of `probes`; returns the number of probes shown."""
    shown = runs(probes, frame)
    axes = _distributions(shown) if shown else {}
    _fill(storage, frame, "ledger", ["maximize", "maximize"], [_trial(run, frame, None, axes) for run in shown])
    for stage, (low, high) in frame.shares.items():
        inside = [run for run in shown if low <= _share(run, frame) <= high]
        _fill(storage, frame, stage, ["minimize"], [_trial(run, frame, stage, axes) for run in inside])
    return len(shown)


def _share(run: ShownProbe, frame: Frame) -> float:
    return run.capacity / frame.reference.capacity if frame.reference else math.nan


def _fill(
    storage: BaseStorage,
    frame: Frame,
    of: str,
    directions: list[Direction],
    trials: Sequence[FrozenTrial],
) -> None:
    import optuna

    name = frame.name(of)
    if name in optuna.get_all_study_names(storage):
        optuna.delete_study(study_name=name, storage=storage)
    if of != "ledger" and not trials:
        return
    study = optuna.create_study(study_name=name, storage=storage, directions=directions)
    for key, value in _about(frame, of).items():
        study.set_user_attr(key, value)
    _name_metrics(study, ["throughput", "capacity"] if of == "ledger" else ["score"])
    study.add_trials(trials)


def _name_metrics(study: Study, names: list[str]) -> None:
    import warnings

    with warnings.catch_warnings():  # experimental, and only labels an axis
        warnings.simplefilter("ignore")
        study.set_metric_names(names)


def _about(frame: Frame, of: str) -> dict[str, Any]:
    about: dict[str, Any] = {"source": "rebuilt from Compass's ledger: changes made here are lost"}
    if of in frame.shares and frame.reference is not None:
        about["reference"] = f"{frame.reference.knobs}, batch {frame.reference.batch_size}"
    return about


def _trial(run: ShownProbe, frame: Frame, stage: Stage | None, axes: dict[str, Any]) -> FrozenTrial:
    import optuna
    from optuna.trial import TrialState

    knobs, outcome = run.spec.knobs, run.outcome
    finding = outcome.ok or outcome.status is Status.OUT_OF_MEMORY
    return optuna.trial.create_trial(
        state=TrialState.COMPLETE if finding else TrialState.FAIL,
        values=_values(run, frame, stage) if finding else None,
        params={
            "layers": knobs.layers,
            "channels": knobs.channels,
            **knobs.variant.axis_values,
            "batch": run.n_graphs,
        },
        distributions=axes,
        user_attrs=_attributes(run, frame),
        constraints=_constraints(run, frame, stage) if finding else None,
    )


def _distributions(shown: Sequence[ShownProbe]) -> dict[str, Any]:
    from optuna.distributions import CategoricalDistribution, IntDistribution

    layers, channels = [run.spec.knobs.layers for run in shown], [run.spec.knobs.channels for run in shown]
    return {
        "layers": IntDistribution(min(layers), max(layers)),
        "channels": IntDistribution(min(channels), max(channels)),
        **{axis.name: CategoricalDistribution(axis.values) for axis in AXES},
        "batch": IntDistribution(1, max(run.n_graphs for run in shown), log=True),
    }


def _values(run: ShownProbe, frame: Frame, stage: Stage | None) -> list[float]:
    if stage is None or frame.reference is None:
        return [run.throughput, float(run.capacity)]
    cycle_s = run.cycle_s(frame)
    if cycle_s is None:
        return [NO_SCORE]
    rules, law = frame.config.stages[stage], frame.config.score
    softened = run.throughput * worth(np.array([cycle_s]), rules, law.late_worth)
    value = float(score(softened, np.array([run.capacity]), frame.reference, rules.quality_weight, law)[0])
    return [value if math.isfinite(value) else NO_SCORE]


def _constraints(run: ShownProbe, frame: Frame, stage: Stage | None) -> dict[str, float]:
    """Always both constraints: Optuna's Gaussian process needs the same ones of every trial."""
    cycle_s, memory = run.cycle_s(frame), REFUSED
    if run.outcome.ok:  # so it fitted, even if the footprint of a long-lived worker is larger
        memory = min(0.0, (run.outcome.footprint_bytes or 0) / (run.spec.ceiling_bytes or frame.budget_bytes) - 1.0)
    late = 0.0
    if stage is not None and cycle_s is not None:
        late = lateness(cycle_s, frame.config.stages[stage])
    return {"memory": memory, "time": late}


def lateness(cycle_s: float, rules: StageRules) -> float:
    """The share by which a cycle is longer than the stage allows; negative if it is shorter, 0 without a limit."""
    return 0.0 if rules.target_s is None else cycle_s / (rules.target_s + rules.window_s) - 1.0


def _kind(run: ShownProbe) -> str:
    if run.outcome.source == "training":
        return "training"
    return "certificate" if run.spec.fresh else "timing"


def _attributes(run: ShownProbe, frame: Frame) -> dict[str, Any]:
    spec, outcome = run.spec, run.outcome
    attributes = {
        "kind": _kind(run),
        "status": outcome.status.value,
        "reason": outcome.detail,
        "capacity": run.capacity,
        "step_s": outcome.step.median_s if outcome.step else None,
        "cycle_s": run.cycle_s(frame),
        "throughput": run.throughput or None,
        "live_bytes": outcome.live_bytes,
        "footprint_bytes": outcome.footprint_bytes,
        "ceiling_bytes": spec.ceiling_bytes,
        "n_steps": outcome.n_steps,
        "allocator": spec.runtime.allocator,
        "probe": spec.key,
        **{f"option {name}": value for name, value in spec.knobs.variant.options},
    }
    return {key: value for key, value in attributes.items() if value not in (None, "")}
