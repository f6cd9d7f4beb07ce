"""Distance from the optimum, and steps needed, for each search method: `python -m benchmarks.search`.

Each method solves the same scenarios on simulated machines. An exhaustive oracle on the noise-free truth judges it. Prints a table and, as its last line, one JSON object of figures; writes nothing else.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import sys
import tempfile
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.baselines import BASELINES, Solve
from benchmarks.counting import CountingRunner
from benchmarks.oracle import SEARCHED, Oracle, Pick, Verdict
from benchmarks.scenarios import Scenario, make_scenarios
from compass.optimizer import Request, optimize
from compass.probe.simulation.step import n_parameters
from compass.records import Stage

SEED = 20_260
N_SCENARIOS, N_QUICK = 200, 6
SLOW = {"grid": 10, "tradition": 2, "optuna-gp": 5}
"""Methods that run on every second, fifth or tenth scenario only: their own computing takes seconds in each."""
QUICK_METHODS = ("ours", "tradition", "optuna-tpe", "random")
WORST_REGRET = 1.0
"""Of a plan that does not fit, takes too long, or was not found though there is one."""


@dataclass(frozen=True)
class Truth:
    """A scenario with its oracle's answers."""

    scenario: Scenario
    oracle: Oracle
    verdicts: dict[Stage, Verdict]


@dataclass(frozen=True)
class Judged:
    """One method on one scenario."""

    regret: dict[Stage, float]
    same: dict[Stage, bool]
    capacity_short: float
    throughput_short: float
    n_broken: int
    """Plans that do not fit or take too long on the truth."""
    n_missing: int
    """Plans that were not found though there is one."""
    n_architectures: int
    n_architectures_with_confirming: int
    calibrate: int
    search: int
    confirm: int
    n_out_of_memory: int
    wall_s: float
    compute_s: float


def solve_ours(scenario: Scenario, runner: CountingRunner) -> dict[Stage, Pick]:
    """Compass itself: all stages, from an empty ledger."""
    with tempfile.TemporaryDirectory() as folder:
        profile = optimize(
            Request(
                config=scenario.config,
                memory_limit_bytes=scenario.memory_limit_bytes,
                dataset_size=scenario.dataset_size,
                out=Path(folder) / "hardware_profile.json",
                cache=Path(folder) / "cache",
            ),
            runner=runner,
        )
    return {stage: Pick(plan.choice.knobs, plan.choice.batch_size) for stage, plan in profile.plans.items()}


METHODS: dict[str, Solve] = {"ours": solve_ours, **BASELINES}


def tell_truth(scenario: Scenario) -> Truth:
    """Ask the oracle."""
    oracle = Oracle(scenario)
    verdicts = {stage: oracle.verdict(stage) for stage in SEARCHED}
    return Truth(scenario, oracle, {stage: verdict for stage, verdict in verdicts.items() if verdict is not None})


def judge(truth: Truth, solve: Solve) -> Judged:
    """Let a method solve a scenario and compare."""
    runner = CountingRunner(truth.scenario.runner())
    started = time.process_time()
    picks = solve(truth.scenario, runner)
    compute_s = time.process_time() - started
    oracle = truth.oracle
    scores = {stage: oracle.score(picks[stage], stage) for stage in truth.verdicts if stage in picks}
    regret = {
        stage: min(WORST_REGRET, max(0.0, scores.get(stage, math.inf) / verdict.score - 1.0))
        for stage, verdict in truth.verdicts.items()
    }
    same = {stage: stage in picks and _model(picks[stage]) == _model(v.pick) for stage, v in truth.verdicts.items()}
    capacity_short, throughput_short = _production(oracle, picks.get("production"))
    expected = set(truth.verdicts) | ({"production"} if oracle.reference else set())
    production_broken = "production" in picks and not oracle.fits(picks["production"].knobs, picks["production"].batch)
    return Judged(
        regret=regret, same=same, capacity_short=capacity_short, throughput_short=throughput_short,
        n_broken=sum(math.isinf(score) for score in scores.values()) + production_broken,
        n_missing=len(expected - set(picks)),
        n_architectures=runner.n_architectures("search"),
        n_architectures_with_confirming=runner.n_architectures("search", "certify"), calibrate=runner.n_steps("calibrate"),
        search=runner.n_steps("search"), confirm=runner.n_steps("certify"), n_out_of_memory=runner.n_out_of_memory(),
        wall_s=runner.wall_s(), compute_s=compute_s,
    )  # fmt: skip


