"""Does capacity help? Three models on the same real geometry: `python -m benchmarks.learning_curve [--quick]`.

The data are residues of real proteins in their surroundings (`real_crops`), split at random. Each model is trained with the
trainer's own step, schedule and loss, for the same number of updates and with several seeds. The best epoch in validation
is scored on the test set, beside two baselines: the mean, and a ridge regression on the ligand alone. Each run has its own
process, under the runtime settings of a plan.

Prints a table, and as its last line one JSON object; writes nothing else.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.real_crops import NOISE_PK, write_crops
from compass.config_files import load_config
from compass.data.graphs.graph_packing import pack_graphs
from compass.data.scan.catalogue import Catalogue
from compass.data.scan.scan import scan_source
from compass.data.splits.splits import split_dataset
from compass.optimizer_config import OptimizerConfig
from compass.probe.runtime import environment
from compass.records import Batch, Knobs, RuntimeSettings
from compass.search.space import variants
from compass.training.baselines import baselines
from compass.training.metrics import metrics_of
from compass.training.schedule import learning_rate, rate_factor

CAPACITIES = ((2, 16), (2, 32), (3, 64))
"""(layers, channels): for so little data prototyping plans about the first two, validation about the last."""
BATCH = 16
RADIUS_ANGSTROM = 4.5
RATE = 8e-3
"""At 64 graphs an update, for every capacity; large, because a few hundred updates have to do."""
N_LOOKS = 10
"""How often validation looks at a model."""


@dataclass(frozen=True)
class Effort:
    """How much is trained."""

    n_complexes: int
    n_train: tuple[int, ...]
    epochs: int
    """On the largest training set; smaller ones get as many updates."""
    seeds: int
    capacities: tuple[tuple[int, int], ...] = CAPACITIES


FULL = Effort(n_complexes=500, n_train=(300,), epochs=25, seeds=3)
QUICK = Effort(n_complexes=60, n_train=(40,), epochs=3, seeds=1, capacities=CAPACITIES[:2])


@dataclass(frozen=True)
class Task:
    """One training."""

    layers: int
    channels: int
    n_train: int
    n_updates: int
    seed: int


def main(*, quick: bool) -> None:
    effort = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as folder:
        config = make_data(Path(folder), effort)
        rows = []
        for task in tasks(effort):
            rows.append(run(task, config))
            print(json.dumps(rows[-1]), file=sys.stderr)
        beside = {n: judged_baselines(config, n) for n in effort.n_train}
    show(rows, beside, effort)
    print(json.dumps({"effort": asdict(effort), "noise_pk": NOISE_PK, "runs": rows, "baselines": beside}))


def show(rows: list[dict[str, Any]], beside: dict[int, dict[str, float | None]], effort: Effort) -> None:
    print("RMSE in pK: mean over the seeds (lowest to highest)")
    print(f"{'trained on':>10} {'model':>8} {'parameters':>10}   {'train':<20} {'validation':<20} {'test':<20}")
    for n_train in effort.n_train:
        for layers, channels in effort.capacities:
            runs = [
                row for row in rows if (row["n_train"], row["layers"], row["channels"]) == (n_train, layers, channels)
            ]
            cells = [[row[name] for row in runs] for name in ("train", "val", "test")]
            told = [f"{np.mean(cell):.2f} ({min(cell):.2f} to {max(cell):.2f})" for cell in cells]
            print(
                f"{n_train:>10} {f'{layers} × {channels}':>8} {runs[0]['parameters']:>10,}   "
                + " ".join(f"{cell:<20}" for cell in told)
            )
        for name, error in beside[n_train].items():
            print(f"{n_train:>10} {name:>8} {'':>10}   {'':<20} {'':<20} {error:.2f}")


def make_data(folder: Path, effort: Effort) -> OptimizerConfig:
    """The crops, scanned, their graphs built."""
    crops = folder / "crops"
    crops.mkdir()
    manifest = write_crops(crops, np.full(effort.n_complexes, RADIUS_ANGSTROM))
    settings = [
        "dataset.pocket_radius=null",
        "dataset.oversize_share=0",
        "training.split.val_share=0.15",
        "training.split.test_share=0.25",
        f"training.learning_rate={RATE}",
    ]
    catalogue = scan_source(manifest, load_config(None, settings), folder / "cache")
    config = load_config(None, [*settings, f"dataset.catalogue={catalogue}"])
    pack_graphs(config)
    return config


def tasks(effort: Effort) -> list[Task]:
    n_updates = effort.epochs * -(-max(effort.n_train) // BATCH)
    return [
        Task(layers, channels, n_train, n_updates, seed)
        for n_train in effort.n_train
        for layers, channels in effort.capacities
        for seed in range(effort.seeds)
    ]


def parts_of(config: OptimizerConfig, n_train: int) -> Any:
    """The split, its training set cut to `n_train` by the same order for every model."""
    found = split_dataset(Catalogue.open(Path(config.dataset.catalogue)), config.training.split, config.seed)
    chosen = np.random.default_rng(0).permutation(len(found.train))[:n_train]
    return found.model_copy(update={"train": tuple(sorted(found.train[i] for i in chosen))})


def judged_baselines(config: OptimizerConfig, n_train: int) -> dict[str, float | None]:
    catalogue, parts = Catalogue.open(Path(config.dataset.catalogue)), parts_of(config, n_train)
    labels = {row.id: row.label for row in catalogue.usable if row.label}
    return {
        name: metrics_of([found[id_] for id_ in parts.test], [labels[id_] for id_ in parts.test]).rmse
        for name, found in baselines(catalogue, parts).items()
    }


# -------------------------------------------------------------------------------------------------------- one training


def run(task: Task, config: OptimizerConfig) -> dict[str, Any]:
    """Train in a new process."""
    order = json.dumps({"task": asdict(task), "config": config.model_dump(mode="json")})
    command = [sys.executable, "-m", "benchmarks.learning_curve", "--one"]
    env = environment(RuntimeSettings(threads=1))
    done = subprocess.run(command, input=order, env=env, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def train_one(task: Task, config: OptimizerConfig) -> dict[str, Any]:
    import torch

    from compass.workloads.optimizers import make_optimizer
    from compass.workloads.step import training_step
    from compass.workloads.visnet import ViSNetWorkload

    workload, rules, parts = ViSNetWorkload(config), config.training, parts_of(config, task.n_train)
    labels = {row.id: row.label for row in Catalogue.open(Path(config.dataset.catalogue)).usable if row.label}
    (variant,) = variants(config.space, config.stages.smoke_test)
    torch.manual_seed(task.seed)
    model = workload.build(Knobs(layers=task.layers, channels=task.channels, variant=variant)).train()
    workload.start_at(model, float(np.mean([labels[name].pk for name in parts.train])))
    optimizer = make_optimizer(workload, model, variant, rules)
    rng = np.random.default_rng(task.seed)

    def collated(ids: list[str]) -> Any:
        return workload.collate(Batch(members=tuple((name, 1) for name in ids)))

    def rmse(ids: tuple[str, ...]) -> float:
        model.eval()
        with torch.no_grad():
            answers = [workload.predict(model, collated(list(ids[i : i + 64]))) for i in range(0, len(ids), 64)]
        model.train()
        return metrics_of(torch.cat(answers).numpy(), [labels[name] for name in ids]).rmse or 0.0

    started_s, update, history = time.perf_counter(), 0, []
    while update < task.n_updates:
        order = rng.permutation(len(parts.train))
        for start in range(0, len(order), BATCH):
            ids = [parts.train[i] for i in order[start : start + BATCH]]
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(BATCH, rules) * rate_factor(update, task.n_updates, rules)
            training_step(workload, model, optimizer, collated(ids), variant, rules)
            update += 1
            if update * N_LOOKS % task.n_updates < N_LOOKS:
                history.append({"update": update, "val": rmse(parts.val), "test": rmse(parts.test)})
            if update == task.n_updates:
                break
    best = min(history, key=lambda at: at["val"])
    return {
        **asdict(task), "parameters": sum(p.numel() for p in model.parameters()), "train": rmse(parts.train),
        "val": best["val"], "test": best["test"], "test_at_end": history[-1]["test"], "best_at": best["update"],
        "took_s": time.perf_counter() - started_s,
    }  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        asked = json.load(sys.stdin)
        print(json.dumps(train_one(Task(**asked["task"]), OptimizerConfig.model_validate(asked["config"]))))
    else:
        main(quick=given.quick)
