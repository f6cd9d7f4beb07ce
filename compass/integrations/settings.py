"""A plan as settings for a training script without Compass."""

from __future__ import annotations

from typing import Any

from compass.probe.runtime import environment
from compass.profile import Profile
from compass.records import AXES, Knobs, RuntimeSettings, Stage, device_kind
from compass.training.schedule import learning_rate

_WORKERS_OWN = ("PYTHONUNBUFFERED", "PYTHONFAULTHANDLER")
"""Variables of a worker's environment that training does not need."""


LIGHTNING_PRECISION = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
"""What Lightning calls each precision."""


def settings_of(profile: Profile, stage: Stage) -> dict[str, Any]:
    """All settings that a script needs to train as `stage` was certified: numbers, text and nested groups of them."""
    plan = profile.plan(stage)
    knobs, rules = plan.choice.knobs, profile.config.training
    budget = plan.batch_budget
    return {
        "stage": stage,
        "workload": profile.workload,
        "model": {
            "layers": knobs.layers,
            "channels": knobs.channels,
            **dict(knobs.variant.options),
            **_on_axes(knobs, of_model=True),
        },
        "batching": plan.recommended,
        "batch_size": plan.choice.batch_size,
        **({} if budget is None else {"batch_budget_bytes": budget.budget_bytes}),
        **({} if plan.ranks is None else {"devices": plan.ranks.n_devices, "nodes": plan.ranks.n_nodes}),
        "accumulate": plan.accumulate,
        **_on_axes(knobs, of_model=False),
        "step_s": plan.measured.step.median_s,
        "epochs": rules.epochs,
        **{name: value for name, value in (("epoch_s", plan.epoch_s), ("training_s", plan.training_s)) if value},
        "footprint_bytes": plan.measured.footprint_bytes,
        "ceiling_bytes": plan.certificate.ceiling_bytes,
        "learning_rate": learning_rate(plan.choice.batch_size * plan.n_ranks * plan.accumulate, rules),
        "weight_decay": rules.weight_decay,
        "clip_norm": rules.clip_norm,
        "device": profile.hardware.device,
        "threads": plan.runtime.threads,
        "trainer": trainer_settings(profile, stage),
        "environment": environment_of(plan.runtime),
    }


def _on_axes(knobs: Knobs, *, of_model: bool) -> dict[str, Any]:
    """The values on the axes that change the model, or on those that change the step."""
    return {axis.name: getattr(knobs.variant, axis.name) for axis in AXES if axis.of_model == of_model}


def trainer_settings(profile: Profile, stage: Stage) -> dict[str, Any]:
    """Arguments for Lightning's `Trainer`: `Trainer(**compass.trainer_settings(profile, "production"))`."""
    plan = profile.plan(stage)
    return {
        "accelerator": device_kind(profile.hardware.kind).lightning_accelerator,
        "devices": 1 if plan.ranks is None else plan.ranks.n_devices,
        **({} if plan.ranks is None else {"num_nodes": plan.ranks.n_nodes, "strategy": "ddp"}),
        "precision": LIGHTNING_PRECISION[plan.choice.knobs.variant.precision],
        "accumulate_grad_batches": plan.accumulate,
        "gradient_clip_val": profile.config.training.clip_norm,
    }


def environment_of(runtime: RuntimeSettings) -> dict[str, str]:
    """Environment variables to set before Python starts: threads, waiting, allocators."""
    return {name: value for name, value in environment(runtime, {}, here=False).items() if name not in _WORKERS_OWN}
