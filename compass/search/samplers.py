"""Optuna's own samplers over a stage's models, as baselines and as a choice for users.

A model is suggested as layers, channels and a value on every axis. Not every combination is in the space, so the nearest model
of the space is tried in its place; no model is tried twice.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from compass.records import Knobs
from compass.search.storage import quiet

if TYPE_CHECKING:
    import optuna

SamplerName = Literal["gp", "tpe", "random", "grid"]
N_STARTUP = 5
"""Random trials before the sampler uses its model. Optuna's default of ten would leave two of twelve trials."""


@dataclass(frozen=True)
class TrialResult:
    """The result of trying a model."""

    score: float
    """Finite; lower is better. NaN: it did not run, for a reason that says nothing of other models."""
    excess: float
    """The share by which it exceeds the memory or the time allowed; at most 0 if it is admissible."""


def sample(
    name: SamplerName, models: Sequence[Knobs], try_model: Callable[[Knobs], TrialResult], *, n_trials: int, seed: int
) -> dict[Knobs, TrialResult]:
    """Let the sampler `name` choose `n_trials` times among `models`; the result of each model that it chose.

    A model that exceeds memory or time reaches the sampler as a complete trial that breaks a constraint.
    """
    import optuna

    results: dict[Knobs, TrialResult] = {}

    def objective(trial: optuna.Trial) -> float:
        knobs = nearest(_ask(trial, models), models)
        if knobs not in results:
            results[knobs] = try_model(knobs)
        if not math.isnan(results[knobs].score):
            trial.set_constraint("admissible", results[knobs].excess)
        return results[knobs].score

    if models:
        with quiet():
            study = optuna.create_study(sampler=_sampler(name, models, n_trials, seed))
            study.optimize(objective, n_trials=n_trials)
    return results


def nearest(asked: Mapping[str, Any], models: Sequence[Knobs]) -> Knobs:
    """The model most like the one asked for: first with most of its axis values, then with the nearest ratios of depth and width."""

    def distance(knobs: Knobs) -> tuple[int, float]:
        n_unlike = sum(value != asked[name] for name, value in knobs.variant.choices.items())
        deeper, wider = math.log(knobs.layers / asked["layers"]), math.log(knobs.channels / asked["channels"])
        return n_unlike, math.hypot(deeper, wider)

    return min(models, key=distance)


def grid_values(models: Sequence[Knobs], n_trials: int) -> dict[str, list[Any]]:
    """Evenly spread depths and widths, with every axis value: at most `n_trials` combinations, unless there are more variants."""
    values = _values(models)
    n_shapes = max(1, n_trials // math.prod(map(len, values.values())))
    depths = sorted({knobs.layers for knobs in models})
    widths = sorted({knobs.channels for knobs in models})
    n_depths = min(len(depths), math.isqrt(n_shapes))
    return {"layers": _spread(depths, n_depths), "channels": _spread(widths, n_shapes // n_depths), **values}


def _values(models: Sequence[Knobs]) -> dict[str, list[Any]]:
    """The values on each axis, and of each searched option, that occur among `models`."""
    chosen = [knobs.variant.choices for knobs in models]
    return {name: sorted({one[name] for one in chosen}) for name in chosen[0]}


def _ask(trial: optuna.Trial, models: Sequence[Knobs]) -> dict[str, Any]:
    def number(name: str, values: list[int]) -> int:
        low = min(values)
        return trial.suggest_int(name, low, max(values), step=math.gcd(*(value - low for value in values)) or 1)

    return {
        "layers": number("layers", [knobs.layers for knobs in models]),
        "channels": number("channels", [knobs.channels for knobs in models]),
        **{name: trial.suggest_categorical(name, values) for name, values in _values(models).items()},
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
