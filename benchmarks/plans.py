"""Graphs per second of the plans against other ways of training the same models: `python -m benchmarks.plans [--quick]`.

Under each memory limit, on this machine's device, the production model is trained as planned and

(a) as production was planned until 0.1: the largest batch, on a CPU under the allocator that returns all freed memory;
(b) as with Lightning's defaults: the batch that its own finder returns, halved until it survives, without any allocator settings;
(c) in every way: all allocators of this machine, with and without activation checkpointing, at several batch sizes. A way is left
    as soon as it takes more than twice as long per graph as the best so far.

Every figure is the median of steps in a fresh process under the enforced limit. Each plan's certificate is then repeated in fresh
processes, none of which may exceed its ceiling. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from benchmarks.batch_size import ask_finder, bare_run
from compass.optimizer import optimize
from compass.planning.calibration import calibrate
from compass.planning.experiment import Experiment
from compass.planning.request import Request
from compass.planning.session import local_runner, open_experiment, wanted_variants
from compass.probe.local import LocalRunner
from compass.probe.preload import is_offered
from compass.profile import Profile
from compass.records import ALLOCATORS, Allocator, Knobs, StagePlan, Status
from compass.units import GIB
from compass.verifying import verify

DATASET_SIZE = 19_000
N_STEPS, N_SURVIVED = 8, 30
HOPELESS = 2.0
"""A way that takes this many times as long per graph as the best is not tried at other batch sizes."""
REPETITIONS = 3
LEAST_OF_TODAY, LEAST_OF_LIGHTNING, LEAST_OF_BEST = 2.5, 1.25, 0.95
TIMEOUT_S = 600.0


@dataclass(frozen=True)
class Way:
    """One way of training the model."""

    allocator: Allocator
    checkpointing: bool
    batch_size: int
    graphs_per_s: float

    def __str__(self) -> str:
        return f"{self.allocator}{'+checkpointing' if self.checkpointing else ''}, batch {self.batch_size}"


@dataclass
class Report:
    """The figures under one limit, in graphs per second; None where a way did not run."""

    limit_gib: float
    model: str
    stages: dict[str, float]
    limited_by: str
    planned: str
    ours: float
    today: float | None = None
    lightning: float | None = None
    best: str = ""
    best_graphs_per_s: float = 0.0
    over_ceiling: list[str] = field(default_factory=list)
    step_errors: dict[str, float] = field(default_factory=dict)
    """Measured over predicted step of every certificate, minus 1."""


class Track:
    """The production model under its limit, on which every way is run."""

    def __init__(self, experiment: Experiment, machine: LocalRunner, plan: StagePlan) -> None:
        self.experiment, self.machine, self.plan = experiment, machine, plan

    def knobs(self, *, checkpointing: bool) -> Knobs:
        """The plan's model, with or without activation checkpointing."""
        knobs = self.plan.choice.knobs
        return knobs.model_copy(update={"variant": knobs.variant.model_copy(update={"checkpointing": checkpointing})})

    def run(self, knobs: Knobs, batch_size: int, allocator: Allocator, n_steps: int = N_STEPS) -> Way | None:
        """The way's speed; None if it does not survive its steps."""
        outcome = self.machine.probe(bare_run(self.experiment, knobs, batch_size, allocator, n_steps, TIMEOUT_S))
        if not outcome.ok or outcome.step is None:
            return None
        way = Way(allocator, knobs.variant.checkpointing, batch_size, batch_size / outcome.step.median_s)
        print(f"    {way}: {way.graphs_per_s:.2f} graphs/s", flush=True)
        return way

    def largest(self, knobs: Knobs, allocator: Allocator) -> int:
        """The largest batch by its bound."""
        known = self.experiment.known()
        return known.largest_batch(knobs, known.config.stages.production, allocator)

    def every_way(self, allocators: tuple[Allocator, ...]) -> Iterator[Way]:
        """All ways that are not hopeless, smallest batch first."""
        best = 0.0
        for allocator in allocators:
            for checkpointing in (False, True):
                knobs = self.knobs(checkpointing=checkpointing)
                largest = self.largest(knobs, allocator)
                for batch_size in sorted({size for size in (2, largest // 2, largest) if 2 <= size <= largest}):
                    way = self.run(knobs, batch_size, allocator)
                    if way is None or HOPELESS * way.graphs_per_s < best:
                        break
                    best = max(best, way.graphs_per_s)
                    yield way


def compare(limit_gib: float, cache: Path, *, quick: bool) -> Report:
    """All ways under one limit."""
    out = cache / f"{limit_gib:g}.json"
    request = Request(memory_limit_bytes=int(limit_gib * GIB), dataset_size=DATASET_SIZE, cache=cache, out=out)
    profile = optimize(request)
    plan = profile.plan("production")
    report = Report(
        limit_gib=limit_gib,
        model=str(plan.choice.knobs),
        stages={stage: round(each.measured.throughput, 2) for stage, each in profile.plans.items()},
        limited_by=plan.limited_by,
        planned=f"{plan.choice.allocator}, batch {plan.choice.batch_size}",
        ours=0.0,
        step_errors={
            stage: round(each.measured.step.median_s / each.predicted.step_s - 1, 3)
            for stage, each in profile.plans.items()
        },
    )
    print(f"{limit_gib:g} GiB: {report.model}, {report.planned}; stages {report.stages}", flush=True)
    with (
        open_experiment(request, None, earlier=profile) as (experiment, prober),
        contextlib.closing(local_runner(request, experiment.settings)) as machine,
    ):
        calibrate(experiment, prober, wanted_variants(experiment.config))  # all of it is in the ledger
        _run_ways(Track(experiment, machine, plan), report, quick=quick)
    report.over_ceiling = list(over_ceiling(profile, request, 1 if quick else REPETITIONS))
    return report


def as_lightning(track: Track, knobs: Knobs) -> Way | None:
    """Lightning's defaults at the batch that its own finder returns, halved until it survives `N_SURVIVED` steps."""
    found = ask_finder("lightning power", track.experiment, knobs, N_SURVIVED, "system")
    print(f"    Lightning's finder: batch {found.batch} {found.note}", flush=True)
    batch = found.batch or 0
    while batch:
        if way := track.run(knobs, batch, "system", N_SURVIVED):
            return way
        print(f"    system, batch {batch}: does not survive {N_SURVIVED} steps", flush=True)
        batch //= 2
    return None


def _run_ways(track: Track, report: Report, *, quick: bool) -> None:
    plain, choice, on_cpu = track.knobs(checkpointing=False), track.plan.choice, track.experiment.on_cpu
    ours = track.run(choice.knobs, choice.batch_size, choice.allocator)
    report.ours = ours.graphs_per_s if ours else 0.0
    today = track.run(plain, track.largest(plain, "tight"), "tight") if on_cpu else None
    report.today = today.graphs_per_s if today else None
    way = as_lightning(track, plain)
    report.lightning = way.graphs_per_s if way else None
    offered = [name for name in ALLOCATORS if is_offered(name) and name != "system"] if on_cpu else [choice.allocator]
    keeping = [name for name in offered if not ALLOCATORS[name].returns_memory]
    ways = list(track.every_way(tuple(keeping[:2] if quick else offered)))
    best = max([*ways, *([ours] if ours else [])], key=lambda way: way.graphs_per_s)
    report.best, report.best_graphs_per_s = str(best), best.graphs_per_s


def over_ceiling(profile: Profile, request: Request, repetitions: int) -> Iterator[str]:
    """The stages whose certificate, repeated in fresh processes, does not hold its memory."""
    for _ in range(repetitions):
        checked = verify(profile, cache=request.cache)
        for check in checked.checks:
            outcome, ceiling = check.outcome, profile.plans[check.stage].certificate.ceiling_bytes
            if outcome is not None and (
                outcome.status is Status.OUT_OF_MEMORY or (outcome.footprint_bytes or 0) > ceiling
            ):
                yield f"{check.stage}: {outcome.status}, {outcome.footprint_bytes} of {ceiling}"


def judge(report: Report) -> dict[str, bool]:
    """The targets under one limit."""
    found = {"no plan over its ceiling": not report.over_ceiling}
    if report.limited_by == "data" and report.limit_gib == 4 and report.today:
        found[f"at least {LEAST_OF_TODAY} times today's"] = report.ours >= LEAST_OF_TODAY * report.today
    if report.lightning:
        found[f"at least {LEAST_OF_LIGHTNING} times Lightning's"] = report.ours >= LEAST_OF_LIGHTNING * report.lightning
    found[f"at least {LEAST_OF_BEST:.0%} of the best way"] = report.ours >= LEAST_OF_BEST * report.best_graphs_per_s
    return found


def main() -> None:
    """Run every limit, and print the table and one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="4 GiB alone, fewer ways")
    parser.add_argument("--limits", type=float, nargs="+", default=[2.0, 4.0, 8.0], help="GiB")
    given = parser.parse_args()
    reports = []
    for limit_gib in [4.0] if given.quick else given.limits:
        with tempfile.TemporaryDirectory() as cache:
            report = compare(limit_gib, Path(cache), quick=given.quick)
        reports.append(report)
        print(
            f"  planned {report.ours:.2f} graphs/s, until 0.1 {report.today or 0:.2f}, Lightning {report.lightning or 0:.2f}, "
            f"best {report.best_graphs_per_s:.2f} ({report.best}); {judge(report)}",
            flush=True,
        )
    print(json.dumps([asdict(report) | {"met": judge(report)} for report in reports]))


if __name__ == "__main__":
    main()
