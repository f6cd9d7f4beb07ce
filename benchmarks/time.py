"""Errors of the step-time predictions on this machine's device: `python -m benchmarks.time [--quick]`.

Calibrates as the optimizer does and freezes the fitted models. Then it times architectures that were never probed, inside
and outside the space, with and without activation checkpointing. Loads are copies of the sample and of crops of the same
complex at other radii, from one graph up to a step of 1.5 s. The truth is the median of three visits some minutes apart,
each the median of at least four warm steps in the lasting worker. The calibration is repeated after every few
architectures, because a single one would be judged by the minute in which it was made.

After the first visit, each architecture is timed once as in a search, and its other loads are predicted again. The
difference between the first and the last visit is reported too, because no prediction can be expected to be closer. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compass.cost.models import CostModels
from compass.optimizer_config import OptimizerConfig
from compass.planning.calibration import calibrate, timing_spec
from compass.planning.experiment import Experiment
from compass.planning.request import Request
from compass.planning.session import local_runner, open_experiment, wanted_variants
from compass.probe.local import LocalRunner
from compass.probe.recorded import Recorded
from compass.records import Batch, Knobs, Load, Outcome, ProbeSpec, Variant
from compass.search.knowledge import sizes_row
from compass.units import GIB

SEED = 11
LIMIT_BYTES = 8 * GIB
LONGEST_STEP_S = 1.5
"""Predicted: larger loads only take longer."""
LAYERS, CHANNELS = range(2, 9), range(32, 193, 16)
RADII = (5.0, 6.5, 10.0)
"""Å of the other crops; the sample itself has the configured one."""
STEPS = (6, 25)
"""Fewest and most steps of a truth, two of them warm: on until they agree within `SETTLE_SHARE`."""
PATIENCE_S = 3.0
"""Of steps beyond the fewest."""
SETTLE_SHARE = 0.02
TRIES = 50
"""At different loads for one architecture: large models have few that are short enough."""
CONFIDENCE, QUANTILE = 0.9, 1.6449
"""Of the interval that is checked, and how many standard deviations it reaches."""
AS_VISITS = 1.3
"""No timing can tell the truth better than two visits to the same steps agree."""
REJECTED_BELOW = 0.05
"""p-value of the binomial test."""


@dataclass(frozen=True)
class Effort:
    """How much is measured."""

    n_architectures: int
    n_loads: int
    """Of each architecture."""
    n_calibrations: int
    """Each predicts its share of the architectures."""
    n_visits: int
    """Odd: a minute in which the machine is faster or slower than usual spoils one of them, which the median leaves out."""
    radii: tuple[float, ...]
    n_variants: int | None = None
    """None: all."""


FULL, QUICK = Effort(36, 3, 4, 3, RADII), Effort(1, 2, 1, 1, (), n_variants=1)


class Source(NamedTuple):
    """A sample, and the lasting worker that holds it."""

    machine: LocalRunner
    sample: str
    load: Load


@dataclass(frozen=True)
class Point:
    """One load of one architecture: what was predicted, before and after the architecture was timed, and the truth."""

    knobs: Knobs
    load: Load
    in_space: bool
    is_crop: bool
    visits_s: tuple[float, ...]
    """The same steps, timed again and again."""
    predicted_s: float
    spread: float
    after_s: float | None
    """None where the architecture could not be timed, or was timed on this very load."""
    after_spread: float | None

    @property
    def truth_s(self) -> float:
        """Median of the visits."""
        return statistics.median(self.visits_s)


def open_benchmark(effort: Effort, cache: Path, stack: ExitStack) -> tuple[Experiment, list[Source]]:
    """A calibrated experiment and the sources of loads, its own sample first."""
    request = Request(config=OptimizerConfig(), memory_limit_bytes=LIMIT_BYTES, cache=cache)
    experiment, prober = stack.enter_context(open_experiment(request, None))
    machine = local_runner(request, experiment.settings)
    stack.callback(machine.close)
    sources = [Source(machine, *experiment.description.samples[0])]
    calibrate(experiment, prober, wanted_variants(request.config)[: effort.n_variants])
    for radius in effort.radii:
        bench = request.config.test_bench.model_copy(update={"pocket_radius": radius})
        config = request.config.model_copy(update={"test_bench": bench})
        crop = local_runner(replace(request, config=config), experiment.settings)
        stack.callback(crop.close)
        sources.append(Source(crop, *crop.describe().samples[0]))
    return experiment, sources


def never_probed(experiment: Experiment, kinds: Sequence[Variant], n: int, rng: random.Random) -> list[Knobs]:
    """Architectures never probed in any variant, from inside and outside the space in turn."""
    probed = {(spec.knobs.layers, spec.knobs.channels) for spec, _ in experiment.runner.probes}
    space = {(knobs.layers, knobs.channels) for knobs in experiment.capacities}
    shapes = [(depth, width) for depth in LAYERS for width in CHANNELS if (depth, width) not in probed]
    rng.shuffle(shapes)
    pools = ([shape for shape in shapes if shape in space], [shape for shape in shapes if shape not in space])
    chosen = [(pools[i % 2][i // 2], kinds[i // 2 % len(kinds)]) for i in range(n)]
    return [Knobs(layers=depth, channels=width, variant=kind) for (depth, width), kind in chosen]


def time_steps(experiment: Experiment, source: Source, knobs: Knobs, n_graphs: int, expected_s: float) -> float:
    """Seconds of a step. The probe bypasses the experiment, which would learn from it."""
    spec = ProbeSpec(
        knobs=knobs,
        batches=(Batch(members=((source.sample, n_graphs),)),),
        min_steps=STEPS[0],
        max_steps=min(STEPS[1], STEPS[0] + int(PATIENCE_S / expected_s)),
        settle_share=SETTLE_SHARE,
        profile=False,
        timeout_s=300,
        runtime=experiment.runtime(experiment.calibrated_allocator),
    )
    outcome = source.machine.probe(spec)
    if outcome.step is None:
        raise RuntimeError(f"{knobs} on {n_graphs} × {source.load}: {outcome.status}: {outcome.detail}")
    return outcome.step.median_s


def after_one_probe(experiment: Experiment, machine: LocalRunner, knobs: Knobs) -> tuple[CostModels, Outcome | None]:
    """The models after the calibration and one timing of `knobs`, made as the search makes it; `experiment` learns nothing."""
    recorded = Recorded(machine, None, experiment.description.fingerprint.key)
    recorded.probes = list(experiment.runner.probes)
    own = replace(experiment, runner=recorded, _fitted=None)
    spec = timing_spec(own, knobs)
    outcome = None if spec is None else recorded.probe("search", spec).outcome
    return own.costs(), outcome


def loads_of(
    experiment: Experiment, costs: CostModels, sources: Sequence[Source], knobs: Knobs, n_loads: int, rng: random.Random
) -> list[tuple[Source, int]]:
    """(source, graphs): the sample and another crop in turn, low, middle and high in what time and memory allow."""
    law = costs.bytes_law(knobs, experiment.calibrated_allocator)
    known = experiment.known()

    def largest(source: Source) -> int:
        def suits(n: int) -> bool:
            fits = law.upper_footprint(source.load * n) <= experiment.budget_bytes
            return fits and known.step_s(knobs, source.load * n) <= LONGEST_STEP_S

        return max(1, known.most_graphs(suits))

    chosen: dict[tuple[Source, int], None] = {}
    for _ in range(TRIES):
        i = len(chosen)
        source = sources[0] if i % 2 == 0 else rng.choice(sources[1:] or sources)
        n_graphs = round(largest(source) ** ((i + rng.random()) / n_loads))
        if (source, n_graphs) in chosen:  # no room for a second size: another crop instead
            source = rng.choice(sources)
            n_graphs = rng.randint(1, largest(source))
        chosen[source, n_graphs] = None
        if len(chosen) == n_loads:
            break
    return list(chosen)


class Visited(NamedTuple):
    """One load of one architecture, and the times of its visits so far."""

    source: Source
    n_graphs: int
    point: Point


def first_visit(
    experiment: Experiment, sources: Sequence[Source], knobs: Knobs, capacity: int, picks: Sequence[tuple[Source, int]]
) -> list[Visited]:
    """Every load of one architecture, and its prediction after one timing."""
    costs = experiment.costs()
    predicted_s = [_predict(costs, knobs, capacity, source.load * n) for source, n in picks]
    first_s = [
        time_steps(experiment, source, knobs, n, before_s)
        for (source, n), before_s in zip(picks, predicted_s, strict=True)
    ]
    after, outcome = after_one_probe(experiment, sources[0].machine, knobs)
    is_told = outcome is not None and outcome.ok
    visited = []
    for (source, n), before_s, took_s in zip(picks, predicted_s, first_s, strict=True):
        load = source.load * n
        is_other = is_told and outcome is not None and outcome.load != load
        point = Point(
            knobs=knobs,
            load=load,
            in_space=knobs in experiment.capacities,
            is_crop=source is not sources[0],
            visits_s=(took_s,),
            predicted_s=before_s,
            spread=costs.spread_of_runs(knobs, capacity, sizes_row(load)),
            after_s=_predict(after, knobs, capacity, load) if is_other else None,
            after_spread=after.spread_of_runs(knobs, capacity, sizes_row(load)) if is_other else None,
        )
        visited.append(Visited(source, n, point))
    return visited


def visit_again(experiment: Experiment, visited: Visited) -> Visited:
    """Time the same load once more."""
    source, n_graphs, point = visited
    again_s = time_steps(experiment, source, point.knobs, n_graphs, point.predicted_s)
    return visited._replace(point=replace(point, visits_s=(*point.visits_s, again_s)))


def _predict(costs: CostModels, knobs: Knobs, capacity: int, load: Load) -> float:
    sizes = np.array([[size for _, size in load.sizes]])
    return float(costs.step_s(knobs, capacity, sizes)[0])


def _show(point: Point) -> None:
    error = point.predicted_s / point.truth_s - 1
    after = "" if point.after_s is None else f", {point.after_s / point.truth_s - 1:+.1%} after one timing"
    print(
        f"  {point.knobs} on {point.load}: {', '.join(f'{took_s:.3f}' for took_s in point.visits_s)} s, off by {error:+.1%}{after}; "
        f"interval ±{QUANTILE * point.spread:.1%}",
        flush=True,
    )


def errors(pairs: Iterable[tuple[float | None, float]]) -> dict[str, float]:
    """Relative errors of (predicted, true) pairs; pairs without a prediction are skipped."""
    ratios = np.array([predicted / truth for predicted, truth in pairs if predicted is not None])
    if not len(ratios):
        return {"n": 0}
    size = np.abs(ratios - 1)
    return {
        "n": len(ratios),
        "median": round(float(np.median(size)), 4),
        "p95": round(float(np.quantile(size, 0.95)), 4),
        "max": round(float(size.max()), 4),
        "bias": round(float(np.median(ratios)) - 1, 4),
    }


def coverage(triples: Iterable[tuple[float | None, float | None, float]]) -> dict[str, float]:
    """Share of (predicted, spread, true) with the truth inside the interval, and the p-value of the binomial test."""
    from scipy.stats import binomtest

    inside = [
        abs(math.log(truth / predicted)) <= QUANTILE * spread
        for predicted, spread, truth in triples
        if predicted is not None and spread is not None
    ]
    if not inside:
        return {"n": 0}
    test = binomtest(sum(inside), len(inside), CONFIDENCE)
    return {"n": len(inside), "share": round(sum(inside) / len(inside), 3), "p": round(float(test.pvalue), 4)}


def figures(points: Sequence[Point]) -> dict[str, Any]:
    """All reported figures.

    The errors of one architecture are correlated, which the binomial test ignores. So the test is reported twice: for
    all points, and for the first point of each architecture.
    """
    first = list({point.knobs: point for point in reversed(points)}.values())
    groups: dict[str, Callable[[Point], bool]] = {
        "plain": lambda point: not point.knobs.variant.checkpointing,
        "checkpointing": lambda point: point.knobs.variant.checkpointing,
        "in the space": lambda point: point.in_space,
        "beyond the space": lambda point: not point.in_space,
        "copies of the sample": lambda point: not point.is_crop,
        "copies of other crops": lambda point: point.is_crop,
    }
    return {
        "unprobed": errors((p.predicted_s, p.truth_s) for p in points),
        "by group": {
            name: errors((p.predicted_s, p.truth_s) for p in points if belongs(p)) for name, belongs in groups.items()
        },
        "coverage": coverage((p.predicted_s, p.spread, p.truth_s) for p in points),
        "coverage, one point an architecture": coverage((p.predicted_s, p.spread, p.truth_s) for p in first),
        "after one timing": errors((p.after_s, p.truth_s) for p in points),
        "coverage after one timing": coverage((p.after_s, p.after_spread, p.truth_s) for p in points),
        "first visit by the last": errors((p.visits_s[0], p.visits_s[-1]) for p in points),
    }


def judge(found: dict[str, Any]) -> dict[str, bool]:
    """The targets by name, and whether they are met."""
    return {
        "n >= 100": found["unprobed"]["n"] >= 100,
        "unprobed median <= 4 %": found["unprobed"]["median"] <= 0.04,
        "unprobed P95 <= 10 %": found["unprobed"]["p95"] <= 0.10,
        "coverage not rejected": found["coverage"]["p"] >= REJECTED_BELOW,
        f"after one timing, median <= {AS_VISITS} times the visits' own": found["after one timing"].get(
            "median", math.inf
        )
        <= AS_VISITS * found["first visit by the last"].get("median", 0.0),
    }


def run(effort: Effort) -> dict[str, Any]:
    """Calibrate, measure and summarise."""
    rng = random.Random(SEED)
    chosen: list[Knobs] = []
    points: list[Point] = []
    share = math.ceil(effort.n_architectures / effort.n_calibrations)
    for first in range(0, effort.n_architectures, share):
        with tempfile.TemporaryDirectory() as cache, ExitStack() as stack:
            experiment, sources = open_benchmark(effort, Path(cache), stack)
            chosen = chosen or never_probed(
                experiment, wanted_variants(experiment.config)[: effort.n_variants], effort.n_architectures, rng
            )
            mine = chosen[first : first + share]
            capacities = dict(sources[0].machine.describe(mine).parameters)
            visited = []
            for knobs in mine:
                picks = loads_of(experiment, experiment.costs(), sources, knobs, effort.n_loads, rng)
                visited += first_visit(experiment, sources, knobs, capacities[knobs], picks)
            for _ in range(effort.n_visits - 1):
                visited = [visit_again(experiment, each) for each in visited]
            for _, _, point in visited:
                _show(point)
                points.append(point)
    return figures(points)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few points, printed without judging")
    quick = parser.parse_args().quick
    found = run(QUICK if quick else FULL)
    for name, values in found.items():
        print(f"{name}: {values}")
    if not quick:
        found["targets"] = judge(found)
        for name, met in found["targets"].items():
            print("pass" if met else "FAIL", name)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
