"""The largest batch that each finder returns, and its cost: `python -m benchmarks.batch_size [--quick]`.

A few models run on this machine's device, each under a ceiling that the system enforces. The methods compared are
Compass (calibration, then the certificates of the production stage for that one model), Lightning's finder in both modes,
Accelerate's, batch-finder, and a straight line through a few small batches. Each method has its own process, with the
same memory above the idle process and the same runtime settings.

B* is the largest batch that survives 30 steps in each of three new processes. Short runs around Compass's answer find it,
and full runs check it. A larger batch that a finder returned is tested in the same way. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.batch_size_child import RunSpec
from compass.optimizer_config import OptimizerConfig
from compass.planning.calibration import calibrate
from compass.planning.certify import certify_stage
from compass.planning.experiment import Experiment
from compass.planning.prober import Prober
from compass.planning.request import Request
from compass.planning.session import local_runner, open_experiment
from compass.probe.failures import classify_exit
from compass.probe.local import LocalRunner
from compass.probe.runtime import environment
from compass.records import Allocator, Knobs, ProbeSpec, StagePlan, Status
from compass.search.space import variants
from compass.stages import POLICIES
from compass.units import GIB

POCKET_RADIUS = 5.0
"""Å: a small complex, so that a small memory holds some dozens of them and a step takes tenths of a second."""
ALLOCATOR: Allocator = "tight"
DATASET_SIZE = 1_000_000
"""Large enough that memory alone limits the batch."""
FINDERS = ("lightning power", "lightning binsearch", "accelerate", "batch_finder", "polyfit")
FINDER_TIMEOUT_S = 240.0
PROBE_TIMEOUT_S = 300.0
LEAST_SHARE = 0.03
"""Ours may be this much below B*, or one graph."""
MOST_PROBES = 3


@dataclass(frozen=True)
class Case:
    """One model under one ceiling."""

    layers: int
    channels: int
    checkpointing: bool
    ceiling_bytes: int

    def __str__(self) -> str:
        recomputing = " + checkpointing" if self.checkpointing else ""
        return f"{self.layers} layers × {self.channels} channels{recomputing} under {self.ceiling_bytes / GIB:g} GiB"


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    cases: tuple[Case, ...]
    n_runs: int
    n_steps: int
    """A batch survives if it takes so many steps in each of so many fresh processes."""
    n_screening: int
    """Steps of the runs that look for B*: the optimizer's state and the allocator's habits have settled by then."""
    n_training: int
    """Steps of the training that Accelerate wraps: as many as our certificate's."""


FULL = Effort(
    cases=(
        Case(3, 32, checkpointing=False, ceiling_bytes=int(1.25 * GIB)),
        Case(5, 48, checkpointing=False, ceiling_bytes=int(1.5 * GIB)),
        Case(4, 64, checkpointing=True, ceiling_bytes=int(1.25 * GIB)),
    ),
    n_runs=3,
    n_steps=30,
    n_screening=5,
    n_training=7,
)
QUICK = Effort(
    cases=(Case(2, 32, checkpointing=False, ceiling_bytes=GIB),), n_runs=1, n_steps=5, n_screening=3, n_training=3
)


@dataclass
class Finding:
    """A method's answer and its cost."""

    batch: int | None
    steps: int
    seconds: float
    out_of_memory: int
    """Exceptions, caught or not."""
    deaths: int
    """Of processes."""
    note: str = ""
    survives: bool | None = None
    """`batch`, by the test that defines B*."""


@dataclass
class Report:
    """One case."""

    case: str
    best: int
    """B*."""
    n_probes: int
    """Ours, after the calibration."""
    calibration: dict[str, float]
    findings: dict[str, Finding] = field(default_factory=dict)


# ------------------------------------------------------------------------------------------------------------- ours


def config_of(case: Case) -> OptimizerConfig:
    """A space of one model in which memory is the only limit."""
    config = OptimizerConfig()
    bench = config.test_bench.model_copy(update={"pocket_radius": POCKET_RADIUS})
    space = config.space.model_copy(
        update={
            "layers": (case.layers, case.layers),
            "channels": (case.channels, case.channels),
            "channels_per_layer": (1.0, float(case.channels)),
        }
    )
    production = config.stages.production.model_copy(
        update={"checkpointing": (case.checkpointing,), "allocator": (ALLOCATOR,)}
    )
    stages = config.stages.model_copy(update={"production": production})
    return config.model_copy(update={"test_bench": bench, "space": space, "stages": stages})


