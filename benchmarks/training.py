"""The gain of a plan in training: `python -m benchmarks.training [--quick]`.

Real geometry with real spread (`real_crops`, log-normal radii) is split, scanned, and planned by `compass optimize` under a
memory limit. Then the same model trains on the same training set in five ways, each in its own process, several times in
turn. Each run trains for one epoch to warm up and is timed over the next whole epoch, because batches of such a spread
differ:

- `lightning`: Lightning's defaults in the environment as found, with the most graphs whose worst batch fits the limit
- `passive`: the same, with threads that sleep while they wait for each other (`OMP_WAIT_POLICY`)
- `runtime`: the same under all runtime settings of the plan
- `fixed`: `compass train` with the plan's batch size, if the plan recommends another way
- `plan`: `compass train` as the plan recommends

The ratio of the last to the first is the gain of the plan; the steps between show its sources. Threads that spin while they
wait cost little on idle cores and very much beside other work, so the ratio to `passive` is reported too. Prints a table,
the target, and one JSON object on the last line; writes nothing else. `--quick` uses a synthetic plan of a small model.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.real_crops import write_crops
from compass.batching.packing import Limits
from compass.config_files import load_config
from compass.data.graphs.graph_packing import pack_graphs
from compass.data.scan.catalogue import Catalogue
from compass.data.scan.scan import scan_source
from compass.data.splits.splits import split_dataset
from compass.device import available_cores
from compass.optimizer import Request, optimize
from compass.optimizer_config import OptimizerConfig
from compass.records import (
    Affine,
    BytesLaw,
    Certificate,
    Configuration,
    Fingerprint,
    Knobs,
    Load,
    Measured,
    Predicted,
    RuntimeSettings,
    Stage,
    StagePlan,
    StepTime,
    Waiting,
)
from compass.records.training import RESULTS
from compass.search.space import variants
from compass.training.prepare import TrainRequest, prepare, process_environment
from compass.training.results import Results
from compass.training.run_spec import Amount, RunSpec, write_run_spec
from compass.units import GIB, MIB

TARGET = 1.5
MEDIAN_ANGSTROM, SIGMA = 8.5, 0.25
"""Of the radii: 20 to 1,000 atoms, half of them within 110 to 220."""
N_MEANT = 19_000
"""Complexes that the crops stand for: for so few as they are, no model would be small enough to be a prototype."""
WAYS = ("lightning", "passive", "runtime", "fixed", "plan")


@dataclass(frozen=True)
class Effort:
    """How much is done."""

    n_complexes: int
    limit_bytes: int
    repeats: int
    stage: Stage = "prototyping"


FULL = Effort(n_complexes=600, limit_bytes=3 * GIB // 2, repeats=4)
QUICK = Effort(n_complexes=24, limit_bytes=GIB, repeats=1)


def main(*, quick: bool) -> None:
    logging.getLogger("compass").setLevel(logging.ERROR)
    effort = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as name:
        order = made_up_order(Path(name), effort) if quick else planned_order(Path(name), effort)
        runs = Runs(order, Path(name))
        ways = [way for way in WAYS if way != "fixed" or order.batching != "batch_size"]
        found: dict[str, list[float]] = {way: [] for way in ways}
        for turn in range(effort.repeats):
            for way in ways:  # in turn, so that whatever else the machine does is met by all
                found[way].append(runs.graphs_per_s(way, turn))
    figures = summed_up(found, order.plan.runtime.waiting) | about(runs) | {"effort": asdict(effort)}
    show(figures, judged=not quick)
    print(json.dumps(figures))


# ---------------------------------------------------------------------------------------------------- data and plans


def data_config(folder: Path, effort: Effort) -> OptimizerConfig:
    """The crops, scanned."""
    crops = folder / "crops"
    crops.mkdir()
    radii = np.random.default_rng(0).lognormal(np.log(MEDIAN_ANGSTROM), SIGMA, effort.n_complexes)
    manifest = write_crops(crops, np.clip(radii, 5.0, 16.0))
    settings = ["dataset.pocket_radius=null", f"dataset.path={manifest}"]
    catalogue = scan_source(manifest, load_config(None, settings), folder / "cache")
    return load_config(None, [*settings, f"dataset.catalogue={catalogue}"])


def planned_order(folder: Path, effort: Effort) -> RunSpec:
    """The stage's plan for this machine, as `compass optimize` finds it, and the order that `compass train` makes of it."""
    config = data_config(folder, effort)
    request = Request(
        config=config, stages=(effort.stage,), memory_limit_bytes=effort.limit_bytes, dataset_size=N_MEANT, out=folder / "profile.json",
        cache=folder / "cache",
    )  # fmt: skip
    profile = optimize(request)
    return prepare(
        TrainRequest(profile=profile, stage=effort.stage, config=config, folder=folder / "run", amount=Amount(cycles=2))
    )


