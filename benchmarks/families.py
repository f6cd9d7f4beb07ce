"""Prediction errors of every family and example on this machine's CPU: `python -m benchmarks.families [--quick]`.

Each workload is calibrated as by `compass optimize`, three times, because all predictions of one calibration share the pace
of the machine at that time. Each time it is then probed at knobs and batches outside the calibration: random depths and
widths, with and without activation checkpointing, on the family's own samples. Batches range from one sample to the limit
of a step of 3 s or one GiB of live bytes.

A time is the mean of two visits, before and after the memory probe; the difference between the two visits is reported too.
Prints the errors of live bytes and of step time; the last line is JSON. An example whose packages are not installed is
named and left out.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from compass.cost.models import CostModels
from compass.planning.calibration import calibrate
from compass.planning.experiment import Experiment
from compass.planning.request import Request
from compass.planning.session import local_runner, open_experiment, wanted_variants
from compass.probe.requests import micro, timing_probe
from compass.records import Batch, Knobs, Load, Outcome

SEED = 11
EXAMPLES = Path(__file__).parents[1] / "examples"
SOURCES = {
    "visnet": ("visnet", None),
    "schnet": ("schnet", None),
    "dimenet++": ("dimenet++", None),
    "gps": ("gps", None),
    "transformer": (f"{EXAMPLES}/transformer/workload.py:Transformer", None),
    "chemprop": (f"{EXAMPLES}/chemprop_smiles.py:Chemprop", "chemprop"),
    "mace": (f"{EXAMPLES}/mace_molecules.py:Mace", "mace"),
}
"""Name → workload, and the package it needs beyond Compass's own."""
DATASET_SIZE = 20_000
"""That the samples stand for: of so few, no batch would be large enough to time."""


class Effort(NamedTuple):
    """How much is measured of each."""

    n_calibrations: int
    n_memory: int
    """Points of each calibration."""
    n_time: int


FULL, QUICK = Effort(3, 14, 5), Effort(1, 3, 2)
LARGEST_BYTES = 1024**3
SLOWEST_S = 3.0
"""Of a held-out point: larger ones only take longer."""


def points(experiment: Experiment, rng: random.Random) -> Iterator[tuple[Knobs, Batch]]:
    """Random models outside the calibration, on random samples of the workload; as many small batches as large ones."""
    probed = {(spec.knobs.layers, spec.knobs.channels) for spec, _ in experiment.runner.probes}
    space, known = experiment.config.space, experiment.known()
    kinds = wanted_variants(experiment.config)
    samples = dict(experiment.description.samples)
    low, high = space.layers[0], min(space.layers[1], 8)
    widths = range(space.channels[0], min(space.channels[1], 192) + 1, space.channel_step)

    def suits(knobs: Knobs, load: Load) -> bool:
        small = known.costs.bytes_law(knobs, "fast").live(load) < LARGEST_BYTES
        return bool(small and known.step_s(knobs, load) < SLOWEST_S)

    def most(knobs: Knobs) -> int:
        return known.most_graphs(lambda n: suits(knobs, experiment.sample_loads.typical_load(n)))

    while True:
        layers, channels = rng.randint(low, high), rng.choice(widths)
        knobs = Knobs(layers=layers, channels=channels, variant=rng.choice(kinds))
        if (layers, channels) in probed or (largest := most(knobs)) == 0:
            continue
        chosen = Counter(rng.choices(sorted(samples), k=round(largest ** rng.random())))
        batch = Batch(members=tuple(chosen.items()))
        if suits(knobs, batch.load(samples)):
            yield knobs, batch


class Found(NamedTuple):
    """Relative errors of one calibration, or of several together."""

    memory: list[float]
    time: list[float]
    visits: list[float]
    margins: list[float]
    n_probes: list[int]


def errors_of(source: str, effort: Effort) -> dict[str, Any]:
    """Relative errors of a workload on held-out points."""
    rng = random.Random(SEED)
    each = [errors_of_one(source, effort, rng) for _ in range(effort.n_calibrations)]
    found = Found(*(list(chain.from_iterable(lists)) for lists in zip(*each, strict=True)))
    return {
        "margin": max(found.margins),
        "n_calibration": found.n_probes,
        "live": summary(found.memory),
        "time": summary(found.time),
        "time, each calibration": [round(float(np.median(one.time)), 4) for one in each],
        "one visit by the other": summary(found.visits),
    }


