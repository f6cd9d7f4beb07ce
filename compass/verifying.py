"""Repeat the certificates of a profile on this machine, and compare memory and time with its plans."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig
from compass.planning.request import Request
from compass.planning.session import scanned
from compass.probe.local import LocalRunner
from compass.probe.requests import certificate_probe
from compass.probe.runner import Runner
from compass.probe.store import LEDGER, Store, default_cache
from compass.profile import Profile, stale
from compass.records import (
    STAGES,
    BatchBudget,
    Description,
    Fingerprint,
    Hardware,
    Measured,
    Outcome,
    ProbeSpec,
    Progress,
    Record,
    Stage,
    StagePlan,
)
from compass.records.nouns import of_batch
from compass.stages import POLICIES
from compass.units import format_bytes, format_seconds
from compass.version import __version__

log = logging.getLogger(__name__)

_AGAIN = "; when it was verified: "
"""Separates, in a plan's `why`, the reason for the choice from the figures of a later verification."""


class PlanCheck(Record):
    """The repeated certificate of one plan."""

    stage: Stage
    outcome: Outcome | None
    """None: not run, because too little memory is free."""
    step_ratio: float | None = None
    """The step time now, relative to the plan's."""
    footprint_ratio: float | None = None
    """The footprint now, relative to the certified one."""
    problems: tuple[str, ...] = ()
    """Promises of the plan that were not kept, in words."""

    @property
    def holds(self) -> bool:
        """Whether the plan kept all its promises."""
        return not self.problems


class VerifyReport(Record):
    """The repeated certificates of a profile."""

    stale: tuple[str, ...]
    """Differences between this machine and the one the profile was measured on, in words."""
    fingerprint: Fingerprint
    """Of this machine."""
    hardware: Hardware
    checks: tuple[PlanCheck, ...]

    @property
    def plans_hold(self) -> bool:
        """Whether every verified plan holds, even if the machine is another one."""
        return all(check.holds for check in self.checks)

    @property
    def holds(self) -> bool:
        """Whether the profile was measured on this machine and its plans hold."""
        return self.plans_hold and not self.stale

    def __repr__(self) -> str:
        held = sum(check.holds for check in self.checks)
        return (
            f"<verify: {'holds' if self.holds else 'does not hold'}, {held} of {len(self.checks)} plans"
            f"{'; '.join(['', *self.stale])}>"
        )


