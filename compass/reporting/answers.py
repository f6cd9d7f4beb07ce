"""The answers that a user looks for first: how long, how safe, what next. Terminal, page and Markdown have the same sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from compass.commands import as_flag, as_option, command
from compass.optimizer_config import OptimizerConfig
from compass.profile import Profile
from compass.records import STAGES, StageFailure, StagePlan
from compass.records.nouns import counted, of_data
from compass.reporting.evidence import Evidence
from compass.reporting.words import batch_words, of_bytes, rate, rate_unit
from compass.units import MIB, format_count, format_duration

LIMIT_STEP_BYTES = 256 * MIB
"""A memory limit that is suggested is a multiple of this."""


def headline(plan: StagePlan, n_samples: int, noun: str = "") -> str:
    """The plan in a sentence: its model, its epoch, its memory and the proof of it; `noun` is the workload's."""
    return (
        f"On this machine you can train {format_count(plan.choice.capacity)} parameters: {epoch_words(plan, n_samples, noun)}; "
        f"{memory_words(plan)}."
    )


def model_words(plan: StagePlan, noun: str = "") -> str:
    """The model and its batches in words."""
    choice = plan.choice
    return (
        f"{choice.knobs.in_words}, {format_count(choice.capacity)} parameters, in batches of {batch_words(plan, noun)}"
    )


def epoch_words(plan: StagePlan, n_samples: int, noun: str = "") -> str:
    """How long an epoch takes."""
    epoch_s = plan.epoch_s or n_samples / plan.throughput
    return f"an epoch of {counted(n_samples, of_data(noun))} takes {format_duration(epoch_s)}"


def training_words(plan: StagePlan, n_samples: int, config: OptimizerConfig, noun: str = "") -> str:
    """How long an epoch and the configured training take, with what makes the answer uncertain."""
    epochs = config.training.epochs
    training_s = plan.training_s or epochs * n_samples / plan.throughput
    doubt = " (indicative only)" if plan.indicative else ""
    return (
        f"at {rate(plan.throughput)} {rate_unit(noun)} {epoch_words(plan, n_samples, noun)}, "
        f"{format_count(epochs)} epochs {format_duration(training_s)}{doubt}"
    )


def memory_words(plan: StagePlan) -> str:
    """The peak of memory, its limit, and why to believe it."""
    certificate = plan.certificate
    peak = of_bytes(plan.measured.footprint_bytes, certificate.ceiling_bytes)
    if not certificate.enforced:
        return f"memory peaks at {peak}, measured in {certificate.n_steps} steps, though nothing enforced that limit"
    largest = ", the largest batches among them" if certificate.evaluated else ""  # not in a smoke test
    return f"memory peaks at {peak}, proven by {certificate.n_steps} steps under that limit{largest}"


def stand_in_words(name: str) -> str:
    """The caveat of plans of a built-in family that were made without the user's data."""
    return (
        f"Copies of one complex ({name}) stood in for the dataset: batches of your own data differ in size. "
        "Plan again with --dataset PATH before you train."
    )


def least_limit_bytes(failures: Iterable[StageFailure]) -> int | None:
    """The least memory limit at which the nearest miss of every one of `failures` would fit; None if none failed for memory."""
    bounds = [one.nearest.footprint_bound_bytes for one in failures if one.limited_by == "memory" and one.nearest]
    return math.ceil(max(bounds) / LIMIT_STEP_BYTES) * LIMIT_STEP_BYTES if bounds else None


def next_commands(profile: Profile | Evidence, path: Path) -> list[tuple[str, str]]:
    """(command, what it is for) after planning: plan what failed, train the most developed stage, look at all, repeat the proof."""
    found = []
    plans, failures = profile.plans or {}, profile.failures or {}
    failed = [stage for stage, one in failures.items() if one.limited_by == "memory"]
    least_bytes = least_limit_bytes(failures.values())
    if least_bytes is not None:
        text = profile.again(*failed, **{"--memory-limit": as_flag(least_bytes)})
        found.append((text, "by its bound, the nearest miss fits under this limit"))
    given = {"--profile": as_option(path)}
    stage = next((one for one in reversed(STAGES) if one in plans and one != "smoke_test"), None)
    if stage is not None and not profile.trainable:
        found.append((command("export", {"--stage": stage, **given}), "the plan as settings for your own trainer"))
    elif stage is not None:
        has_data = profile.noun or (profile.asked and profile.asked.dataset)
        data = {} if has_data else {"--dataset": "YOUR_DATASET"}
        found.append((command("train", {"--stage": stage, **given, **data}), "train this plan"))
    if plans:
        shown = [str(path)] if as_option(path) else []
        found.append((command("report", {}, shown), "see the reasons and the alternatives"))
        found.append((command("verify", given), "repeat the proof later, or after a change of the machine"))
    return found
