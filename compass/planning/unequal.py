"""Loads in proportion to speed for ranks that differ: dealt out, certified with each rank under its own ceiling, and compared."""

from __future__ import annotations

import logging

import numpy as np

from compass.batching.unequal import UnequalBatches
from compass.errors import InputError
from compass.planning.experiment import Experiment
from compass.planning.prober import Prober
from compass.probe.requests import certificate_probe
from compass.records import Batch, ProbeSpec, RankLoad, StagePlan
from compass.stages.policy import Policy

log = logging.getLogger(__name__)

WORTHWHILE_SHARES = 0.05
"""Gain above which loads by speed are planned: two timings differ by as much."""


def with_shares(plan: StagePlan, policy: Policy, experiment: Experiment, prober: Prober) -> StagePlan:
    """`plan` with loads by speed, if its ranks differ, the data is known, the certificate holds, and they gain something."""
    ranks = plan.ranks
    batches = _batches(plan, experiment) if experiment.shares and policy.certified else None
    if ranks is None or batches is None:
        return plan
    steps = batches.steps(0)
    step_s = np.array([batches.step_s(step).max() for step in steps])
    typical = int(np.abs(step_s - step_s.mean()).argmin())
    members, _ = experiment.sample_loads.shared()
    named = [[Batch(members=tuple((members[place], 1) for place in part)) for part in step] for step in steps]
    spec = shares_certificate(plan, experiment, named, typical)
    prober.report("certify", "loads by speed", 0, 1, stage=plan.stage)
    outcome = prober.certify(spec, stage=plan.stage, expected=None).outcome
    if outcome.step is None:
        log.warning("%s: certificate of loads by speed failed: %s", plan.stage, outcome.summary)
        return plan
    gain = sum(map(len, steps[typical])) / outcome.step.median_s / plan.together_throughput
    log.info("%s: loads by speed are %.2f times as fast as equal ones", plan.stage, gain)
    if gain <= 1 + WORTHWHILE_SHARES:
        return plan
    return plan.model_copy(update={"ranks": ranks.model_copy(update={"shares": experiment.shares, "gain": gain})})


def _batches(plan: StagePlan, experiment: Experiment) -> UnequalBatches | None:
    """The training set dealt out to the ranks; None where one complex stands in for it, members are padded, or it cannot be."""
    loads = experiment.sample_loads
    if loads.stands_for > 1 or loads.padded or plan.step_law is None:
        return None
    try:
        return UnequalBatches(
            loads.shared()[1],
            plan.bytes_law,
            plan.step_law,
            experiment.shares,
            features=loads.features,
            max_graphs=experiment.known().batch_cap * experiment.n_ranks,
            leave_out=True,
            seed=experiment.config.seed,
        )
    except InputError as error:
        log.warning("%s: equal loads for unequal ranks: %s", plan.stage, error)
        return None


def shares_certificate(plan: StagePlan, experiment: Experiment, steps: list[list[Batch]], typical: int) -> ProbeSpec:
    """For each rank its fullest batch, others, the fullest again, under its own ceiling; then the step `typical` is timed."""
    rules, law, loads = experiment.config.probe, plan.bytes_law, experiment.sample_loads
    each = []
    for rank, share in enumerate(experiment.shares[: experiment.n_devices]):
        own = [step[rank] for step in steps]
        fullest = max(own, key=lambda batch: law.upper_footprint(loads.load(batch)))
        batches = (fullest, *own[: rules.shuffled_batches], fullest)
        each.append(RankLoad(batches=batches, timed=own[typical], ceiling_bytes=share.budget_bytes))
    spec = certificate_probe(
        rules,
        plan.choice.knobs,
        each[0].batches,
        step_s=plan.measured.step.median_s,
        ceiling_bytes=each[0].ceiling_bytes,
        runtime=plan.runtime,
        timed=each[0].timed,
        ranks=experiment.n_devices,
    )
    return spec.model_copy(update={"each": tuple(each), "profile": False})
