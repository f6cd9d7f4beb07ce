"""Other search methods, on the same machines and with the same knowledge of the space and its parameter counts.

Each method solves the stages in the order production, prototyping, validation. Its small and large spaces are shares of
the capacity of its own production plan, and its scores refer to the measured throughput of that plan.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import optuna

from benchmarks.counting import CountingRunner
from benchmarks.oracle import SEARCHED, Oracle, Pick
from benchmarks.scenarios import SAMPLE, Scenario
from compass.optimizer_config import StageRules
from compass.probe.simulation.step import n_parameters
from compass.records import Batch, Knobs, ProbeSpec, RuntimeSettings, Stage, Variant

N_CALLS = 20
"""Evaluations for each stage: the conventional number, the same for every method."""
GRID_SIDE = (3, 4)
"""The conventional grid: at most three depths by four widths."""
PENALTY = 3.0
"""Score of a plan that does not run; the reference scores 1, and the worst plan that runs scores less than 2."""

Solve = Callable[[Scenario, CountingRunner], dict[Stage, Pick]]


@dataclass(frozen=True)
class Found:
    """A plan that ran, as measured."""

    pick: Pick
    throughput: float
    """Softened, in graphs per second."""
    score: float


@dataclass
class Experiment:
    """A baseline's knowledge in one stage. Only the arithmetic of the space comes from the oracle, never its measurements."""

    scenario: Scenario
    runner: CountingRunner
    space: Oracle
    stage: Stage
    reference: Found | None = None
    """The production plan, once it exists."""
    found: list[Found] = field(default_factory=list)
    tried: dict[Pick, Found | None] = field(default_factory=dict)

    @property
    def rules(self) -> StageRules:
        """The rules of the stage."""
        return self.scenario.config.stages[self.stage]

    def candidates(self) -> list[tuple[int, int]]:
        """(layers, channels) of the stage's space, by capacity."""
        if self.stage == "production" or self.reference is None:
            chosen = list(self.space.architectures())
        else:
            chosen = self.space.stage_architectures(self.stage, n_parameters(self.reference.pick.knobs))
        return sorted(chosen, key=lambda a: self.space.capacity(*a))

    def measure(self, pick: Pick, n_steps: int) -> Found | None:
        """Run a plan; None if it fails or exceeds the stage's budget. No plan runs twice."""
        if pick not in self.tried:
            self.tried[pick] = self._measure(pick, n_steps)
        return self.tried[pick]

    def _measure(self, pick: Pick, n_steps: int) -> Found | None:
        outcome = self.runner.probe(ProbeSpec(
            knobs=pick.knobs, batches=(Batch(members=((SAMPLE, pick.batch),)),), min_steps=n_steps, max_steps=n_steps,
            profile=False, ceiling_bytes=self.space.budget_bytes, timeout_s=1e6, runtime=RuntimeSettings(threads=1),
        ))  # fmt: skip
        if outcome.step is None:
            return None
        cycle_s = self.scenario.config.cycle_batches * outcome.step.median_s
        worth = float(self.space.worth(cycle_s, self.rules))
        if worth == 0.0:
            return None
        throughput = worth * pick.batch / outcome.step.median_s
        found = Found(pick, throughput, self._score(pick.knobs, throughput))
        self.found.append(found)
        return found

    def _score(self, knobs: Knobs, throughput: float) -> float:
        rules = self.scenario.config.score
        if self.reference is None:  # production: capacity, and a breath of throughput to tell batches apart
            return float((n_parameters(knobs) / self.space.data_cap) ** -rules.alpha - 1e-3 * math.log(throughput))
        q = self.rules.quality_weight
        large = n_parameters(knobs) / n_parameters(self.reference.pick.knobs)
        fast = throughput / self.reference.throughput
        return float((1 - q) * fast**-rules.beta + q * large**-rules.alpha)

    def best(self) -> Found | None:
        """The best plan that ran. Production: the fastest among those near the largest capacity."""
        found = [f for f in self.found if f.pick.batch >= self.scenario.config.batch.min_batch] or self.found
        if not found:
            return None
        if self.stage != "production":
            return min(found, key=lambda f: f.score)
        largest = max(n_parameters(f.pick.knobs) for f in found)
        least = largest * (1.0 - self.scenario.config.space.reference_share)
        return max((f for f in found if n_parameters(f.pick.knobs) >= least), key=lambda f: f.throughput)


