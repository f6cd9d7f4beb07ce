"""The gain from budgeted batches: `python -m benchmarks.batching [--quick]`.

The dataset is 20,000 synthetic complexes with a spread like PDBbind's. Their atoms are log-normal around 420 (a complex
there within 8 Å), and one in a thousand is a whole protein of up to 20,925 atoms. Their edges follow the relation measured
on real complexes cut at 5 to 20 Å, with its residual spread.

On simulated GPUs, the sampler packs batches under the optimizer's fitted laws. Reported are the packing time, the fill, the
spread of step times, whether the true memory stays within the budget, and graphs per second beside the fixed batch that
the largest complexes allow. Then real batches are trained on this CPU (`batching_real`).

Prints a table, the targets, and as its last line one JSON object; writes nothing else.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import batching_real
from benchmarks.batching_memory import Memory, check_memory, in_a_row
from benchmarks.batching_real import measure_spread
from compass.batching.packing import Limits, pack
from compass.batching.sampler import BudgetedBatchSampler
from compass.optimizer_config import OptimizerConfig
from compass.planning.calibration import calibrate
from compass.planning.experiment import Experiment
from compass.planning.request import Request
from compass.planning.session import make_experiment, make_prober, wanted_variants
from compass.probe.simulation import MACHINES, Machine, SimulatedRunner, load_of
from compass.records import BytesLaw, Knobs, ProbeSpec, RuntimeSettings

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

SEED = 20_261
N_COMPLEXES = 20_000
MODELS = ((2, 64, False), (5, 96, False), (6, 128, True))
"""Layers, channels, checkpointing: a prototype, a production model, and one that must recompute."""
OVERSIZE_SHARE = OptimizerConfig().dataset.oversize_share


@dataclass(frozen=True)
class Effort:
    """How much is simulated."""

    machines: tuple[Machine, ...]
    n_batches: int
    """Whose memory is looked at, for every machine and model."""


FULL = Effort(MACHINES, 340)
QUICK = Effort((MACHINES[0], MACHINES[9]), 20)


@dataclass(frozen=True)
class Case:
    """One model on one machine."""

    machine: str
    expandable: bool
    """Whether its allocator's segments grow (Linux), or it caches fixed ones (Windows)."""
    model: str
    left_out: int
    """Complexes that do not fit by themselves."""
    pack_s: float
    mean_graphs: float
    fill: float
    """Upper footprint of the median batch over the budget."""
    fill_of_room: float
    """The same above what the model takes without a graph."""
    spread: float
    """(P95 − P5) / median of true step times, the emptiest batch aside."""
    fixed: int
    """The most graphs whose worst batch fits."""
    ratio: float
    """Graphs a second over those of `fixed`."""
    fixed_isolated: int
    """The same with the largest 0.5 % in batches of their own."""
    ratio_isolated: float
    """Over the fixed batch with the policy; ours needs none."""
    ratio_both_isolated: float
    ratio_pockets: float
    """Without whole proteins in the data, and without a policy."""
    memory: Memory


@dataclass(frozen=True)
class Model:
    """A model on a machine, with its fitted law."""

    runner: SimulatedRunner
    knobs: Knobs
    law: BytesLaw
    budget_bytes: int

    def sampler(self, sizes: Floats, isolated: Indices | tuple[()] = ()) -> BudgetedBatchSampler:
        """Compass's sampler, without complexes that do not fit alone."""
        return BudgetedBatchSampler(
            sizes, self.law, self.budget_bytes, oversize="leave_out", isolated=isolated, seed=SEED
        )

    def step_s(self, batches: list[Indices], sizes: Floats) -> Floats:
        """True seconds of a step on each of `batches`."""
        loads = np.array([sizes[batch].sum(axis=0) for batch in batches])
        return self.runner.true_steps_s(self.knobs, loads[:, 0], loads[:, 1])

    def rate(self, batches: list[Indices], sizes: Floats) -> float:
        """Graphs per second."""
        return float(sum(map(len, batches)) / self.step_s(batches, sizes).sum())

    def fixed(self, sizes: Floats, isolated: Indices | tuple[()] = ()) -> tuple[int, list[Indices]]:
        """The largest fixed batch whose worst case fits, and an epoch of it; complexes that do not fit alone are left out."""
        shares = Limits(self.law, self.budget_bytes).shares(sizes)
        own = shares.max(axis=0)
        alone = np.array([i for i in isolated if own[i] <= 1], dtype=np.int64)
        rest = np.setdiff1d(np.flatnonzero(own <= 1), alone)
        # By the largest share of any limit: an upper value where another segment's members are the worst.
        n_graphs = max(1, int(np.searchsorted(np.cumsum(np.sort(own[rest])[::-1]), 1.0, side="right")))
        order = np.random.default_rng(SEED).permutation(rest)
        shared = [order[start : start + n_graphs] for start in range(0, len(order), n_graphs)]
        return n_graphs, [*shared, *(alone[i : i + 1] for i in range(len(alone)))]


