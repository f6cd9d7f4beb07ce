"""Lets Compass plan for a scenario and compares its plans with the oracle's."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.counting import CountingRunner
from benchmarks.foreign.oracle import TIMED, Oracle
from benchmarks.foreign.runner import ForeignRunner
from benchmarks.foreign.scenarios import ForeignScenario
from compass.optimizer import Request, optimize
from compass.profile import Profile
from compass.records import STAGES, Choice, Load, ProbeNote, Stage, StagePlan

WORST_REGRET = 1.0
"""Of a plan that does not hold, or is missing though there is one."""
REACH = 1.645
"""Standard deviations to either side that hold nine tenths of a normal distribution."""


@dataclass(frozen=True)
class JudgedScenario:
    """One scenario's figures."""

    kind: str
    number: int
    on_cpu: bool
    regret: dict[Stage, float]
    capacity_short: float | None
    """None where the oracle has no plan."""
    throughput_short: float | None
    missing: tuple[Stage, ...]
    over_budget: tuple[str, ...]
    """Plans whose worst batch, fixed or budgeted, takes more than the budget."""
    beyond_law: tuple[Stage, ...]
    """Plans whose own law puts the batch that was certified over the budget."""
    step_held: tuple[bool, ...]
    """For each run after calibration: did the interval of its step time hold the measurement?"""
    bytes_held: tuple[bool, ...]
    """For each certificate: did the bound on its footprint?"""
    n_steps: int
    """Of probes beyond micro-probes, without certificates."""
    n_out_of_memory: int
    warned: bool
    """Whether a plan says that its time is a hint only, or a stage says why it has no plan."""
    notes: tuple[str, ...]
    """What went wrong, a line for each."""


def plan(scenario: ForeignScenario, runner: CountingRunner) -> Profile:
    """Compass itself, from an empty ledger."""
    with tempfile.TemporaryDirectory() as folder:
        return optimize(
            Request(
                config=scenario.config,
                dataset_size=scenario.dataset_size,
                out=Path(folder) / "hardware_profile.json",
                cache=Path(folder) / "cache",
            ),
            runner=runner,
        )


def judge(scenario: ForeignScenario) -> JudgedScenario:
    """Plan and compare."""
    oracle, runner = Oracle(scenario), CountingRunner(ForeignRunner(scenario))
    profile = plan(scenario, runner)
    notes: list[str] = []
    over = tuple(stage for stage in STAGES if stage in profile.plans and is_over(oracle, profile.plans[stage]))
    regret, missing = regrets(oracle, profile, notes)
    capacity_short, throughput_short = production_short(oracle, profile, notes)
    if oracle.production is not None and "production" not in profile.plans:
        missing = ("production", *missing)
    notes += [f"{stage}: no plan: {profile.failures[stage].reason}" for stage in missing if stage in profile.failures]
    runs = [note for note in profile.probe_log if note.phase in {"search", "certify"} and note.expected is not None]
    return JudgedScenario(
        kind=scenario.physics.name,
        number=scenario.number,
        on_cpu=scenario.physics.machine.on_cpu,
        regret=regret,
        capacity_short=capacity_short,
        throughput_short=throughput_short,
        missing=missing,
        over_budget=over,
        beyond_law=tuple(stage for stage, one in profile.plans.items() if is_beyond(one, oracle.budget_bytes)),
        step_held=tuple(held for held in map(holds_step, runs) if held is not None),
        bytes_held=tuple(held for held in map(holds_bytes, runs) if held is not None),
        n_steps=runner.n_steps("search"),
        n_out_of_memory=runner.n_out_of_memory(),
        warned=bool(profile.failures) or any(one.unsettled or one.indicative for one in searched(profile)),
        notes=tuple(notes),
    )


def searched(profile: Profile) -> list[StagePlan]:
    """The plans with a reliable step: a smoke test's is always a hint."""
    return [one for stage, one in profile.plans.items() if stage != "smoke_test"]


