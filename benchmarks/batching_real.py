"""Real complexes for `benchmarks.batching`: pockets cut at many radii, their spread, and training on them.

The complexes are the embedded 1ia1 and, if the `posebusters` wheel is installed, its 1s3v, 1uou and 1of6, with 1,500 to
20,900 heavy atoms. A worker loads this file as a workload (`…/batching_real.py:crops`).
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compass.batching.packing import Limits, levels, pack
from compass.data.graphs.bench import EMBEDDED_LIGAND, EMBEDDED_PROTEIN
from compass.data.structures.graphs import Graph, build_graph, graph_load
from compass.data.structures.reading import read_complex
from compass.device import available_cores
from compass.optimizer_config import OptimizerConfig
from compass.planning.calibration import calibrate
from compass.planning.request import Request
from compass.planning.session import local_runner, make_experiment, make_prober
from compass.probe.local import LocalRunner
from compass.records import Allocator, Batch, BytesLaw, Knobs, Load, Outcome, ProbeSpec, RuntimeSettings, Status
from compass.search.space import variants
from compass.units import GIB

Floats = NDArray[np.float64]

FROM_WHEEL = ("1s3v", "1uou", "1of6")
SPREAD_RADII = tuple(np.arange(5.0, 20.5, 1.5))
"""Å, for the relation of edges to atoms."""
TRAINING_RADII = tuple(np.arange(5.0, 13.1, 0.5))
"""Å, for training: 90 to some 900 atoms."""
N_TRAINING, TRAINING_MEDIAN = 4_000, 250.0
"""Samples drawn from the crops, with this median of atoms: what a small memory holds some of."""
MEDIAN_ATOMS, SIGMA = 420.0, 0.6
"""Of PDBbind's pockets at some 8 Å, log-normal (as in `benchmarks.scenarios`)."""
FEWEST_ATOMS, MOST_ATOMS = 80.0, 20_925.0
WHOLE_SHARE = 0.001
"""Complexes that come as whole proteins: nobody knows how many a dataset has, a few are enough."""
ALLOCATOR: Allocator = "tight"


# ---------------------------------------------------------------------------------------------------------- complexes


def files() -> Iterator[tuple[str, Path, Path]]:
    """(name, protein, ligand) of the complexes at hand."""
    yield "1ia1", EMBEDDED_PROTEIN, EMBEDDED_LIGAND
    spec = find_spec("posebusters")
    if spec is not None and spec.origin is not None:
        folder = Path(spec.origin).parent / "datasets" / "pdb"
        for name in FROM_WHEEL:
            yield name, folder / name / f"{name}_protein_one_lig_removed.pdb", folder / name / f"{name}_ligand.sdf"


def cut(radii: tuple[float, ...], config: OptimizerConfig) -> dict[str, Graph]:
    """The graph of every complex at every radius, by an id such as `1uou@8.0`; the label counts its atoms, for a start."""
    graphs = {}
    for name, protein, ligand in files():
        whole = read_complex(name, protein, ligand, pocket_radius=None, max_atoms=25_000, rules=config.structures)
        of_ligand = whole.positions[whole.is_ligand]
        nearest = np.min([np.square(whole.positions - atom).sum(axis=1) for atom in of_ligand], axis=0)
        for radius in radii:
            kept = whole.is_ligand | (nearest <= radius**2)
            pocket = replace(
                whole, name=f"{name}@{radius:.1f}", elements=whole.elements[kept], positions=whole.positions[kept],
                is_ligand=whole.is_ligand[kept],
            )  # fmt: skip
            graphs[pocket.name] = build_graph(pocket, config.graph, label=float(np.log10(kept.sum())))
    return graphs


# ------------------------------------------------------------------------------------------------------------- spread


