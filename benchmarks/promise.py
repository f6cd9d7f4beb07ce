"""Does a profile hold? Repeats its certificates in new processes on this machine.

    python -m benchmarks.promise hardware_profile.json [--repeats 3]

For the production plan, the certificate (worst batch, five shuffled ones, worst batch) and 20 more steps run several
times; then a batch of ⌈1.05·B⌉ + 1 must fail under the same ceiling. For every plan, the measured memory is compared with
the prediction, and the cycle time with a longer measurement. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from statistics import median
from typing import Any

from compass.probe.local import LocalRunner
from compass.profile import Profile, read_profile
from compass.records import Batch, Outcome, ProbeSpec, StagePlan, Status

MORE_STEPS = 20
TIMEOUT_S = 1800.0


def repeat(runner: LocalRunner, plan: StagePlan, *, n_more: int, profile: bool = False) -> Outcome:
    batches = plan.certificate.batches
    spec = ProbeSpec(
        knobs=plan.choice.knobs,
        batches=batches,
        min_steps=len(batches) + n_more,
        max_steps=len(batches) + n_more,
        profile=profile,
        fresh=True,
        ceiling_bytes=plan.certificate.ceiling_bytes,
        timeout_s=TIMEOUT_S,
        runtime=plan.runtime,
    )
    return runner.probe(spec)


def beyond(runner: LocalRunner, plan: StagePlan) -> tuple[int, Outcome]:
    """A batch beyond the certificate, which should not fit."""
    batch_size = math.ceil(1.05 * plan.choice.batch_size) + 1
    (sample, _), *_ = plan.certificate.batches[0].members
    batch = Batch(members=((sample, batch_size),))
    spec = ProbeSpec(
        knobs=plan.choice.knobs,
        batches=(batch,),
        min_steps=5,
        max_steps=5,
        profile=False,
        fresh=True,
        ceiling_bytes=plan.certificate.ceiling_bytes,
        timeout_s=TIMEOUT_S,
        runtime=plan.runtime,
    )
    return batch_size, runner.probe(spec)


def check_plan(runner: LocalRunner, plan: StagePlan, *, cycle_batches: int, repeats: int) -> dict[str, Any]:
    n_more = MORE_STEPS if plan.stage == "production" else 5
    runs = [repeat(runner, plan, n_more=n_more) for _ in range(repeats)]
    held = [run for run in runs if run.status is Status.OK and run.step is not None]
    found: dict[str, Any] = {"held": f"{len(held)}/{repeats}", "detail": [run.detail for run in runs if not run.ok]}
    if held:
        cycle_s = cycle_batches * median(run.step.median_s for run in held if run.step)
        footprint = max(run.footprint_bytes or 0 for run in held)
        found |= {
            "cycle_s": round(plan.measured.cycle_s, 2),
            "cycle_again_s": round(cycle_s, 2),
            "cycle_error": round(plan.measured.cycle_s / cycle_s - 1, 4),
            "live_error": round(plan.predicted.live_bytes / plan.measured.live_bytes - 1, 5),
            "footprint_slack": round(plan.predicted.footprint_bound_bytes / footprint - 1, 4),
            "fill": round(footprint / plan.certificate.ceiling_bytes, 4),
        }
    if plan.stage == "production":
        batch_size, outcome = beyond(runner, plan)
        found |= {"batch": plan.choice.batch_size, "beyond": batch_size, "beyond_status": str(outcome.status)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    profile: Profile = read_profile(arguments.profile)
    plans = list(profile.plans.values())
    runner = LocalRunner(
        profile.config, plans[0].runtime, workload=profile.workload, limit_bytes=profile.hardware.limit_bytes
    )
    try:
        report = {
            plan.stage: check_plan(runner, plan, cycle_batches=profile.config.cycle_batches, repeats=arguments.repeats)
            for plan in plans
        }
    finally:
        runner.close()
    for stage, found in report.items():
        print(f"{stage}: {found}", flush=True)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