def verify(
    profile: Profile,
    stages: Sequence[Stage] = (),
    *,
    device: str | None = None,
    cache: Path | None = None,
    runner: Runner | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> VerifyReport:
    """Repeat the certificates of `stages`, by default of every plan, and compare them with the plans.

    The outcomes go into the ledger, unless a `runner` is given. The workload's code runs: see `planning.trust`.

    Raises:
        InputError: there is no such plan, or the dataset of the profile cannot be read.
        WorkerError: no probe can be made on this machine.
    """
    plans = _plans(profile, stages)
    store = None if runner else Store((cache or default_cache()) / LEDGER)
    try:
        with closing(runner or _runner(profile, device, cache, watch)) as machine:
            description = machine.describe()
            check_ranks(profile, description)
            checks = []
            for n_done, plan in enumerate(plans):
                spec = certificate_again(plan, profile.config)
                rest_s = plan.measured.step.median_s * spec.min_steps
                watch(
                    Progress(phase="verify", what=plan.stage, n_done=n_done, n_expected=len(plans), remaining_s=rest_s)
                )
                outcome = machine.probe(spec) if has_room(plan, description) else None
                if outcome and store:
                    store.add(description.fingerprint.key, spec, outcome)
                checks.append(check_plan(plan, outcome, description, profile.config.verify.step_tolerance))
    finally:
        if store:
            store.close()
    return VerifyReport(
        stale=stale(profile, description),
        fingerprint=description.fingerprint,
        hardware=description.hardware,
        checks=tuple(checks),
    )


def check_ranks(profile: Profile, description: Description) -> None:
    """Refuse plans for more devices than there are here.

    Raises:
        InputError: a plan needs more.
    """
    n_needed = max(plan.ranks.n_devices if plan.ranks else 1 for plan in profile.plans.values())
    if n_needed > description.n_devices:
        raise InputError(
            "profile",
            got=f"plans for {n_needed} devices",
            expected=f"at most the {description.n_devices} of this machine",
            fix="Verify it where it was planned, or plan for this machine.",
        )


def certificate_again(plan: StagePlan, config: OptimizerConfig) -> ProbeSpec:
    """The probe that repeats the plan's certificate."""
    certificate = plan.certificate
    spec = certificate_probe(
        config.probe,
        plan.choice.knobs,
        certificate.batches,
        step_s=plan.predicted.step_s,
        ceiling_bytes=certificate.ceiling_bytes,
        runtime=plan.runtime,
        evaluated=certificate.evaluated,
        timed=certificate.timed,
        ranks=1 if plan.ranks is None else plan.ranks.n_devices,
    )
    return spec if POLICIES[plan.stage].certified else spec.model_copy(update={"max_steps": spec.min_steps})


def has_room(plan: StagePlan, description: Description) -> bool:
    """Whether the certificate's footprint is free here. If it is not, running it would harm other processes."""
    free_bytes = description.hardware.free_bytes + description.baseline_bytes  # this worker has ended by then
    return _held_bytes(plan, description.hardware) <= free_bytes


def _held_bytes(plan: StagePlan, hardware: Hardware) -> int:
    """The memory of one device that the certificate held: on a CPU, of all its ranks."""
    n_ranks = plan.ranks.n_devices if plan.ranks is not None and hardware.on_host else 1
    return plan.measured.footprint_bytes * n_ranks


def check_plan(plan: StagePlan, outcome: Outcome | None, description: Description, step_tolerance: float) -> PlanCheck:
    """Compare `outcome` with `plan`; None: not run, because too little memory was free."""
    if outcome is None:
        free, held = description.hardware.free_bytes, _held_bytes(plan, description.hardware)
        problem = f"not run: {format_bytes(free)} are free now, and the certificate held {format_bytes(held)}"
        return PlanCheck(stage=plan.stage, outcome=None, problems=(problem,))
    if not outcome.ok:
        return PlanCheck(stage=plan.stage, outcome=outcome, problems=(f"{outcome.status}: {outcome.detail}",))
    problems = []
    footprint_bytes = outcome.footprint_bytes or 0
    bound_bytes = plan.certificate.footprint_bound_bytes
    if footprint_bytes > bound_bytes:
        problems.append(
            f"it held {format_bytes(footprint_bytes)}, more than the promised bound of {format_bytes(bound_bytes)}"
        )
    step_ratio = None
    if outcome.step is not None:
        promised = plan.measured.step
        step_s, promised_s = outcome.step.median_s, promised.high_s if plan.unsettled else promised.median_s
        step_ratio = step_s / promised.median_s
        # The lower end of the interval decides: on a busy machine the interval is wide.
        if outcome.step.low_s > (1 + step_tolerance) * promised_s and (plan.unsettled or not plan.indicative):
            problems.append(
                f"a step takes {format_seconds(step_s)}, {step_s / promised_s - 1:.0%} more than the promised "
                f"{format_seconds(promised_s)}"
            )
    return PlanCheck(
        stage=plan.stage,
        outcome=outcome,
        step_ratio=step_ratio,
        footprint_ratio=footprint_bytes / plan.measured.footprint_bytes if plan.measured.footprint_bytes else None,
        problems=tuple(problems),
    )


def updated(profile: Profile, report: VerifyReport) -> Profile:
    """`profile` with this machine's fingerprint and hardware, and the measurements of `report`.

    Raises:
        InputError: a plan does not hold, or the machine differs and a plan was not verified.
    """
    if not report.plans_hold:
        raise InputError(
            "--update",
            got="plans that do not hold here",
            expected="plans that hold",
            fix=f"Run `{profile.again()}`; it starts from these measurements.",
        )
    checks = {check.stage: check for check in report.checks}
    left = [stage for stage in profile.plans if stage not in checks]
    if report.stale and left:
        raise InputError(
            "--update",
            got=f"a profile of another machine, and {', '.join(left)} not verified",
            expected="every plan verified here",
            fix="Leave out --stage.",
        )
    n_samples, epochs = profile.dataset_size, profile.config.training.epochs
    plans = {
        stage: _measured(plan, checks[stage].outcome, profile.config, profile.noun).with_times(n_samples, epochs)
        if stage in checks
        else plan
        for stage, plan in profile.plans.items()
    }
    promised = {name: getattr(profile.hardware, name) for name in ("limit_bytes", "budget_bytes")}
    hardware = report.hardware.model_copy(update=promised)
    here = {"fingerprint": report.fingerprint, "hardware": hardware, "compass_version": __version__}
    return profile.model_copy(update={**here, "plans": plans})


def _measured(plan: StagePlan, outcome: Outcome | None, config: OptimizerConfig, noun: str) -> StagePlan:
    if outcome is None or outcome.step is None:
        return plan
    step_s = outcome.step.median_s
    slowdown = step_s / plan.measured.step.median_s
    cycle_s, throughput = step_s * config.cycle_batches, plan.choice.batch_size / step_s
    return plan.model_copy(
        update={
            "measured": _measured_anew(plan.measured, outcome, cycle_s=cycle_s, throughput=throughput),
            "step_law": None if plan.step_law is None else plan.step_law * slowdown,
            "why": f"{plan.why.partition(_AGAIN)[0]}{_AGAIN}{throughput:.1f} {of_batch(noun)}/s, a cycle of {format_seconds(cycle_s)}",
            "certificate": plan.certificate.model_copy(
                update={"n_steps": outcome.n_steps, "enforced": outcome.enforced}
            ),
            "batch_budget": None if plan.batch_budget is None else _slowed(plan.batch_budget, slowdown),
        }
    )


def _measured_anew(before: Measured, outcome: Outcome, *, cycle_s: float, throughput: float) -> Measured:
    """The figures of `outcome`; those that it lacks stay as they were `before`."""
    found = {
        "live_bytes": outcome.live_bytes or None,
        "update_s": outcome.update_s,
        # It was None because a stand-in complex was copied, which does not show the time of loading.
        "collate_s": None if before.collate_s is None else outcome.collate_s,
    }
    return before.model_copy(
        update={
            "step": outcome.step,
            "cycle_s": cycle_s,
            "throughput": throughput,
            "footprint_bytes": outcome.footprint_bytes or 0,
            **{name: value for name, value in found.items() if value is not None},
        }
    )


def _slowed(budget: BatchBudget, slowdown: float) -> BatchBudget:
    """`budget` with steps that take `slowdown` times as long. The limit of a step's time moves with the law that predicts it."""
    limit_s = budget.max_step_s
    return budget.model_copy(
        update={
            "throughput": budget.throughput / slowdown,
            "max_step_s": None if limit_s is None else limit_s * slowdown,
        }
    )


def _plans(profile: Profile, stages: Sequence[Stage]) -> list[StagePlan]:
    plans = [profile.plan(stage) for stage in STAGES if stage in (stages or profile.plans)]
    if not plans:
        raise InputError(
            "profile",
            got="no plan",
            expected="at least one to verify",
            fix=f"Run `{profile.again()}`; it names the limit.",
        )
    return plans


def _runner(profile: Profile, device: str | None, cache: Path | None, watch: Callable[[Progress], None]) -> LocalRunner:
    """This machine, under the runtime settings of the profile's fingerprint. Each certificate sets its own ceiling."""
    runtime = profile.calibrated_runtime
    assert runtime is not None  # noqa: S101 - there are plans
    return LocalRunner(
        scanned(Request(config=profile.config, cache=cache), watch).config,
        runtime,
        workload=profile.workload,
        device=device or profile.hardware.device,
    )