def made_up_order(folder: Path, effort: Effort) -> RunSpec:
    """A small model and a batch size without a certificate."""
    config = data_config(folder, effort)
    pack_graphs(config)
    load = Load(graphs=4, sizes=(("nodes", 800.0), ("edges", 16_000.0)))
    knobs = Knobs(layers=2, channels=16, variant=variants(config.space, config.stages.prototyping)[0])
    rates = (("nodes", 0.0), ("edges", 8_000.0))
    law = BytesLaw(segments=(("step", Affine(base=0.0, per_unit=rates)),), baseline_bytes=400 * MIB)
    step = StepTime(median_s=0.1, low_s=0.1, high_s=0.1, n_steps=1)
    plan = StagePlan(
        stage=effort.stage, accumulate=1, runtime=RuntimeSettings(threads=available_cores()), bytes_law=law,
        limited_by="memory", why="",
        choice=Configuration(knobs=knobs, capacity=18_466, batch_size=4, load=load),
        predicted=Predicted(live_bytes=1, footprint_bound_bytes=1, step_s=0.1, cycle_s=45, throughput=40),
        measured=Measured(step=step, cycle_s=45, throughput=40, live_bytes=1, footprint_bytes=1),
        certificate=Certificate(
            ceiling_bytes=effort.limit_bytes, batches=(), worst=load, footprint_bound_bytes=1, n_steps=0, enforced=False
        ),
    )  # fmt: skip
    return RunSpec(
        plan=plan, workload="visnet", config=config, budget_bytes=effort.limit_bytes, batching="batch_size",
        fingerprint=Fingerprint(device="cpu", driver="", torch="", versions=(), workload=""), ceiling=False, device="cpu",
        amount=Amount(cycles=2),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- the runs


class Runs:
    """One model on one training set, in all five ways."""

    def __init__(self, order: RunSpec, folder: Path) -> None:
        self.order, self._folder = order, folder
        config = order.config
        catalogue = Catalogue.open(Path(config.dataset.catalogue))
        self.ids = split_dataset(catalogue, config.training.split, config.seed).train
        self.sizes = {row.id: row.sizes for row in catalogue.usable}
        self.safe = self._safe_batch()

    def graphs_per_s(self, way: str, turn: int) -> float:
        """Graphs per second of one run; for `compass train`, without the time for evaluations and checkpoints."""
        if way in {"lightning", "passive", "runtime"}:
            plain = dict(os.environ) | ({"OMP_WAIT_POLICY": "passive"} if way == "passive" else {})
            return self._lightning(process_environment(self.order) if way == "runtime" else plain)
        order = self.order.model_copy(update={"batching": "batch_size"}) if way == "fixed" else self.order
        return self._compass(order, self._folder / f"{way}-{turn}")

    def _compass(self, order: RunSpec, folder: Path) -> float:
        plan = order.plan
        budget = plan.batch_budget if order.batching == "batch_budget" else None
        n_graphs = budget.mean_graphs if budget else plan.choice.batch_size
        config = order.config.model_copy(update={"cycle_batches": math.ceil(len(self.ids) / n_graphs)})
        order = order.model_copy(update={"config": config})
        write_run_spec(order, folder)
        self._run(["-m", "compass", "train-run", str(folder)], process_environment(order))
        _, timed = Results.model_validate_json((folder / RESULTS).read_text()).cycles
        return timed.n_graphs / timed.measured_s

    def _lightning(self, env: Mapping[str, str]) -> float:
        order, n_batches = self.order, math.ceil(len(self.ids) / self.safe)
        task = {
            "config": order.config.model_dump(mode="json"), "workload": order.workload,
            "knobs": order.plan.choice.knobs.model_dump(mode="json"), "ids": self.ids, "batch_size": self.safe,
            "n_warm": n_batches, "n_batches": n_batches,
        }  # fmt: skip
        told = self._run(["-m", "benchmarks.plain_lightning"], env, json.dumps(task))
        return float(json.loads(told.splitlines()[-1])["graphs_per_s"])

    @staticmethod
    def _run(arguments: list[str], env: Mapping[str, str], text: str | None = None) -> str:
        done = subprocess.run(
            [sys.executable, *arguments], env=dict(env), input=text, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(arguments)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done.stdout

    def _safe_batch(self) -> int:
        """The most graphs whose worst batch fits the limit, by the plan's own law, which a user without a plan does not have."""
        sizes = np.array([[size for _, size in self.sizes[name]] for name in self.ids])
        plan = self.order.plan
        shares = Limits(plan.bytes_law, plan.certificate.ceiling_bytes).shares(sizes)
        n_fitting = [int(np.searchsorted(np.cumsum(np.sort(row)[::-1]), 1.0, side="right")) for row in shares]
        return max(1, min(*n_fitting, len(self.ids)))


# ---------------------------------------------------------------------------------------------------------- the figures


def summed_up(found: Mapping[str, list[float]], waiting: Waiting) -> dict[str, Any]:
    """Medians, and the factors of the ratio: the plain way whose threads wait as in the plan comes next to it."""
    rate = {way: statistics.median(values) for way, values in found.items()}
    rate.setdefault("fixed", rate["plan"])
    alike = rate["passive"] if waiting == "sleep" else rate["lightning"]
    turns = [after / before for before, after in zip(found[WAYS[0]], found[WAYS[-1]], strict=True)]
    return {
        "graphs_per_s": {way: [round(value, 2) for value in values] for way, values in found.items()},
        "ratio": round(rate["plan"] / rate["lightning"], 3),
        "ratio_low": round(min(turns), 3),
        "ratio_high": round(max(turns), 3),
        "ratio_without_waiting": round(rate["plan"] / rate["passive"], 3),
        "from_waiting": round(alike / rate["lightning"], 3),
        "from_allocator": round(rate["runtime"] / alike, 3),
        "from_trainer_and_batch_size": round(rate["fixed"] / rate["runtime"], 3),
        "from_batching": round(rate["plan"] / rate["fixed"], 3),
    }


def about(runs: Runs) -> dict[str, Any]:
    """Facts about the trained model and data."""
    plan, nodes = runs.order.plan, [dict(runs.sizes[name])["nodes"] for name in runs.ids]
    return {
        "model": str(plan.choice.knobs),
        "parameters": plan.choice.capacity,
        "n_train": len(runs.ids),
        "atoms": {str(q): float(np.quantile(nodes, q)) for q in (0.05, 0.5, 0.95, 1.0)},
        "safe_batch": runs.safe,
        "plan_batch": plan.choice.batch_size,
        "plan_batching": runs.order.batching,
        "plan_mean_graphs": plan.batch_budget.mean_graphs if plan.batch_budget else None,
        "threads": plan.runtime.threads,
        "waiting": plan.runtime.waiting,
        "allocator": plan.runtime.allocator,
        "loader_workers": runs.order.loader_workers,
    }


def show(figures: Mapping[str, Any], *, judged: bool) -> None:
    print(f"{figures['model']}, {figures['parameters']:,} parameters, {figures['n_train']} complexes")
    print(f"batches: {figures['safe_batch']} graphs are safe, {figures['plan_batch']} in the plan, which recommends "
          f"{figures['plan_batching']}")  # fmt: skip
    for way, values in figures["graphs_per_s"].items():
        print(f"{way:<10} {statistics.median(values):8.1f} graphs/s   ({min(values):.1f} to {max(values):.1f})")
    print(f"ratio {figures['ratio']:.2f} ({figures['ratio_low']:.2f} to {figures['ratio_high']:.2f}), "
          f"{figures['ratio_without_waiting']:.2f} to threads that sleep while they wait")  # fmt: skip
    print(f"  = waiting {figures['from_waiting']:.2f} × allocator {figures['from_allocator']:.2f} × trainer and batch size "
          f"{figures['from_trainer_and_batch_size']:.2f} × batching {figures['from_batching']:.2f}")  # fmt: skip
    if judged:
        print(
            f"{'reached' if figures['ratio'] >= TARGET else 'missed':<8} at least {TARGET} times Lightning's defaults"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a made-up plan of a small model, printed without judging")
    main(quick=parser.parse_args().quick)
