"""The answers of a profile alone, for scripts: a few numbers per stage in under 3 kB."""

from __future__ import annotations

from typing import Any

from compass.profile import Profile
from compass.records import RanksPlan, Stage, StageFailure, StagePlan

_DIGITS = 4


def brief_answers(profile: Profile, stage: Stage | None = None) -> dict[str, Any]:
    """The answer of every stage, or of `stage`, with units in the names.

    The keys stay the same within a major release; new ones may be added.
    """
    entries: dict[Stage, StagePlan | StageFailure] = {**profile.plans, **profile.failures}
    return {
        "schema_version": profile.schema_version,
        "workload": profile.workload,
        "device": profile.hardware.name,
        "budget_bytes": profile.hardware.budget_bytes,
        "dataset": profile.asked.dataset or None,
        "dataset_size": profile.dataset_size,
        "stages": {
            name: _plan(entry) if isinstance(entry, StagePlan) else _failure(entry)
            for name, entry in entries.items()
            if stage in {None, name}
        },
    }


def _plan(plan: StagePlan) -> dict[str, Any]:
    knobs, measured = plan.choice.knobs, plan.measured
    return {
        "layers": knobs.layers,
        "channels": knobs.channels,
        **{name: value for name, value in knobs.variant.choices.items() if value not in {False, "fp32", "full"}},
        "parameters": plan.choice.capacity,
        "batching": plan.recommended,
        "batch_size": plan.choice.batch_size,
        "accumulate": plan.accumulate,
        **({} if plan.ranks is None else _ranks(plan.ranks)),
        "allocator": plan.choice.allocator,
        "step_s": _rounded(measured.step.median_s),
        "cycle_s": _rounded(measured.cycle_s),
        "epoch_s": _rounded(plan.epoch_s),
        "training_s": _rounded(plan.training_s),
        "graphs_per_s": _rounded(plan.throughput),
        "footprint_bytes": measured.footprint_bytes,
        "ceiling_bytes": plan.certificate.ceiling_bytes,
        "proven_steps": plan.certificate.n_steps,
        "enforced": plan.certificate.enforced,
        "indicative": plan.indicative,
        "discouraged": plan.discouraged,
        "limited_by": plan.limited_by,
    }


def _ranks(ranks: RanksPlan) -> dict[str, Any]:
    return {
        "devices": ranks.n_devices,
        "nodes": ranks.n_nodes,
        "global_batch": ranks.global_batch,
        "efficiency": _rounded(ranks.efficiency),
        "imbalance": _rounded(ranks.imbalance),
        "epoch_s_by_devices": {str(row.n_devices): _rounded(row.epoch_s) for row in ranks.devices},
    }


def _failure(failure: StageFailure) -> dict[str, Any]:
    return {"limited_by": failure.limited_by, "reason": failure.reason}


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