def ours(sampler: BudgetedBatchSampler, epoch: int = 0) -> list[Indices]:
    return [step[0] for step in sampler.steps(epoch)]


def models_of(machine: Machine, sizes: Floats) -> list[Model]:
    """The optimizer's calibration on `machine`, a certificate of every model, and the fitted models after it."""
    config = OptimizerConfig()
    nodes, edges = map(float, sizes.mean(axis=0).round())
    runner = SimulatedRunner(machine, seed=SEED, samples=(("pocket", load_of(nodes, edges)),))
    experiment = make_experiment(
        Request(config=config, dataset_size=len(sizes)), runner, None, RuntimeSettings(threads=1)
    )
    kinds = {kind.checkpointing: kind for kind in wanted_variants(config)}
    prober = make_prober(experiment)
    calibrate(experiment, prober, kinds.values())
    models = []
    for depth, width, again in MODELS:
        knobs = Knobs(layers=depth, channels=width, variant=kinds[again])

        def known(knobs: Knobs = knobs) -> Model:
            law = experiment.costs().bytes_law(knobs, experiment.calibrated_allocator)
            return Model(runner, knobs, law, experiment.budget_bytes)

        prober.probe("certify", certificate(known(), sizes, experiment))
        models.append(known())
    return models


def certificate(model: Model, sizes: Floats, experiment: Experiment) -> ProbeSpec:
    """The fullest batch, shuffled ones, and the fullest again, under the budget."""
    sampler = model.sampler(sizes)
    loads = [sampler.load(batch.tolist()) for batch in ours(sampler)]
    fullest = max(loads, key=model.law.live)
    runtime = experiment.runtime(experiment.calibrated_allocator)
    certified = [fullest, *loads[: experiment.config.probe.shuffled_batches], fullest]
    return in_a_row(model.knobs, certified, runtime, ceiling_bytes=model.budget_bytes)


