"""Figures over many scenarios: a table by kind, totals, and the targets."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.foreign.judge import JudgedScenario
from benchmarks.foreign.kinds import KINDS
from benchmarks.foreign.oracle import TIMED

Figures = dict[str, Any]


def summarise(judged: Sequence[JudgedScenario]) -> Figures:
    """All figures of these scenarios, as shares; None where there is nothing to count."""
    figures: Figures = {"n": len(judged)}
    for stage in TIMED:
        regrets = [one.regret[stage] for one in judged if stage in one.regret]
        figures[f"{stage}_regret_mean"] = mean(regrets)
        figures[f"{stage}_regret_p95"] = quantile(regrets, 0.95)
        figures[f"{stage}_regret_worst"] = max(regrets, default=None)
    capacity = [one.capacity_short for one in judged if one.capacity_short is not None]
    throughput = [one.throughput_short for one in judged if one.throughput_short is not None]
    figures["capacity_short_mean"] = mean(capacity)
    figures["capacity_short_worst"] = max(capacity, default=None)
    figures["throughput_short_mean"] = mean(throughput)
    figures["missing_plans"] = sum(len(one.missing) for one in judged)
    figures["over_budget"] = sum(len(one.over_budget) for one in judged)
    figures["beyond_law"] = sum(len(one.beyond_law) for one in judged)
    figures["step_intervals_held"] = mean([held for one in judged for held in one.step_held])
    figures["bytes_bounds_held"] = mean([held for one in judged for held in one.bytes_held])
    figures["steps_p95"] = quantile([one.n_steps for one in judged if not one.on_cpu], 0.95)
    figures["steps_p95_cpu"] = quantile([one.n_steps for one in judged if one.on_cpu], 0.95)
    figures["out_of_memory"] = sum(one.n_out_of_memory for one in judged)
    figures["warned"] = mean([one.warned for one in judged])
    return figures


def targets(fair: Figures) -> dict[str, bool | None]:
    """Whether the fair kinds reach each target; None where there is nothing to count."""
    most = {
        "prototyping_regret_mean": 0.0025,
        "prototyping_regret_p95": 0.015,
        "prototyping_regret_worst": 0.05,
        "validation_regret_mean": 0.0025,
        "validation_regret_p95": 0.015,
        "validation_regret_worst": 0.05,
        "capacity_short_mean": 0.003,
        "capacity_short_worst": 0.05,
        "throughput_short_mean": 0.01,
        "missing_plans": 0,
        "over_budget": 0,
        "beyond_law": 0,
        "steps_p95": 40,
        "steps_p95_cpu": 120,
    }
    found = {
        f"{name} <= {limit:g}": None if fair[name] is None else fair[name] <= limit for name, limit in most.items()
    }
    held = fair["step_intervals_held"]
    return {**found, "step_intervals_held 0.87 to 0.93": None if held is None else 0.87 <= held <= 0.93}


def mean(values: Sequence[float]) -> float | None:
    """The mean; None without values."""
    return round(float(np.mean(values)), 5) if values else None


def quantile(values: Sequence[float], share: float) -> float | None:
    """The value that this share does not exceed; None without values."""
    return round(float(np.quantile(values, share)), 5) if values else None


HEAD = (
    f"{'kind':<24}{'n':>4} | {'prototyping regret':>20} | {'validation regret':>20} | {'production short of':>22} | "
    f"{'plans':>16} | {'held':>9} | {'steps':>9} |\n"
    f"{'':<28} | {'mean':>6} {'P95':>6} {'worst':>6} | {'mean':>6} {'P95':>6} {'worst':>6} | {'capacity':>14} {'speed':>7} | "
    f"{'miss':>4} {'over':>5} {'law':>5} | {'step':>4} {'byte':>4} | {'dev':>4} {'CPU':>4} | warned"
)


def table(judged: Sequence[JudgedScenario]) -> str:
    """A row for each kind, and one for each group."""
    rows = [HEAD, "-" * 150]
    for fair in (True, False):
        group = [one for one in judged if KINDS[one.kind].fair == fair]
        names = [name for name, kind in KINDS.items() if kind.fair == fair]
        rows += [row(name, summarise([one for one in group if one.kind == name])) for name in names]
        if group:
            rows.append(row(f"ALL {'FAIR' if fair else 'HARD'}", summarise(group)))
    return "\n".join(line for line in rows if line)


def row(name: str, figures: Figures) -> str:
    """One line; empty without scenarios."""
    if not figures["n"]:
        return ""
    regrets = [
        " ".join(per_cent(figures[f"{stage}_regret_{what}"]) for what in ("mean", "p95", "worst")) for stage in TIMED
    ]
    short = [per_cent(figures[f"capacity_short_{what}"], 7) for what in ("mean", "worst")]
    held = [per_cent(figures[name], 4, 0) for name in ("step_intervals_held", "bytes_bounds_held")]
    steps = [f"{math.nan if figures[name] is None else figures[name]:>4.0f}" for name in ("steps_p95", "steps_p95_cpu")]
    return (
        f"{name:<24}{figures['n']:>4} | {regrets[0]} | {regrets[1]} | {' '.join(short)[1:]} "
        f"{per_cent(figures['throughput_short_mean'], 7)} | {figures['missing_plans']:>4} {figures['over_budget']:>5} "
        f"{figures['beyond_law']:>5} | {' '.join(held)} | {' '.join(steps)} | {per_cent(figures['warned'], 5, 0)}"
    )


def per_cent(value: float | None, width: int = 6, digits: int = 2) -> str:
    """A share in per cent, without the sign."""
    return f"{'-':>{width}}" if value is None else f"{100 * value:>{width}.{digits}f}"