def _model(pick: Pick) -> tuple[int, int]:
    return pick.knobs.layers, pick.knobs.channels


def _production(oracle: Oracle, pick: Pick | None) -> tuple[float, float]:
    """(capacity, throughput) by which the production plan falls short of the oracle's, as shares."""
    reference = oracle.reference
    if reference is None:
        return 0.0, 0.0
    if pick is None or not oracle.fits(pick.knobs, pick.batch):
        return 1.0, 1.0
    rules = oracle.config.stages.production
    capacity = n_parameters(pick.knobs) / n_parameters(reference.knobs)
    throughput = oracle.throughput(pick, rules) / oracle.throughput(reference, rules)
    return max(0.0, 1.0 - capacity), max(0.0, 1.0 - throughput)


def summarise(judged: list[Judged]) -> dict[str, Any]:
    """A method's figures over all its scenarios; shares, not per cent."""

    def mean(values: list[float]) -> float:
        return round(float(np.mean(values)), 5) if values else math.nan

    def p95(values: list[float]) -> float:
        return round(float(np.quantile(values, 0.95)), 5) if values else math.nan

    figures: dict[str, Any] = {"n": len(judged)}
    for stage in SEARCHED:
        regrets = [j.regret[stage] for j in judged if stage in j.regret]
        figures[f"{stage}_regret_mean"], figures[f"{stage}_regret_p95"] = mean(regrets), p95(regrets)
        figures[f"{stage}_same_model"] = mean([float(j.same[stage]) for j in judged if stage in j.same])
    figures["capacity_short_mean"] = mean([j.capacity_short for j in judged])
    figures["throughput_short_mean"] = mean([j.throughput_short for j in judged])
    figures["architectures_p95"] = p95([float(j.n_architectures) for j in judged])
    figures["architectures_with_confirming_p95"] = p95([float(j.n_architectures_with_confirming) for j in judged])
    figures["search_steps_mean"] = mean([float(j.search) for j in judged])
    figures["search_steps_p95"] = p95([float(j.search) for j in judged])
    figures["confirm_steps_mean"] = mean([float(j.confirm) for j in judged])
    totals = [float(j.calibrate + j.search) for j in judged]
    figures["steps_mean"], figures["steps_max"] = mean(totals), max(totals)
    figures["steps_with_confirming_mean"] = mean([float(j.calibrate + j.search + j.confirm) for j in judged])
    figures["out_of_memory"] = sum(j.n_out_of_memory for j in judged)
    figures["broken_plans"] = sum(j.n_broken for j in judged)
    figures["missing_plans"] = sum(j.n_missing for j in judged)
    figures["probing_s_mean"] = mean([j.wall_s for j in judged])
    figures["compute_s_mean"] = mean([j.compute_s for j in judged])
    return figures


def check(figures: dict[str, dict[str, Any]]) -> dict[str, bool]:
    """The targets, by name."""
    ours = figures["ours"]
    checks = {
        "capacity_short_mean <= 1%": ours["capacity_short_mean"] <= 0.01,
        "throughput_short_mean <= 3%": ours["throughput_short_mean"] <= 0.03,
        "architectures_p95 <= 6": ours["architectures_p95"] <= 6,
        "search_steps_p95 <= 40": ours["search_steps_p95"] <= 40,
        "steps_max <= 120": ours["steps_max"] <= 120,
        "no out-of-memory": ours["out_of_memory"] == 0,
        "every plan holds": ours["broken_plans"] == 0 and ours["missing_plans"] == 0,
    }
    for stage in SEARCHED:
        checks[f"{stage}_regret_mean <= 0.5%"] = ours[f"{stage}_regret_mean"] <= 0.005
        checks[f"{stage}_regret_p95 <= 2%"] = ours[f"{stage}_regret_p95"] <= 0.02
    if "tradition" in figures:
        theirs = figures["tradition"]["steps_mean"]
        checks["10x fewer steps all in"] = theirs >= 10 * ours["steps_mean"]
        checks["20x fewer beyond calibration"] = theirs >= 20 * ours["search_steps_mean"]
    return checks