def solve_with(search: Callable[[Experiment], None]) -> Solve:
    """A method that runs `search` stage by stage."""

    def solve(scenario: Scenario, runner: CountingRunner) -> dict[Stage, Pick]:
        space = Oracle(scenario)
        picks: dict[Stage, Pick] = {}
        reference: Found | None = None
        for stage in ("production", *SEARCHED):
            lab = Experiment(scenario, runner, space, stage, reference)
            if lab.candidates():
                search(lab)
            best = lab.best()
            if best is None:
                if stage == "production":
                    return {}
                continue
            picks[stage] = best.pick
            reference = reference or best
        return picks

    return solve


def largest_by_bisection(lab: Experiment, knobs: Knobs, n_steps: int) -> Found | None:
    """The conventional batch search: batch 1 for five steps, doubling to failure, then bisection."""
    best = lab.measure(Pick(knobs, 1), 5)
    if best is None:
        return None
    low, high = 1, lab.space.batch_cap + 1
    while low * 2 < high:
        found = lab.measure(Pick(knobs, low * 2), n_steps)
        if found is None:
            high = low * 2
            break
        low, best = low * 2, found
    while high - low > 1:
        middle = (low + high) // 2
        found = lab.measure(Pick(knobs, middle), n_steps)
        if found is None:
            high = middle
        else:
            low, best = middle, found
    return best


def grid(lab: Experiment) -> None:
    """Every model of the stage, each at its largest batch."""
    for layers, channels in lab.candidates():
        for variant in lab.space.variants(lab.stage):
            largest_by_bisection(lab, Knobs(layers=layers, channels=channels, variant=variant), 5)


def tradition(lab: Experiment) -> None:
    """Twenty calls of Gaussian-process search over a grid of layers × channels, results kept by knobs."""
    candidates = lab.candidates()
    depths = _spread(sorted({layers for layers, _ in candidates}), GRID_SIDE[0])
    widths = _spread(sorted({channels for _, channels in candidates}), GRID_SIDE[1])
    scores: dict[tuple[int, int], float] = {}

    def objective(trial: optuna.Trial) -> float:
        layers = depths[trial.suggest_int("layers", 0, len(depths) - 1)]
        channels = widths[trial.suggest_int("channels", 0, len(widths) - 1)]
        if (layers, channels) not in candidates:
            return PENALTY
        if (layers, channels) not in scores:
            knobs = Knobs(
                layers=layers,
                channels=channels,
                variant=Variant(precision=lab.rules.precision[0], options=lab.space.options),
            )
            found = largest_by_bisection(lab, knobs, 20)
            scores[layers, channels] = PENALTY if found is None else found.score
        return scores[layers, channels]

    _study(optuna.samplers.GPSampler(seed=lab.scenario.seed % 2**31, n_startup_trials=5)).optimize(
        objective, n_trials=N_CALLS
    )


def joint(make_sampler: Callable[[int], optuna.samplers.BaseSampler]) -> Callable[[Experiment], None]:
    """Optuna over model, activation checkpointing and batch size together; each trial is a probe of five steps."""

    def search(lab: Experiment) -> None:
        candidates = lab.candidates()

        def objective(trial: optuna.Trial) -> float:
            layers, channels = candidates[trial.suggest_int("model", 0, len(candidates) - 1)]
            checkpointing = trial.suggest_categorical("checkpointing", list(lab.rules.checkpointing))
            batch = trial.suggest_int("batch", 1, lab.space.batch_cap, log=True)
            variant = Variant(precision=lab.rules.precision[0], checkpointing=checkpointing, options=lab.space.options)
            found = lab.measure(Pick(Knobs(layers=layers, channels=channels, variant=variant), batch), 5)
            trial.set_constraint("admissible", 1.0 if found is None else -1.0)
            return PENALTY if found is None else found.score

        _study(make_sampler(lab.scenario.seed % 2**31)).optimize(objective, n_trials=N_CALLS)

    return search


def _study(sampler: optuna.samplers.BaseSampler) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna.create_study(sampler=sampler)


def _spread(values: list[int], n: int) -> list[int]:
    """At most `n` of `values`, evenly spread, both ends included."""
    if len(values) <= n:
        return values
    return [values[round(i * (len(values) - 1) / (n - 1))] for i in range(n)]


BASELINES: dict[str, Solve] = {
    "grid": solve_with(grid),
    "tradition": solve_with(tradition),
    "optuna-gp": solve_with(joint(lambda seed: optuna.samplers.GPSampler(seed=seed, n_startup_trials=5))),
    "optuna-tpe": solve_with(joint(lambda seed: optuna.samplers.TPESampler(seed=seed, n_startup_trials=5))),
    "random": solve_with(joint(lambda seed: optuna.samplers.RandomSampler(seed=seed))),
}
