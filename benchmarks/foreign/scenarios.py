"""Scenarios: a kind of physics, data, and how long a cycle may take. Another seed is another set of machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.foreign.kinds import KINDS
from benchmarks.foreign.machine import log_uniform
from benchmarks.foreign.physics import Physics
from compass.optimizer_config import OptimizerConfig
from compass.records import Load

DATASET_SIZES = (1_000, 3_000, 10_000, 19_000, 40_000, 100_000)
HASTE = (1.0, 1.0, 0.1, 0.02)
"""Factors on the targets of the stages: with the usual ones, time limits few plans on fast devices."""


@dataclass(frozen=True)
class ForeignScenario:
    """One problem to plan for."""

    number: int
    seed: int
    physics: Physics
    samples: tuple[tuple[str, Load], ...]
    dataset_size: int
    config: OptimizerConfig


def make_scenario(kind: str, number: int, seed: int) -> ForeignScenario:
    """The scenario with this number, the same whatever others are made."""
    rng = np.random.default_rng([seed, number, 7])
    physics = KINDS[kind](int(rng.integers(2**31)))
    return ForeignScenario(
        number=number,
        seed=seed,
        physics=physics,
        samples=draw_samples(rng, physics.features),
        dataset_size=int(rng.choice(DATASET_SIZES)),
        config=draw_config(rng),
    )


def make_scenarios(kinds: Sequence[str], n: int, seed: int) -> list[ForeignScenario]:
    """`n` scenarios, the kinds in turn."""
    return [make_scenario(kinds[number % len(kinds)], number, seed) for number in range(n)]


def draw_samples(rng: np.random.Generator, features: tuple[str, ...]) -> tuple[tuple[str, Load], ...]:
    """One complex that stands for all, or some hundred of different sizes."""
    n_samples = 1 if rng.random() < 0.4 else int(rng.integers(100, 400))
    middle, width = log_uniform(rng, 120, 500), rng.uniform(0.15, 0.5)
    neighbours = rng.uniform(14, 30)
    nodes = np.clip(np.exp(rng.normal(np.log(middle), width, n_samples)), 40, 6 * middle).round()
    edges = (nodes * (neighbours * np.exp(rng.normal(0, 0.08, n_samples)) + 1)).round()
    amounts = {
        "nodes": nodes,
        "edges": edges,
        "triplets": (edges * neighbours * 0.9).round(),
        "nodes_squared": nodes**2,
    }
    return tuple(
        (f"sample{i:03}", Load(graphs=1, sizes=tuple((name, float(amounts[name][i])) for name in features)))
        for i in range(n_samples)
    )


def draw_config(rng: np.random.Generator) -> OptimizerConfig:
    """The defaults with targets in haste, and only allocators that every machine has."""
    plain = OptimizerConfig()
    haste = float(rng.choice(HASTE))
    stages = {}
    for stage in ("smoke_test", "prototyping", "validation", "production"):
        rules = getattr(plain.stages, stage)
        changes: dict[str, object] = {"allocator": ("fast", "tight")}
        if rules.target_s is not None:
            changes |= {"target_s": rules.target_s * haste, "window_s": rules.window_s * haste}
        stages[stage] = rules.model_copy(update=changes)
    return plain.model_copy(
        update={"stages": plain.stages.model_copy(update=stages), "seed": int(rng.integers(1_000_000))}
    )