def errors_of_one(source: str, effort: Effort, rng: random.Random) -> Found:
    """The same for one calibration."""
    with ExitStack() as stack:
        cache = Path(stack.enter_context(TemporaryDirectory()))
        request = Request(workload=source, cache=cache, dataset_size=DATASET_SIZE)
        experiment, prober = stack.enter_context(open_experiment(request, None))
        runner = stack.enter_context(closing(local_runner(request, experiment.settings)))
        calibrate(experiment, prober, wanted_variants(experiment.config))
        costs, rules, runtime = experiment.costs(), experiment.config.probe, experiment.runtime("fast")
        held_out = list(islice(points(experiment, rng), max(effort.n_memory, effort.n_time)))
        timed = [
            timing_probe(rules, knobs, batch, runtime, on_cpu=experiment.on_cpu)
            for knobs, batch in held_out[: effort.n_time]
        ]
        visits = [[runner.probe(spec) for spec in timed]]
        memory = []
        for knobs, batch in held_out[: effort.n_memory]:
            [spec] = micro(rules, knobs.variant, [((knobs.layers, knobs.channels), batch)], runtime, n_steps=2)
            memory.append(error_of_memory(experiment, spec.knobs, runner.probe(spec)))
            if abs(memory[-1]) > 0.01:
                print(f"  {knobs} on {batch.load(dict(experiment.description.samples))}: {memory[-1]:+.2%}", flush=True)
        visits.append([runner.probe(spec) for spec in timed])
        took_s = np.array([[one.step.median_s if one.step else np.nan for one in visit] for visit in visits])
        predicted_s = [predicted_step_s(costs, spec.knobs, one) for spec, one in zip(timed, visits[0], strict=True)]
        return Found(
            memory=memory,
            time=list(predicted_s / np.sqrt(took_s[0] * took_s[1]) - 1),
            visits=list(took_s[0] / took_s[1] - 1),
            margins=[round(max(costs.memory.margins.values()), 4)],
            n_probes=[len(experiment.runner.probes)],
        )


def error_of_memory(experiment: Experiment, knobs: Knobs, outcome: Outcome) -> float:
    if not outcome.ok:
        raise RuntimeError(f"{knobs}: {outcome.status}: {outcome.detail}")
    assert outcome.load is not None and outcome.live_bytes  # noqa: S101, PT018 - it was profiled
    return float(experiment.costs().bytes_law(knobs, "fast").live(outcome.load) / outcome.live_bytes - 1)


def predicted_step_s(costs: CostModels, knobs: Knobs, outcome: Outcome) -> float:
    sizes = [size for _, size in outcome.load.sizes] if outcome.load else []
    return float(costs.step_s(knobs, outcome.parameters or 0, np.array([sizes]))[0])


def summary(errors: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    size = np.abs(errors)
    return {
        "n": len(errors),
        "median": round(float(np.median(size)), 5),
        "p99": round(float(np.quantile(size, 0.99)), 5),
        "bias": round(float(np.median(errors)), 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a few points each, not judged")
    parser.add_argument("--only", nargs="*", default=list(SOURCES), choices=SOURCES)
    asked = parser.parse_args()
    found: dict[str, Any] = {}
    for name in asked.only:
        source, package = SOURCES[name]
        if package is not None and find_spec(package) is None:
            print(f"{name}: not installed", flush=True)
            continue
        found[name] = errors_of(source, QUICK if asked.quick else FULL)
        print(f"{name}: {found[name]}", flush=True)
    targets = {
        "live median <= 1 %": all(each["live"]["median"] <= 0.01 for each in found.values()),
        "live P99 <= 3 %": all(each["live"]["p99"] <= 0.03 for each in found.values()),
        "time median <= 6 %": all(each["time"]["median"] <= 0.06 for each in found.values()),
    }
    if not asked.quick:
        for target, met in targets.items():
            print("pass" if met else "FAIL", target)
    print(json.dumps({"families": found, **({} if asked.quick else {"targets": targets})}))


if __name__ == "__main__":
    main()