def regrets(oracle: Oracle, profile: Profile, notes: list[str]) -> tuple[dict[Stage, float], tuple[Stage, ...]]:
    """How much worse than the oracle's each timed stage's plan scores, as a share; and the stages without a plan."""
    regret: dict[Stage, float] = {}
    missing: list[Stage] = []
    for stage in TIMED:
        best = oracle.verdict(stage)
        if best is None or best.score is None:
            continue
        regret[stage] = WORST_REGRET
        if stage not in profile.plans:
            missing.append(stage)
            continue
        mine = profile.plans[stage].choice
        true = oracle.truth_of(mine.knobs, mine.batch_size, mine.allocator, stage)
        reached = math.inf if true.score is None else true.score
        regret[stage] = min(WORST_REGRET, max(0.0, reached / best.score - 1))
        if regret[stage] > 0.01:
            notes.append(f"{stage}: {regret[stage]:.1%} worse with {shown(true)}; best {shown(best)}")
    return regret, tuple(missing)


def production_short(oracle: Oracle, profile: Profile, notes: list[str]) -> tuple[float | None, float | None]:
    """(capacity, throughput) that the production plan falls short of, as shares. Models within the stage's share are level."""
    best = oracle.production
    if best is None:
        return None, None
    if "production" not in profile.plans:
        return 1.0, 1.0
    mine = profile.plans["production"].choice
    true = oracle.truth_of(mine.knobs, mine.batch_size, mine.allocator, "production")
    if true.footprint_bound_bytes > oracle.budget_bytes:
        return 1.0, 1.0
    largest = oracle.largest_capacity
    capacity = 0.0 if true.capacity >= oracle.least_level(largest) else 1 - true.capacity / largest
    throughput = max(0.0, 1 - true.throughput / best.throughput)
    if capacity > 0 or throughput > 0.02:
        notes.append(f"production: short by {capacity:.1%}, {throughput:.1%} with {shown(true)}; best {shown(best)}")
    return capacity, throughput


def shown(choice: Choice) -> str:
    """A choice in a few words."""
    knobs = choice.knobs
    variant = "+c" if knobs.variant.checkpointing else ""
    way = f"batch {choice.batch_size} {choice.allocator}"
    return f"{knobs.layers}x{knobs.channels}{variant} {way} {choice.throughput:.1f}/s"


def is_over(oracle: Oracle, plan: StagePlan) -> bool:
    """Whether the worst batch that the plan may meet takes more than the budget."""
    mine = plan.choice
    true = oracle.truth_of(mine.knobs, mine.batch_size, mine.allocator, plan.stage)
    worst = true.footprint_bound_bytes
    if plan.batch_budget is not None and plan.recommended == "batch_budget":
        worst = max(worst, fullest_bytes(oracle, plan))
    return worst > oracle.budget_bytes


def fullest_bytes(oracle: Oracle, plan: StagePlan) -> float:
    """The true footprint of the largest batches that the plan's law lets into its budget."""
    limits = plan.batch_budget
    assert limits is not None  # noqa: S101 - the caller has looked
    features, most = oracle.physics.features, 0.0
    for rows in oracle.worst_sizes:
        for n_graphs, sizes in zip(oracle.batch_sizes[: limits.max_graphs], rows, strict=False):
            load = Load(graphs=int(n_graphs), sizes=tuple(zip(features, map(float, sizes), strict=True)))
            if plan.bytes_law.upper_footprint(load) > limits.budget_bytes:
                break
            held = oracle.physics.footprint_bytes(
                plan.choice.knobs, sizes[None], plan.choice.allocator, oracle.n_different
            )
            most = max(most, float(held[0]))
    return most


def is_beyond(plan: StagePlan, budget_bytes: int) -> bool:
    """Whether training's guard would cut the batch that was certified."""
    return plan.bytes_law.upper_footprint(plan.certificate.worst) > budget_bytes


def holds_step(note: ProbeNote) -> bool | None:
    """Whether the interval before a run held its median step; None if there was none."""
    expected, step = note.expected, note.step
    if expected is None or step is None or not expected.step_s or not expected.spread:
        return None
    return abs(math.log(step.median_s / expected.step_s)) <= REACH * expected.spread


def holds_bytes(note: ProbeNote) -> bool | None:
    """Whether the bound before a certificate held its footprint; None if it was not measured."""
    if note.phase != "certify" or note.expected is None or note.footprint_bytes is None:
        return None
    return note.footprint_bytes <= note.expected.footprint_bound_bytes
