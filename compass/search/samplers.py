"""Optuna's own samplers over a stage's models: baselines, and for people who prefer them.

A model is suggested as layers, channels, precision and checkpointing. Not every combination is in the space, so the nearest
one that is gets judged in its place; none is judged twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from compass.records import Knobs, Variant
from compass.search.storage import quiet

if TYPE_CHECKING:
    import optuna

SamplerName = Literal["gp", "tpe", "random", "grid"]
N_STARTUP = 5
"""Random trials before a model is believed. Optuna's default of ten would leave two of twelve."""


@dataclass(frozen=True)
class Verdict:
    """What trying a model showed."""

    score: float
    """Finite; lower is better. NaN: it did not run, for a reason that says nothing of others."""
    excess: float
    """By what share it misses the memory or the time there is; at most 0 if it is admissible."""


def sample(
    name: SamplerName, models: Sequence[Knobs], judge: Callable[[Knobs], Verdict], *, n_trials: int, seed: int
) -> dict[Knobs, Verdict]:
    """Let the sampler `name` choose `n_trials` times among `models`; the verdicts on those it chose.

    What misses the memory or the time reaches the sampler as a complete trial that breaks a constraint.
    """
    import optuna

    verdicts: dict[Knobs, Verdict] = {}

    def objective(trial: optuna.Trial) -> float:
        knobs = nearest(_ask(trial, models), models)
        if knobs not in verdicts:
            verdicts[knobs] = judge(knobs)
        if not math.isnan(verdicts[knobs].score):
            trial.set_constraint("admissible", verdicts[knobs].excess)
        return verdicts[knobs].score

    if models:
        with quiet():
            study = optuna.create_study(sampler=_sampler(name, models, n_trials, seed))
            study.optimize(objective, n_trials=n_trials)
    return verdicts


def nearest(asked: Mapping[str, Any], models: Sequence[Knobs]) -> Knobs:
    """The model most like the one asked for: of its variant if there is any, and near in the ratios of depth and width."""

    def distance(knobs: Knobs) -> tuple[int, float]:
        others = (knobs.variant.precision != asked["precision"]) + (
            knobs.variant.checkpointing != asked["checkpointing"]
        )
        deeper, wider = math.log(knobs.layers / asked["layers"]), math.log(knobs.channels / asked["channels"])
        return others, math.hypot(deeper, wider)

    return min(models, key=distance)


def grid_values(models: Sequence[Knobs], n_trials: int) -> dict[str, list[Any]]:
    """At most `n_trials` combinations where there is room for as many variants: depths and widths evenly spread."""
    kinds = _kinds(models)
    n_shapes = max(1, n_trials // (len(kinds["precision"]) * len(kinds["checkpointing"])))
    depths = sorted({knobs.layers for knobs in models})
    widths = sorted({knobs.channels for knobs in models})
    n_depths = min(len(depths), math.isqrt(n_shapes))
    return {"layers": _spread(depths, n_depths), "channels": _spread(widths, n_shapes // n_depths), **kinds}


def _kinds(models: Sequence[Knobs]) -> dict[str, list[Any]]:
    variants: list[Variant] = [knobs.variant for knobs in models]
    return {
        "precision": sorted({kind.precision for kind in variants}),
        "checkpointing": sorted({kind.checkpointing for kind in variants}),
    }


def _ask(trial: optuna.Trial, models: Sequence[Knobs]) -> dict[str, Any]:
    def number(name: str, values: list[int]) -> int:
        low = min(values)
        return trial.suggest_int(name, low, max(values), step=math.gcd(*(value - low for value in values)) or 1)

    return {
        "layers": number("layers", [knobs.layers for knobs in models]),
        "channels": number("channels", [knobs.channels for knobs in models]),
        **{name: trial.suggest_categorical(name, values) for name, values in _kinds(models).items()},
    }


def _sampler(name: SamplerName, models: Sequence[Knobs], n_trials: int, seed: int) -> optuna.samplers.BaseSampler:
    from optuna import samplers

    if name == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=N_STARTUP)
    if name == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=N_STARTUP)
    if name == "grid":
        return samplers.GridSampler(grid_values(models, n_trials), seed=seed)
    return samplers.RandomSampler(seed=seed)


def _spread(values: list[int], n: int) -> list[int]:
    """At most `n` of `values`, evenly spread; the middle one if only one is asked for."""
    if len(values) <= n:
        return values
    if n == 1:
        return [values[len(values) // 2]]
    return [values[round(i * (len(values) - 1) / (n - 1))] for i in range(n)]