@dataclass(frozen=True)
class Spread:
    """Edges per atom: `within − surface · atoms^(−1/3)`, because a larger share of few atoms lies at the surface."""

    within: float
    surface: float
    residual: float
    """Relative standard deviation."""

    def draw(self, n: int, rng: np.random.Generator, *, whole_share: float) -> Floats:
        """(n, 2) atoms and edges: log-normal pockets, a share of them whole proteins of 1,500 to 21,000 atoms."""
        atoms = np.exp(rng.normal(np.log(MEDIAN_ATOMS), SIGMA, n))
        n_whole = round(whole_share * n)
        atoms[:n_whole] = np.exp(rng.uniform(np.log(1_500), np.log(MOST_ATOMS), n_whole))
        atoms = rng.permutation(np.clip(atoms, FEWEST_ATOMS, MOST_ATOMS).round())
        degree = (self.within - self.surface * atoms ** (-1 / 3)) * np.exp(rng.normal(0, self.residual, n))
        return np.stack([atoms, (atoms * degree).round()], axis=1)


def measure_spread(config: OptimizerConfig) -> tuple[Spread, int]:
    """The relation fitted to the crops, and the number of crops."""
    sizes = np.array([(graph.n_nodes, graph.n_edges) for graph in cut(SPREAD_RADII, config).values()], dtype=float)
    degree = sizes[:, 1] / sizes[:, 0]
    rows = np.stack([np.ones(len(sizes)), -(sizes[:, 0] ** (-1 / 3))], axis=1)
    (within, surface), *_ = np.linalg.lstsq(rows, degree, rcond=None)
    residual = float(np.std(degree / (rows @ [within, surface]) - 1))
    return Spread(float(within), float(surface), residual), len(sizes)


# ----------------------------------------------------------------------------------------------------------- training


def crops(config: OptimizerConfig) -> Any:
    """ViSNet's workload with the crops as its samples; called by the worker."""
    visnet: Any = importlib.import_module("compass.workloads.visnet")
    complexes: Any = importlib.import_module("compass.workloads.complexes")
    graphs = cut(TRAINING_RADII, config)
    loads = {name: graph_load(graph) for name, graph in graphs.items()}

    class Crops(visnet.ViSNetWorkload):  # type: ignore[misc]
        name, digest = "crops", "crops"

        def samples(self) -> Mapping[str, Load]:
            return loads

        def load(self, batch: Batch) -> Load:
            copies = [loads[name] * n for name, n in batch.members]
            return batch.synthetic or sum(copies[1:], copies[0])

        def collate(self, batch: Batch) -> Any:
            if batch.synthetic is not None:
                return super().collate(batch)
            return complexes.collate([graphs[name] for name, n in batch.members for _ in range(n)])

    return Crops(config)


@dataclass(frozen=True)
class Effort:
    """How much is trained."""

    knobs: tuple[int, int]
    """Layers, channels."""
    ceiling_bytes: int
    n_batches: int


FULL = Effort(knobs=(3, 32), ceiling_bytes=int(1.0 * GIB), n_batches=200)
QUICK = Effort(knobs=(2, 16), ceiling_bytes=int(0.75 * GIB), n_batches=10)


def train(effort: Effort, seed: int) -> dict[str, Any]:
    """Train on budgeted batches in one process, then on batches of as many graphs whatever their sizes, then on the safe fixed batch."""
    config = OptimizerConfig()
    request = Request(
        config=config, workload=f"{Path(__file__).resolve()}:crops", memory_limit_bytes=effort.ceiling_bytes
    )
    settings = RuntimeSettings(threads=available_cores())
    runner = local_runner(request, settings)
    try:
        experiment = make_experiment(request, runner, None, settings)
        stage = config.stages.production.model_copy(update={"allocator": (ALLOCATOR,), "checkpointing": (False,)})
        (kind,) = variants(config.space, stage)
        calibrate(experiment, make_prober(experiment), [kind])
        knobs = Knobs(layers=effort.knobs[0], channels=effort.knobs[1], variant=kind)
        law = experiment.costs().bytes_law(knobs, ALLOCATOR)
        names = [name for name, _ in experiment.description.samples]
        of_one = np.array([[load["nodes"], load["edges"]] for _, load in experiment.description.samples])
        return _compare(
            _Runs(runner, knobs, effort.ceiling_bytes, experiment.runtime(ALLOCATOR), names), law, of_one, effort, seed
        )
    finally:
        runner.close()


