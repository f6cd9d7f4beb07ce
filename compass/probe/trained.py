"""Feedback from training to the next optimization: each cycle goes into the ledger as the outcome of a long probe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compass.probe.store import append
from compass.records import (
    Batch,
    Fingerprint,
    Knobs,
    Load,
    Outcome,
    ProbeSpec,
    RuntimeSettings,
    StagePlan,
    Status,
    TrainedCycle,
)

NO_TIME = {"step": None, "timed_load": None}
"""Update of an outcome whose time is superseded."""


def record_cycle(ledger: Path, fingerprint: Fingerprint, plan: StagePlan, cycle: TrainedCycle) -> None:
    """Append a finished cycle of training `plan` to the ledger at `ledger`, under the profile's `fingerprint`.

    The next optimization under this fingerprint uses the footprint as that of a fresh process. The step time replaces its own
    timings of this model under this allocator. Do not call this if the profile was stale in training.

    Raises:
        InputError: the ledger cannot be written.
    """
    outcome = Outcome(
        status=Status.OK,
        source="training",
        load=cycle.fullest_load,
        timed_load=cycle.mean_load,
        parameters=plan.choice.capacity,
        step=cycle.step,
        footprint_bytes=cycle.footprint_bytes,
        enforced=plan.certificate.enforced,
        n_steps=cycle.step.n_steps,
        wall_s=cycle.step.median_s * cycle.step.n_steps,
    )
    append(ledger, fingerprint.key, _as_a_probe(plan, cycle.fullest, cycle.step.n_steps), outcome)


def record_out_of_memory(
    ledger: Path, fingerprint: Fingerprint, plan: StagePlan, batch: Batch, load: Load, *, detail: str
) -> None:
    """Append that training `plan` ran out of memory on `batch`, although its upper bound was below the plan's ceiling.

    Call this only if the plan's own ceiling was reached: memory that another program took says nothing about the plan.

    Raises:
        InputError: the ledger cannot be written.
    """
    outcome = Outcome(status=Status.OUT_OF_MEMORY, detail=detail, source="training", load=load, enforced=True)
    append(ledger, fingerprint.key, _as_a_probe(plan, batch, 1), outcome)


def lessons(history: Sequence[tuple[ProbeSpec, Outcome]]) -> list[tuple[ProbeSpec, Outcome]]:
    """The probes in `history` that training wrote, in order. Those that were certified again later keep their memory, not their time."""
    certified = {
        _subject(spec, outcome): place
        for place, (spec, outcome) in enumerate(history)
        if spec.fresh and outcome.ok and outcome.source == "probe"
    }
    taught = [(place, *known) for place, known in enumerate(history) if known[1].source == "training"]
    return [
        (spec, outcome if certified.get(_subject(spec, outcome), -1) < place else outcome.model_copy(update=NO_TIME))
        for place, spec, outcome in taught
    ]


def _subject(spec: ProbeSpec, outcome: Outcome) -> tuple[Knobs, RuntimeSettings, int | None]:
    load = outcome.step_load
    return spec.knobs, spec.runtime, None if load is None else load.graphs


def _as_a_probe(plan: StagePlan, batch: Batch, n_steps: int) -> ProbeSpec:
    """Training as a spec: one batch, again and again. No real probe has such a spec."""
    n_steps = max(2, n_steps)
    return ProbeSpec(
        knobs=plan.choice.knobs,
        batches=(batch,),
        min_steps=n_steps,
        max_steps=n_steps,
        profile=False,
        fresh=True,
        ceiling_bytes=plan.certificate.ceiling_bytes,
        timeout_s=1.0,
        runtime=plan.runtime,
    )
