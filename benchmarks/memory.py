"""Errors of the memory predictions on this machine's device: `python -m benchmarks.memory [--quick]`.

Calibrates each precision, with and without activation checkpointing, from the optimizer's micro-probes. Then it probes
configurations outside the calibration: up to 10 layers, up to 256 channels, 50 to 3,000 atoms. Prints the errors of live
bytes for each variant and the slack of the footprint bound in new processes; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from typing import Any

import numpy as np

from compass.cost.footprint import fit_footprint
from compass.cost.memory import MemoryModel, fit_memory
from compass.cost.observation import Probe
from compass.device import available_cores
from compass.optimizer_config import OptimizerConfig
from compass.probe.local import LocalRunner
from compass.probe.preload import is_offered, library_name
from compass.probe.requests import micro_probes, synthetic_batches
from compass.records import ALLOCATORS, Allocator, Batch, Knobs, Load, ProbeSpec, RuntimeSettings, Variant
from compass.units import GIB

SEED = 7
LARGEST_BYTES = int(1.5 * GIB)
"""Of a held-out point: larger ones only take longer."""
FRESH_AFTER = 20
"""Points after which a new worker takes over: the heap of one that had models of every size grew to 12 GB."""
FEATURES = ("nodes", "edges")


def variants(config: OptimizerConfig) -> list[Variant]:
    options = tuple(sorted(config.space.options.items()))
    return [
        Variant(precision=precision, checkpointing=checkpointing, options=options)
        for precision in ("fp32", "bf16")
        for checkpointing in (False, True)
    ]


def held_out(
    model: MemoryModel, kind: Variant, probed: set[tuple[int, int]], rng: random.Random
) -> Iterator[ProbeSpec]:
    """Random configurations and loads outside the calibration; synthetic graphs and copies of the sample in turn."""
    while True:
        layers, channels = rng.randint(2, 10), 16 * rng.randint(1, 16)
        if (layers, channels) in probed:
            continue
        nodes = round(50 * 60 ** rng.random())
        neighbours = rng.randint(
            8, min(32, nodes // 2 - 1)
        )  # beyond half of the atoms a made-up graph is too dense to train
        load = Load(graphs=1, sizes=(("nodes", nodes), ("edges", nodes * (neighbours + 1))))
        knobs = Knobs(layers=layers, channels=channels, variant=kind)
        if model.law(knobs).live(load) <= LARGEST_BYTES:
            yield spec_of(knobs, Batch(synthetic=load), "fast", n_steps=1)  # after one there are gradients and states


def spec_of(knobs: Knobs, batch: Batch, allocator: Allocator, *, fresh: bool = False, n_steps: int = 2) -> ProbeSpec:
    return ProbeSpec(
        knobs=knobs,
        batches=(batch,),
        min_steps=n_steps,
        max_steps=n_steps,
        fresh=fresh,
        timeout_s=600,
        runtime=RuntimeSettings(threads=available_cores(), allocator=allocator, library=library_name(allocator)),
    )


def run(runner: LocalRunner, spec: ProbeSpec) -> Probe:
    outcome = runner.probe(spec)
    if not outcome.ok:
        raise RuntimeError(f"{spec.knobs}: {outcome.status}: {outcome.detail}")
    return Probe(spec, outcome)


def live_errors(runner: LocalRunner, config: OptimizerConfig, kind: Variant, n_points: int) -> dict[str, Any]:
    """Errors of the prediction and of its upper bound on `n_points` held-out points of one variant."""
    runtime = RuntimeSettings(threads=available_cores())
    specs = list(
        micro_probes(config.probe, [kind], synthetic_batches(config.probe), runtime, n_steps=config.probe.micro_steps)
    )
    model = fit_memory(FEATURES, [run(runner, spec) for spec in specs], margin_floor=config.memory.live_margin)
    rng = random.Random(SEED)
    probed = {(spec.knobs.layers, spec.knobs.channels) for spec in specs}
    points = held_out(model, kind, probed, rng)
    errors, slack = [], []
    for n_done in range(n_points):
        if n_done % FRESH_AFTER == 0:
            runner.close()
        probe = run(runner, next(points))
        law, load, truth = model.law(probe.spec.knobs), probe.outcome.load, probe.outcome.live_bytes
        assert load is not None  # noqa: S101 - run() let only successes through
        assert truth is not None  # noqa: S101
        errors.append(law.live(load) / truth - 1)
        slack.append(law.upper_live(load) / truth - 1)
        if abs(errors[-1]) > 0.002:
            print(f"  {probe.spec.knobs} on {load}: {errors[-1]:+.3%}", flush=True)
    print(f"{kind}: {summary(errors, slack)}", flush=True)
    return {"errors": errors, "slack": slack, "n_micro_probes": len(specs)}


def summary(errors: list[float], slack: list[float]) -> dict[str, float]:
    size = np.abs(errors)
    return {
        "n": len(errors),
        "median": round(float(np.median(size)), 6),
        "p99": round(float(np.quantile(size, 0.99)), 6),
        "max": round(float(size.max()), 6),
        "bound_holds": float(np.mean(np.array(slack) >= 0)),
        "bound_slack_median": round(float(np.median(slack)), 5),
    }


def footprint_slack(runner: LocalRunner, config: OptimizerConfig, n_points: int) -> dict[str, Any]:
    """For each allocator, the excess of the footprint bound over the measured footprint of new processes."""
    rng = random.Random(SEED)
    description = runner.describe()
    (sample, load), *_ = description.samples
    report: dict[str, Any] = {}
    plain = [kind for kind in variants(config) if kind.precision == "fp32"]
    runtime = RuntimeSettings(threads=available_cores())
    batches = synthetic_batches(config.probe)
    specs = list(micro_probes(config.probe, plain, batches, runtime, n_steps=config.probe.micro_steps))
    # As when calibrating, the first is alone in its process, and tells what that holds before it trains.
    micro = [run(runner, spec.model_copy(update={"fresh": spec == specs[0]})) for spec in specs]
    baseline_bytes = micro[0].outcome.baseline_bytes or 0
    memory = fit_memory(FEATURES, micro, margin_floor=config.memory.live_margin)
    footprint = fit_footprint(config.memory, [], memory, description.hardware, baseline_bytes=baseline_bytes)
    on_cpu = description.hardware.on_host
    offered: list[Allocator] = [name for name in ALLOCATORS if is_offered(name) and name != "system"]
    allocators = offered if on_cpu else offered[:1]
    for allocator in allocators:
        slack = []
        for _ in range(n_points):
            knobs = Knobs(layers=rng.randint(2, 7), channels=16 * rng.randint(1, 8), variant=rng.choice(plain))
            n_graphs = max(1, int(rng.uniform(0.1, 1.5) * GIB / memory.law(knobs).live(load)))
            n_graphs = min(n_graphs, 60)
            batch = Batch(members=((sample, n_graphs),))
            probe = run(runner, spec_of(knobs, batch, allocator, fresh=True, n_steps=3))
            bound = footprint.complete(memory.law(knobs), knobs, allocator).upper_footprint(load * n_graphs)
            slack.append(bound / (probe.outcome.footprint_bytes or 1) - 1)
            if slack[-1] < 0:
                print(f"  {allocator}: {knobs}, {n_graphs} graphs: over its bound by {-slack[-1]:.2%}", flush=True)
        report[allocator] = {"n": n_points, "least": round(min(slack), 4), "median": round(float(np.median(slack)), 4)}
        print(f"footprint, {allocator}: {report[allocator]}", flush=True)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the points")
    quick = parser.parse_args().quick
    config = OptimizerConfig()
    runner = LocalRunner(config, RuntimeSettings(threads=available_cores()))
    try:
        found = {str(kind): live_errors(runner, config, kind, 8 if quick else 80) for kind in variants(config)}
        footprint = footprint_slack(runner, config, 2 if quick else 16)
    finally:
        runner.close()
    errors = [error for each in found.values() for error in each["errors"]]
    slack = [value for each in found.values() for value in each["slack"]]
    figures = summary(errors, slack)
    targets = {
        "live median <= 0.1 %": figures["median"] <= 0.001,
        "live P99 <= 1 %": figures["p99"] <= 0.01,
        "bound holds >= 99 %": figures["bound_holds"] >= 0.99,
        "bound <= 3 % above at the median": figures["bound_slack_median"] <= 0.03,
        "footprint never above its bound": all(each["least"] >= 0 for each in footprint.values()),
    }
    for name, met in targets.items():
        print("pass" if met else "FAIL", name)
    by_variant = {name: summary(each["errors"], each["slack"]) for name, each in found.items()}
    print(json.dumps({"live": figures, "by_variant": by_variant, "footprint": footprint, "targets": targets}))


if __name__ == "__main__":
    main()