@dataclass(frozen=True)
class _Runs:
    """One model under one ceiling; every sequence of batches gets a process of its own."""

    runner: LocalRunner
    knobs: Knobs
    ceiling_bytes: int
    runtime: Any
    names: list[str]

    def run(self, batches: list[NDArray[np.int64]]) -> Outcome:
        """Train on `batches`, each a list of crops by number."""
        counted = [np.unique(batch, return_counts=True) for batch in batches]
        members = [tuple((self.names[i], int(n)) for i, n in zip(*pair, strict=True)) for pair in counted]
        spec = ProbeSpec(
            knobs=self.knobs, batches=tuple(Batch(members=m) for m in members), min_steps=len(members),
            max_steps=len(members), profile=False, fresh=True, ceiling_bytes=self.ceiling_bytes, timeout_s=1800.0,
            runtime=self.runtime,
        )  # fmt: skip
        return self.runner.probe(spec)


def _compare(runs: _Runs, law: BytesLaw, of_one: Floats, effort: Effort, seed: int) -> dict[str, Any]:
    limits = Limits(law, effort.ceiling_bytes)
    usable = np.flatnonzero((limits.shares(of_one) <= 1).all(axis=0))
    drawn = np.random.default_rng(seed).normal(np.log(TRAINING_MEDIAN), SIGMA, N_TRAINING)
    which = usable[np.abs(np.log(of_one[usable, 0]) - drawn[:, None]).argmin(axis=1)]
    shares = limits.shares(of_one[which])
    packed = pack(of_one[which], np.arange(len(which)), limits)[: effort.n_batches]
    samples = np.concatenate(packed)
    n_mean = round(len(samples) / len(packed))
    heaviest = np.cumsum(np.sort(shares.max(axis=0))[::-1])
    n_safe = int(np.searchsorted(heaviest, 1.0, side="right"))
    budgeted = runs.run([which[batch] for batch in packed])
    blind = runs.run(_chunks(which[samples], n_mean))
    # A fifth of the samples is enough for a rate.
    some = which[samples[: len(samples) // 5]]
    safe = runs.run(_chunks(some, n_safe))
    footprint = (budgeted.footprint_bytes or 0) / effort.ceiling_bytes
    fixed_rate = len(some) / safe.wall_s if safe.ok else float("nan")
    return {
        "model": str(runs.knobs), "ceiling_bytes": effort.ceiling_bytes, "n_batches": len(packed),
        "n_steps": budgeted.n_steps, "mean_graphs": round(len(samples) / len(packed), 2),
        "enforced": budgeted.enforced, "status": str(budgeted.status), "detail": budgeted.detail,
        "median_fill": round(float(np.median(levels(packed, shares))), 4), "peak_of_ceiling": round(footprint, 4),
        "blind_batch": n_mean, "blind_status": str(blind.status), "blind_steps": blind.n_steps, "blind_detail": blind.detail[:160],
        "safe_batch": n_safe, "safe_status": str(safe.status),
        "graphs_per_s": round(len(samples) / budgeted.wall_s, 2), "safe_graphs_per_s": round(fixed_rate, 2),
        "ratio": round(len(samples) / budgeted.wall_s / fixed_rate, 3),
    }  # fmt: skip


def _chunks(samples: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [samples[start : start + size] for start in range(0, len(samples), size)]


def holds(found: dict[str, Any]) -> dict[str, bool]:
    """The targets, by name."""
    return {
        "200 budgeted batches of real complexes, none out of memory": (
            found["status"] == Status.OK and found["n_steps"] >= 200 and found["enforced"]
        ),
        "as many graphs a batch without looking: out of memory": found["blind_status"] == Status.OUT_OF_MEMORY,
    }