def table(figures: dict[str, dict[str, Any]]) -> str:
    """A row for each method."""
    head = (
        f"{'method':<11}{'n':>4} | {'prototyping regret':>19} | {'validation regret':>18} | {'production short of':>20} | "
        f"{'models':>6} {'search':>7} {'all in':>7} {'certify':>7} | {'OOM':>5} {'broken':>6} {'missing':>7}"
    )
    under = (
        f"{'':<15} | {'mean':>9} {'P95':>9} | {'mean':>8} {'P95':>9} | {'capacity':>9} {'throughp.':>10} | "
        f"{'P95':>6} {'P95':>7} {'mean':>7} {'mean':>7} | {'total':>5} {'plans':>6} {'plans':>7}"
    )
    rows = [
        f"{name:<11}{f['n']:>4} | {f['prototyping_regret_mean']:>9.2%} {f['prototyping_regret_p95']:>9.2%} | "
        f"{f['validation_regret_mean']:>8.2%} {f['validation_regret_p95']:>9.2%} | "
        f"{f['capacity_short_mean']:>9.2%} {f['throughput_short_mean']:>10.2%} | "
        f"{f['architectures_p95']:>6.0f} {f['search_steps_p95']:>7.0f} {f['steps_mean']:>7.0f} "
        f"{f['confirm_steps_mean']:>7.0f} | {f['out_of_memory']:>5} {f['broken_plans']:>6} {f['missing_plans']:>7}"
        for name, f in figures.items()
    ]
    return "\n".join([head, under, "-" * len(head), *rows])


def run(truths: list[Truth], names: list[str], every: dict[str, int]) -> dict[str, dict[str, Any]]:
    """The figures of every method; a method that does not exist yet is named and left out."""
    figures = {}
    for name in names:
        judged = []
        try:
            for number, truth in enumerate(truths):
                if number % every.get(name, 1) == 0:
                    judged.append(judge(truth, METHODS[name]))
                    _tell(f"{name} {number + 1}/{len(truths)}")
        except NotImplementedError:
            print(f"{name}: not built yet")
            continue
        figures[name] = summarise(judged)
    _tell("")
    return figures


def _tell(text: str) -> None:
    """Show progress, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r{text:<40}", end="", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return 0, or 1 if a target is missed (never with `--quick`, which does not judge)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, prints without judging")
    parser.add_argument("--scenarios", type=int, help=f"how many (default {N_SCENARIOS}, quick {N_QUICK})")
    parser.add_argument("--only", help="methods, separated by commas, of " + ", ".join(METHODS))
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args(arguments)
    names = options.only.split(",") if options.only else list(QUICK_METHODS if options.quick else METHODS)
    unknown = set(names) - set(METHODS)
    if unknown:
        parser.error(f"--only: no method is called {', '.join(sorted(unknown))}")
    logging.getLogger("compass").setLevel(logging.CRITICAL)  # what happened is in the figures
    warnings.filterwarnings("ignore", category=UserWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", module="optuna")
    n = options.scenarios or (N_QUICK if options.quick else N_SCENARIOS)
    scenarios = make_scenarios(n, seed=options.seed)
    truths = []
    for scenario in scenarios:
        truths.append(tell_truth(scenario))
        _tell(f"oracle {len(truths)}/{n}")
    binds = Counter(verdict.limited_by for truth in truths for verdict in truth.verdicts.values())
    print(f"{n} scenarios; the oracle's plans are limited by: " + ", ".join(f"{k} {v}" for k, v in binds.most_common()))
    figures = run(truths, names, {} if options.quick else SLOW)
    print(table(figures))
    checks = check(figures) if "ours" in figures and not options.quick else {}
    for name, passed in checks.items():
        print(f"{'pass' if passed else 'FAIL'}  {name}")
    print(json.dumps({"benchmark": "search", "scenarios": n, "quick": options.quick, "seed": options.seed,
                      "limited_by": dict(binds), "methods": figures, "targets": checks}))  # fmt: skip
    return 1 if checks and not all(checks.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
