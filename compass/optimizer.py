"""The story, top to bottom: calibrate → fit → search → certify → profile."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain

from compass.device import available_cores
from compass.planning.allocators import measure_allocators
from compass.planning.calibration import can_show_steps, learn_memory, learn_times
from compass.planning.certificate import expect_certificates
from compass.planning.certify import certify_stage
from compass.planning.experiment import Experiment
from compass.planning.forecast import Forecast
from compass.planning.optuna_export import study_of
from compass.planning.probe_log import probe_log
from compass.planning.prober import Prober, Watch, ignore_progress
from compass.planning.ranks import measure_ranks
from compass.planning.replacing import check_replaced, keep_dropped
from compass.planning.request import Request
from compass.planning.runtime import choose_loaders
from compass.planning.session import (
    build_graphs,
    open_experiment,
    scanned,
    study_place,
    wanted_variants,
    without_catalogue,
)
from compass.planning.strategies import search_stage
from compass.probe.runner import Runner
from compass.probe.site import Site
from compass.profile import ProbeCosts, Profile, read_earlier, write_profile
from compass.records import STAGES, Stage, StageFailure, StagePlan
from compass.stages import POLICIES
from compass.stages.validation import follows
from compass.version import __version__

__all__ = ["Request", "optimize"]

log = logging.getLogger(__name__)

FIRST: tuple[Stage, ...] = ("smoke_test", "production")
DECIDED = (*((stage,) for stage in FIRST), tuple(stage for stage in STAGES if stage not in FIRST))
"""The order in which stages are decided: the quick answer, then the plan that all others are compared with, then those."""


def optimize(request: Request, *, runner: Runner | Site | None = None, watch: Watch = ignore_progress) -> Profile:
    """Find and certify a plan for each stage, write the profile after each, and return it.

    The plans are for this machine, or for that of `runner`. A site has a ledger, and builds its graphs itself.

    Raises:
        InputError: something in the request cannot be used.
        WorkerError: no probe can be made on this machine.
    """
    started = time.monotonic()
    earlier = read_earlier(request.out)
    check_replaced(request, earlier)
    known = earlier if earlier and earlier.as_written else None
    request = scanned(request, watch)
    if runner is None:
        build_graphs(request.config, watch)
    storage = study_place(request, runner)
    groups = stage_groups(request)
    with (
        open_experiment(request, runner, watch, earlier=known, forecast=Forecast(groups)) as (experiment, prober),
        study_of(experiment, storage),
    ):
        variants = wanted_variants(experiment.config)
        learn_memory(experiment, prober, variants)
        blank = blank_profile(request, experiment)
        keep_dropped(request, earlier, blank)
        profile = blank.with_earlier(earlier)

        def decide(stages: Sequence[Stage]) -> None:
            nonlocal profile
            # All are searched before one is certified: a certificate runs alone, and would end the lasting worker.
            for policy in [search_stage(POLICIES[stage], experiment, prober) for stage in stages]:
                result = certify_stage(policy, experiment, prober)
                log_result(result)
                profile = with_result(profile, result, experiment)
                profile = with_records(profile, result.stage, experiment, prober, time.monotonic() - started)
                write_profile(profile, request.out)

        quick, *others = groups
        if request.n_devices == 1 and can_show_steps(experiment, variants):
            decide(quick)
            quick = []
        if quick or any(others):
            learn_times(experiment, prober, variants)
            measure_ranks(experiment, prober)
            expect_certificates(experiment, prober, [*quick, *chain.from_iterable(others)])
        decide(quick)
        for stages in filter(None, others):
            prepare_to_choose(request, experiment, prober, profile)
            decide(stages)
        return profile


def stage_groups(request: Request) -> list[list[Stage]]:
    """The stages asked for, in the groups of `DECIDED`, which may be empty."""
    return [[stage for stage in group if stage in request.stages] for group in DECIDED]


def prepare_to_choose(request: Request, experiment: Experiment, prober: Prober, profile: Profile) -> None:
    """Measure the allocators once; take the production stage's plan as the reference, or its choice on paper until it has one."""
    if not any(choice.setting == "allocator" for choice in experiment.runtime_choices):
        measured = measure_allocators(experiment, prober, request.stages)
        experiment.runtime_choices += () if measured is None else (measured,)
    if "production" in profile.plans:
        experiment.reference = profile.plans["production"].measured_choice
    elif on_paper := POLICIES["production"].rank(experiment.known()):
        experiment.reference = on_paper.pick
    expect_certificates(experiment, prober, [stage for stage in request.stages if stage not in profile.plans])


def blank_profile(request: Request, experiment: Experiment) -> Profile:
    """A profile of this machine without any stage."""
    return Profile(
        compass_version=__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        fingerprint=experiment.description.fingerprint,
        hardware=experiment.description.hardware,
        workload=request.workload,
        noun=experiment.noun,
        asked=request.asked,
        dataset_size=experiment.dataset_size,
        trainable=experiment.description.family.is_trainable(len(experiment.description.samples)),
        dataset=experiment.dataset,
        data_cap=None if math.isinf(experiment.data_cap) else int(experiment.data_cap),
        reference=experiment.reference,
        runtime=experiment.runtime_choices,
        config=without_catalogue(experiment.config),
    )


def log_result(result: StagePlan | StageFailure) -> None:
    """Log a stage's plan with its reason, or the limit that left it without one."""
    if isinstance(result, StagePlan):
        log.info("%s: %s, batch %d: %s", result.stage, result.choice.knobs, result.choice.batch_size, result.why)
    else:
        log.error("%s: no plan found, limited by %s: %s", result.stage, result.limited_by, result.reason)


def with_result(profile: Profile, result: StagePlan | StageFailure, experiment: Experiment) -> Profile:
    """`profile` with one stage's plan and its loaders, or with its failure."""
    plans = {stage: plan for stage, plan in profile.plans.items() if stage != result.stage}
    failures = {stage: failure for stage, failure in profile.failures.items() if stage != result.stage}
    runtime = tuple(choice for choice in profile.runtime if choice.stage != result.stage)
    if isinstance(result, StagePlan):
        n_cores = experiment.host.n_cores if experiment.host else available_cores()
        loading = choose_loaders(
            result,
            n_cores // profile.asked.devices,
            profile.config.runtime,
            on_cpu=profile.hardware.on_host,
            noun=profile.noun,
        )
        plan = result.model_copy(update={"loader_workers": int(loading.chosen)})
        plans[result.stage] = plan.with_times(profile.dataset_size, profile.config.training.epochs)
        runtime = (*runtime, loading)
    else:
        failures[result.stage] = result
    if "validation" in plans:
        text = follows(plans["validation"], plans.get("prototyping"))
        plans["validation"] = plans["validation"].model_copy(update={"follows": text})
    in_order = {stage: plans[stage] for stage in STAGES if stage in plans}
    return profile.model_copy(update={"plans": in_order, "failures": failures, "runtime": runtime})


def with_records(profile: Profile, decided: Stage, experiment: Experiment, prober: Prober, wall_s: float) -> Profile:
    """`profile` with the settings, the reference, the number of probes and the probe log, after the stage that was `decided`."""
    production = profile.plans.get("production")
    return profile.model_copy(
        update={
            "runtime": (
                *experiment.runtime_choices,
                *(one for stage in STAGES for one in profile.runtime if one.stage == stage),
            ),
            "reference": experiment.reference if production is None else production.measured_choice,
            "probe_costs": ProbeCosts(**experiment.runner.counts, wall_s=wall_s),
            "probe_log": probe_log(profile.probe_log, prober.probed, decided, on_cpu=experiment.on_cpu),
        }
    )
