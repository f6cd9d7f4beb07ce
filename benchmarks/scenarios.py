"""Problems for the search: a machine, a pocket, a dataset size, a memory limit and the budgets of the stages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from compass.optimizer_config import OptimizerConfig, Stages
from compass.probe.simulation import MACHINES, Machine, SimulatedRunner, load_of
from compass.records import Knobs, Load

SAMPLE = "pocket"
DATASET_SIZES = (800, 2_500, 6_000, 12_000, 19_000, 35_000, 60_000)
"""From a focused series to a general set with decoys; 19,000 is the size of PDBbind's general set."""
N_POCKETS = 12
TYPICAL = Knobs(layers=5, channels=96)
"""Sets what a tight budget is: a model in the middle of most stages' spaces."""


@dataclass(frozen=True)
class Scenario:
    """One problem for a method to solve."""

    number: int
    machine: Machine
    sample: Load
    dataset_size: int
    memory_limit_bytes: int | None
    config: OptimizerConfig
    seed: int

    def runner(self) -> SimulatedRunner:
        """A fresh machine."""
        return SimulatedRunner(
            self.machine, seed=self.seed, samples=((SAMPLE, self.sample),), memory_limit_bytes=self.memory_limit_bytes
        )


def make_scenarios(n: int, *, seed: int) -> list[Scenario]:
    """`n` scenarios, neighbours sharing machine and pocket as often as possible, so that the oracle can reuse its work.

    Pockets are spread like PDBbind's at some 8 Å: log-normal around 420 heavy atoms, 150 to 1,500, 20 to 32 edges per atom.
    Half of the scenarios keep the stages' own budgets; for the other half they are a fraction of what a typical model
    takes when it fills the memory, so that time binds there.
    """
    rng = np.random.default_rng(seed)
    atoms = np.clip(np.exp(rng.normal(np.log(420), 0.6, N_POCKETS)), 150, 1500).round()
    pockets = [
        load_of(float(n), float(round(n * k))) for n, k in zip(atoms, rng.uniform(20, 32, N_POCKETS), strict=True)
    ]
    pairs = [(machine, pocket) for machine in MACHINES for pocket in pockets]
    order = rng.permutation(len(pairs))
    chosen = sorted(int(order[i % len(pairs)]) for i in range(n))
    return [_make(number, *pairs[pair], rng) for number, pair in enumerate(chosen)]


def _make(number: int, machine: Machine, pocket: Load, rng: np.random.Generator) -> Scenario:
    limit = int(rng.uniform(0.2, 0.8) * machine.total_bytes) if rng.random() < 0.4 else None
    scenario = Scenario(
        number=number, machine=machine, sample=pocket, dataset_size=int(rng.choice(DATASET_SIZES)),
        memory_limit_bytes=limit, config=OptimizerConfig(), seed=int(rng.integers(2**31)),
    )  # fmt: skip
    tight = rng.random() < 0.42
    shares = rng.uniform(0.1, 0.6, 2)
    if not tight:
        return scenario
    config = scenario.config.model_copy(update={"stages": _tight_budgets(scenario, shares)})
    return Scenario(**vars(scenario) | {"config": config})


def _tight_budgets(scenario: Scenario, shares: np.ndarray) -> Stages:
    """The stages' budgets, shrunk to `shares` (2,) of a cycle in which a typical model fills the memory."""
    runner, stages = scenario.runner(), scenario.config.stages
    budget = runner.describe().hardware.budget_bytes - scenario.machine.context_bytes
    n_graphs = max(1.0, budget / runner.true_live_bytes(TYPICAL, scenario.sample))
    full = Load(graphs=1, sizes=tuple((name, size * n_graphs) for name, size in scenario.sample.sizes))
    cycle_s = scenario.config.cycle_batches * runner.true_step_s(TYPICAL, full)
    changes = {}
    for name, share in zip(("prototyping", "validation"), shares, strict=True):
        rules = getattr(stages, name)
        target_s = share * cycle_s
        window_s = target_s * rules.window_s / rules.target_s
        changes[name] = rules.model_copy(update={"target_s": target_s, "window_s": window_s})
    return stages.model_copy(update=changes)
