"""The story, top to bottom: calibrate → fit → search → certify → profile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime

from compass.device import available_cores
from compass.planning.certify import certify_stage
from compass.planning.experiment import Experiment
from compass.planning.optuna_view import study_of
from compass.planning.runtime import choose_loaders, compare_allocators
from compass.planning.session import (
    Request,
    build_graphs,
    ignore_progress,
    open_experiment,
    scanned,
    study_place,
    wanted_variants,
)
from compass.planning.strategies import search_stage
from compass.probe.runner import Runner
from compass.profile import ProbeCosts, Profile, read_earlier, write_profile
from compass.records import STAGES, ProbeNote, Progress, Stage, StageFailure, StagePlan
from compass.stages import POLICIES
from compass.stages.validation import follows
from compass.version import __version__

__all__ = ["Request", "optimize"]

log = logging.getLogger(__name__)


def optimize(
    request: Request, *, runner: Runner | None = None, watch: Callable[[Progress], None] = ignore_progress
) -> Profile:
    """Find and certify a plan for each stage, write the profile after each, and return it.

    Raises:
        InputError: something in the request cannot be used.
        WorkerError: no probe can be made on this machine.
    """
    started = time.monotonic()
    request = scanned(request, watch)
    if runner is None:
        build_graphs(request.config, watch)
    earlier = read_earlier(request.out)
    storage = study_place(request, runner)
    with open_experiment(request, runner, watch, earlier=earlier) as experiment, study_of(experiment, storage):
        experiment.settings += tuple(filter(None, [compare_allocators(experiment)]))
        experiment.calibrate(wanted_variants(experiment.config))
        on_paper = POLICIES["production"].rank(experiment.known())
        experiment.reference = on_paper.pick if on_paper else None
        blank = blank_profile(request, experiment)
        warn_of_loss(request, earlier, blank)
        profile = blank.with_earlier(earlier)
        policies = [search_stage(POLICIES[stage], experiment) for stage in STAGES if stage in request.stages]
        for policy in policies:
            result = certify_stage(policy, experiment)
            profile = with_result(profile, result, experiment, time.monotonic() - started)
            write_profile(profile, request.out)
        return profile


def blank_profile(request: Request, experiment: Experiment) -> Profile:
    """A profile of this machine without any stage."""
    return Profile(
        compass_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=experiment.description.fingerprint,
        hardware=experiment.description.hardware,
        workload=request.workload,
        dataset_size=experiment.dataset_size,
        dataset=experiment.dataset,
        data_cap=experiment.data_cap,
        reference=experiment.reference,
        runtime=experiment.settings,
        config=experiment.config,
    )


def warn_of_loss(request: Request, earlier: Profile | None, now: Profile) -> None:
    """Say which stages of the profile that is replaced will be gone, for they answer another question."""
    if earlier is None or earlier.question == now.question:
        return
    lost = [stage for stage in (*earlier.plans, *earlier.failures) if stage not in request.stages]
    if lost:
        log.warning("%s: not kept, for they were planned for another machine, dataset size, memory limit or version: %s",
                    request.out, ", ".join(lost))  # fmt: skip


def with_result(profile: Profile, result: StagePlan | StageFailure, experiment: Experiment, wall_s: float) -> Profile:
    """`profile` with one stage's plan or failure, and the ledger as it now stands."""
    plans = {stage: plan for stage, plan in profile.plans.items() if stage != result.stage}
    failures = {stage: failure for stage, failure in profile.failures.items() if stage != result.stage}
    runtime = tuple(choice for choice in profile.runtime if choice.stage != result.stage)
    if isinstance(result, StagePlan):
        on_cpu = profile.hardware.on_host
        loading = choose_loaders(result, available_cores(), profile.config.runtime, on_cpu=on_cpu)
        plans[result.stage] = result.model_copy(update={"loader_workers": int(loading.chosen)})
        runtime = (*runtime, loading)
    if "validation" in plans:
        text = follows(plans["validation"], plans.get("prototyping"))
        plans["validation"] = plans["validation"].model_copy(update={"follows": text})
    if isinstance(result, StagePlan):
        log.info("%s: %s, batch %d: %s", result.stage, result.choice.knobs, result.choice.batch_size, result.why)
    else:
        failures[result.stage] = result
        log.error("%s: nothing found, %s binds: %s", result.stage, result.limited_by, result.reason)
    return profile.model_copy(
        update={
            "plans": plans,
            "failures": failures,
            "runtime": runtime,
            "probe_costs": ProbeCosts(**experiment.runner.counts, wall_s=wall_s),
            "probe_log": with_notes(profile.probe_log, experiment.notes, result.stage),
        }
    )


def with_notes(before: Iterable[ProbeNote], notes: Sequence[ProbeNote], stage: Stage) -> tuple[ProbeNote, ...]:
    """This run's `notes` of calibration and of `stage`, which it decided, around those of `before` on stages that stand as they were."""
    kept = [one for one in before if one.stage not in {None, stage}]
    return (*(one for one in notes if one.stage is None), *kept, *(one for one in notes if one.stage == stage))