def examine(model: Model, sizes: Floats, pockets: Floats, n_batches: int) -> Case:
    """All figures of one model on one machine."""
    sampler = model.sampler(sizes)
    batches = ours(sampler)
    limits = Limits(model.law, model.budget_bytes)
    order = np.random.default_rng(SEED).permutation(np.concatenate(batches))
    started = time.process_time()
    pack(sizes, order, limits)
    pack_s = time.process_time() - started
    step_s = model.step_s(batches, sizes)
    bounds = np.array([model.law.upper_footprint(sampler.load(batch.tolist())) for batch in batches])
    fixed_bytes = model.law.upper_footprint(load_of(0, 0, 0))
    room = (bounds - fixed_bytes) / (model.budget_bytes - fixed_bytes)
    low, middle, high = np.percentile(step_s[np.argsort(bounds)[1:]], [5, 50, 95])
    largest = np.argsort(-(sizes / sizes.mean(axis=0)).max(axis=1), kind="stable")[: int(OVERSIZE_SHARE * len(sizes))]
    fixed, fixed_batches = model.fixed(sizes)
    fixed_isolated, isolated_batches = model.fixed(sizes, largest)
    rate, rate_isolated = model.rate(batches, sizes), model.rate(isolated_batches, sizes)
    n_epochs = -(-n_batches // len(batches))
    looked_at = [batch for epoch in range(n_epochs) for batch in ours(sampler, epoch)][:n_batches]
    return Case(
        machine=model.runner.machine.name, expandable=not model.runner.machine.spills, model=str(model.knobs), left_out=len(sampler.left_out), pack_s=round(pack_s, 3),
        mean_graphs=round(sampler.mean_graphs, 1), fill=round(float(np.median(bounds)) / model.budget_bytes, 4),
        fill_of_room=round(float(np.median(room)), 4), spread=round(float((high - low) / middle), 4), fixed=fixed,
        ratio=round(rate / model.rate(fixed_batches, sizes), 3), fixed_isolated=fixed_isolated,
        ratio_isolated=round(rate / rate_isolated, 3),
        ratio_both_isolated=round(model.rate(ours(model.sampler(sizes, largest)), sizes) / rate_isolated, 3),
        ratio_pockets=round(
            model.rate(ours(model.sampler(pockets)), pockets) / model.rate(model.fixed(pockets)[1], pockets), 3),
        memory=check_memory(model.runner, model.knobs, model.law, model.budget_bytes,
                            [sampler.load(batch.tolist()) for batch in looked_at]),
    )  # fmt: skip


def summarise(cases: list[Case]) -> dict[str, Any]:
    """Figures over all machines and models."""

    def of(name: str) -> Floats:
        return np.array([getattr(case, name) for case in cases])

    few = [case for case in cases if case.mean_graphs <= 7]
    figures: dict[str, Any] = {
        "cases": len(cases),
        "pack_s_max": of("pack_s").max(),
        "fill_least": of("fill").min(),
        "fill_of_room_least": of("fill_of_room").min(),
        "fill_of_room_least_at_7_graphs_or_fewer": min((case.fill_of_room for case in few), default=None),
        "spread_max": of("spread").max(),
        "batches": sum(case.memory.n_batches for case in cases),
        "over_bound": sum(case.memory.n_over_bound for case in cases),
        "over_budget": sum(case.memory.n_over_budget for case in cases),
        "true_fill_least": min(case.memory.fill for case in cases),
        "in_a_row": sum(case.memory.holds_in_a_row for case in cases if case.expandable),
        "in_a_row_of": sum(case.expandable for case in cases),
        "in_a_row_not_expandable": sum(case.memory.holds_in_a_row for case in cases if not case.expandable),
        "in_a_row_not_expandable_of": sum(not case.expandable for case in cases),
    }
    for name in ("ratio", "ratio_isolated", "ratio_both_isolated", "ratio_pockets"):
        values = of(name)
        figures[name] = {"median": round(float(np.median(values)), 3), "least": values.min(), "most": values.max()}
    return figures


def check(figures: dict[str, Any]) -> dict[str, bool]:
    """The targets, by name."""
    targets = {
        "20,000 complexes packed in <= 1 s": figures["pack_s_max"] <= 1.0,
        "median fill >= 95% of the budget": figures["fill_least"] >= 0.95,
        "median fill >= 95% of the room": figures["fill_of_room_least"] >= 0.95,
        "step times within 10%": figures["spread_max"] <= 0.10,
        ">= 1.5x graphs/s of the fixed batch (median)": figures["ratio"]["median"] >= 1.5,
        ">= 10,000 batches, none over bound or budget": (
            figures["batches"] >= 10_000 and not figures["over_bound"] and not figures["over_budget"]
        ),
        "one process holds all of a model's batches (expandable segments)": figures["in_a_row"]
        == figures["in_a_row_of"],
    }
    return {name: bool(met) for name, met in targets.items()}


def table(cases: list[Case]) -> str:
    """A row for each machine and model."""
    head = (
        f"{'machine':<20} {'model':<46} {'out':>4} {'pack':>6} {'graphs':>7} {'fill':>7} {'of room':>8} {'spread':>7} | "
        f"{'fixed':>5} {'ratio':>6} | {'isolated':>8} {'ratio':>6} {'both':>6} | {'pockets':>7} | {'true fill':>9} {'most':>6} {'in a row':>8}"
    )
    rows = [
        f"{c.machine:<20} {c.model:<46} {c.left_out:>4} {c.pack_s:>5.2f}s {c.mean_graphs:>7.1f} {c.fill:>7.2%} "
        f"{c.fill_of_room:>8.2%} {c.spread:>7.2%} | {c.fixed:>5} {c.ratio:>6.2f} | {c.fixed_isolated:>8} "
        f"{c.ratio_isolated:>6.2f} {c.ratio_both_isolated:>6.2f} | {c.ratio_pockets:>7.2f} | "
        f"{c.memory.fill:>9.1%} {c.memory.most_alone:>6.1%} {_share(c.memory.in_a_row):>8}"
        for c in cases
    ]
    return "\n".join([head, "-" * len(head), *rows])


def _share(value: float | None) -> str:
    return "over" if value is None else f"{value:.1%}"


def main(arguments: list[str] | None = None) -> int:
    """Run, print, and return 0, or 1 if a target is missed (never with `--quick`, which does not judge)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batching", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="under a minute, prints without judging")
    quick = parser.parse_args(arguments).quick
    logging.getLogger("compass").setLevel(logging.CRITICAL)  # what happened is in the figures
    effort = QUICK if quick else FULL
    spread, n_crops = measure_spread(OptimizerConfig())
    rng = np.random.default_rng(SEED)
    sizes = spread.draw(N_COMPLEXES, rng, whole_share=batching_real.WHOLE_SHARE)
    pockets = spread.draw(N_COMPLEXES, rng, whole_share=0.0)
    print(
        f"{n_crops} real crops: {spread.within:.1f} − {spread.surface:.1f} · atoms^(−1/3) edges an atom ± {spread.residual:.1%}"
    )
    cases = [
        examine(model, sizes, pockets, effort.n_batches)
        for machine in effort.machines
        for model in models_of(machine, sizes)
    ]
    figures = summarise(cases)
    print(table(cases), flush=True)
    real = batching_real.train(batching_real.QUICK if quick else batching_real.FULL, SEED)
    print("\non this CPU: " + ", ".join(f"{name} {value}" for name, value in real.items()))
    targets = {} if quick else check(figures) | batching_real.holds(real)
    for name, met in targets.items():
        print("pass" if met else "FAIL", name)
    print(json.dumps({"benchmark": "batching", "quick": quick, "seed": SEED, "spread": asdict(spread), "figures": figures,
                      "cases": [asdict(case) for case in cases], "real": real, "targets": targets}))  # fmt: skip
    return 1 if not all(targets.values()) else 0


if __name__ == "__main__":
    raise SystemExit(main())