def ours(experiment: Experiment, prober: Prober) -> tuple[Finding, int, dict[str, float]]:
    """The production plan for the one model, its number of probes, and the cost of the calibration before it."""
    started = time.perf_counter()
    calibrate(experiment, prober, variants(experiment.config.space, experiment.config.stages.production))
    calibration = {
        "probes": experiment.runner.counts["calibrate_probes"],
        "steps": experiment.runner.counts["calibrate_steps"],
        "seconds": round(time.perf_counter() - started, 2),
    }
    started = time.perf_counter()
    plan = certify_stage(POLICIES["production"], experiment, prober)
    is_plan = isinstance(plan, StagePlan)
    ends = [outcome.status for _, outcome in experiment.runner.probes]
    finding = Finding(
        batch=(plan.largest_batch or plan.choice).batch_size if isinstance(plan, StagePlan) else None,
        steps=experiment.runner.counts["certify_steps"],
        seconds=round(time.perf_counter() - started, 2),
        out_of_memory=ends.count(Status.OUT_OF_MEMORY),
        deaths=ends.count(Status.CRASHED),
        note="" if is_plan else f"no plan: {getattr(plan, 'reason', '')}",
    )
    return finding, experiment.runner.counts["certify_probes"], calibration


# ------------------------------------------------------------------------------------------------------------ peers


def ask_finder(
    finder: str, experiment: Experiment, knobs: Knobs, n_steps: int, allocator: Allocator = ALLOCATOR
) -> Finding:
    """Run a finder in a child process and read its last line."""
    order = RunSpec(
        finder=finder,
        config=experiment.config,
        knobs=knobs,
        device=experiment.description.hardware.device,
        room_bytes=experiment.budget_bytes - experiment.description.baseline_bytes,
        n_steps=n_steps,
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.batch_size_child", order.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(experiment.runtime(allocator)),
        start_new_session=True,
        text=True,
        errors="replace",
    )
    try:
        said, stderr = child.communicate(timeout=FINDER_TIMEOUT_S)
        note = ""
    except subprocess.TimeoutExpired:
        note = f"killed after {FINDER_TIMEOUT_S:.0f} s"
        _kill(child)
        said, stderr = child.communicate()
    lines = [line for line in said.splitlines() if line.startswith("{")]
    last = json.loads(lines[-1]) if lines else {}
    died = child.returncode != 0 and not note
    if died:
        status, detail = classify_exit(child.returncode, stderr[-4000:], ceiling=True)
        note = f"its process died: {status}: {detail[-200:]}"
    return Finding(
        batch=last.get("batch"),
        steps=last.get("steps", 0),
        seconds=last.get("seconds", 0.0),
        out_of_memory=last.get("out_of_memory", 0),
        deaths=int(died),
        note=note or last.get("failed", ""),
    )


def _kill(child: subprocess.Popen[str]) -> None:
    """End a child process and all processes that it started."""
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "win32":
            child.kill()
        else:
            os.killpg(child.pid, signal.SIGKILL)


# --------------------------------------------------------------------------------------------------------------- B*


def bare_run(
    experiment: Experiment, knobs: Knobs, batch_size: int, allocator: Allocator, n_steps: int, timeout_s: float
) -> ProbeSpec:
    """`n_steps` on one typical batch in a fresh process under the ceiling, without a profile."""
    return ProbeSpec(
        knobs=knobs,
        batches=(experiment.sample_loads.typical(batch_size),),
        min_steps=n_steps,
        max_steps=n_steps,
        profile=False,
        fresh=True,
        ceiling_bytes=experiment.budget_bytes,
        timeout_s=timeout_s,
        runtime=experiment.runtime(allocator),
    )


@dataclass
class Judge:
    """Runs batches to find those that survive."""

    machine: LocalRunner
    experiment: Experiment
    knobs: Knobs
    effort: Effort
    known: dict[int, bool] = field(default_factory=dict)

    def runs(self, batch_size: int, n_steps: int) -> bool:
        """Whether a fresh process takes `n_steps` under the ceiling."""
        outcome = self.machine.probe(
            bare_run(self.experiment, self.knobs, batch_size, ALLOCATOR, n_steps, PROBE_TIMEOUT_S)
        )
        if outcome.status not in (Status.OK, Status.OUT_OF_MEMORY, Status.CRASHED):
            raise RuntimeError(f"{self.knobs}, batch {batch_size}: {outcome.status}: {outcome.detail}")
        return outcome.ok

    def survives(self, batch_size: int) -> bool:
        """Whether every run completes all its steps."""
        if batch_size not in self.known:
            self.known[batch_size] = all(self.runs(batch_size, self.effort.n_steps) for _ in range(self.effort.n_runs))
        return self.known[batch_size]

    def best(self, start: int) -> int:
        """B*: short runs outwards from `start` until one passes and one fails, then bisection, then the full test."""
        low = high = max(1, start)
        stride = max(1, round(LEAST_SHARE * start))
        if self.runs(low, self.effort.n_screening):
            while self.runs(high := low + stride, self.effort.n_screening):
                low, stride = high, 2 * stride
        else:
            while (low := max(0, high - stride)) and not self.runs(low, self.effort.n_screening):
                high, stride = low, 2 * stride
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self.runs(middle, self.effort.n_screening) else (low, middle)
        while low and not self.survives(low):
            low -= 1
        return low


# ------------------------------------------------------------------------------------------------------- side by side


def compare(case: Case, effort: Effort, cache: Path) -> Report:
    """All methods on one case."""
    config = config_of(case)
    request = Request(config=config, memory_limit_bytes=case.ceiling_bytes, dataset_size=DATASET_SIZE, cache=cache)
    with (
        open_experiment(request, None) as (experiment, prober),
        contextlib.closing(local_runner(request, experiment.settings)) as machine,
    ):
        mine, n_probes, calibration = ours(experiment, prober)
        kind = variants(config.space, config.stages.production)[0]
        knobs = Knobs(layers=case.layers, channels=case.channels, variant=kind)
        findings = {"ours": mine} | {
            finder: ask_finder(finder, experiment, knobs, effort.n_training) for finder in FINDERS
        }
        judge = Judge(machine, experiment, knobs, effort)
        best = judge.best(mine.batch or 1)
        for finding in findings.values():
            if finding.batch is not None:
                finding.survives = 0 < finding.batch <= best or (finding.batch > 0 and judge.survives(finding.batch))
    return Report(str(case), best, n_probes, calibration, findings)


def show(report: Report) -> None:
    """The table of one case."""
    print(f"\n{report.case}: B* is {report.best}")
    print(f"{'':21}{'batch':>7}{'of B*':>8}{'steps':>7}{'seconds':>9}{'OOM':>5}{'deaths':>8}  survives")
    for name, finding in report.findings.items():
        batch = "none" if finding.batch is None else str(finding.batch)
        share = "" if finding.batch is None else f"{finding.batch / max(1, report.best):.0%}"
        survives = "" if finding.survives is None else "yes" if finding.survives else "NO"
        print(
            f"{name:21}{batch:>7}{share:>8}{finding.steps:>7}{finding.seconds:>9.1f}{finding.out_of_memory:>5}"
            f"{finding.deaths:>8}  {survives:9}{finding.note[:120]}"
        )
    print(f"ours: {report.n_probes} probes, beside the calibration's {report.calibration}", flush=True)


def judge_ours(reports: list[Report]) -> dict[str, bool]:
    """The targets."""
    mine = [(report, report.findings["ours"]) for report in reports]
    return {
        "ours >= B* - max(1, 3 %)": all(
            (finding.batch or 0) >= report.best - max(1.0, LEAST_SHARE * report.best) for report, finding in mine
        ),
        "ours survives": all(finding.survives is True for _, finding in mine),
        "0 crashes": all(finding.out_of_memory + finding.deaths == 0 for _, finding in mine),
        "at most 3 probes": all(report.n_probes <= MOST_PROBES for report in reports),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one small case, printed without judging")
    quick = parser.parse_args().quick
    effort = QUICK if quick else FULL
    reports = []
    with tempfile.TemporaryDirectory() as cache:
        for case in effort.cases:
            reports.append(compare(case, effort, Path(cache)))
            show(reports[-1])
    found: dict[str, Any] = {"cases": [asdict(report) for report in reports]}
    if not quick:
        found["targets"] = judge_ours(reports)
        for name, met in found["targets"].items():
            print("pass" if met else "FAIL", name)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
