"""Settings that make a step faster and leave the model as it is, each decided by a trial on one small model, once on a machine.

Which they are says the table of axes. A stage that allows one value has it without a trial.
"""

from __future__ import annotations

from collections.abc import Mapping

from compass.optimizer_config import OptimizerConfig, RuntimeRules
from compass.planning.experiment import Experiment
from compass.planning.prober import Prober
from compass.planning.runtime import THREAD_TRIAL_SIZE, WAITING_TRIAL_SIZE, trial
from compass.records import AXES, Axis, Outcome, ProbeSpec, RuntimeChoice, RuntimeTrial, Scalar
from compass.search.space import allowed_values
from compass.units import format_seconds

NOT_RUN = "the trial did not run"


def choose_speed_settings(experiment: Experiment, prober: Prober, asked: OptimizerConfig) -> tuple[RuntimeChoice, ...]:
    """The fastest value of every axis that trials decide, unless the stages of `asked` allow only one."""
    return tuple(
        _choose(experiment, prober, axis, values)
        for axis in AXES
        if axis.is_tried and len(values := allowed_values(asked, axis)) > 1
    )


def _choose(experiment: Experiment, prober: Prober, axis: Axis, values: tuple[Scalar, ...]) -> RuntimeChoice:
    of_update = axis.decided_by == "update"
    size = WAITING_TRIAL_SIZE if of_update else THREAD_TRIAL_SIZE
    specs = {value: _with_value(trial(experiment, experiment.settings, size), axis, value) for value in values}
    prober.report("runtime", axis.name, 0, 1)
    outcomes = {value: prober.probe("runtime", spec).outcome for value, spec in specs.items()}
    rules = experiment.config.runtime
    if of_update:
        return faster_update(axis, outcomes, rules)
    n_trained = experiment.config.training.epochs * experiment.dataset_size
    return faster_step(axis, outcomes, n_trained, rules)


def _with_value(spec: ProbeSpec, axis: Axis, value: Scalar) -> ProbeSpec:
    variant = spec.knobs.variant.model_copy(update={axis.name: value})
    return spec.model_copy(update={"knobs": spec.knobs.model_copy(update={"variant": variant})})


def faster_update(axis: Axis, outcomes: Mapping[Scalar, Outcome], rules: RuntimeRules) -> RuntimeChoice:
    """The value with the shortest weight update; the axis's default unless another saves the configured share of it."""
    took_s = {value: outcome.update_s for value, outcome in outcomes.items() if outcome.ok and outcome.update_s}
    chosen, choice = _fastest(axis, outcomes, took_s, rules)
    if chosen is None:
        return choice
    step = outcomes[chosen].step
    part = "" if step is None else f", of a step of {format_seconds(step.median_s)}"
    return choice.model_copy(update={"why": f"a small model's weight update takes {_times(axis, took_s)}{part}"})


def faster_step(axis: Axis, outcomes: Mapping[Scalar, Outcome], n_trained: int, rules: RuntimeRules) -> RuntimeChoice:
    """The value with the shortest step, if it saves the configured share of it and, over a whole training, its own preparation.

    Preparation, which is compiling, is what a probe took beyond its steps, more than the default's. Training takes `n_trained`
    graphs; larger models than that of the trial save more time, so the trial's is the least.
    """
    took_s = {value: outcome.step.median_s for value, outcome in outcomes.items() if outcome.ok and outcome.step}
    chosen, choice = _fastest(axis, outcomes, took_s, rules)
    if chosen is None:
        return choice
    extra_s = {value: _preparation_s(outcomes[value]) - _preparation_s(outcomes[axis.default]) for value in took_s}
    why = f"a small model's step takes {_times(axis, took_s, extra_s)}"
    saved_s = (took_s[axis.default] - took_s[chosen]) * n_trained / _n_graphs(outcomes[chosen])
    if saved_s >= extra_s[chosen] or chosen == axis.default:
        return choice.model_copy(update={"why": why})
    why += f", of which a training would save {format_seconds(saved_s)}"
    gain = took_s[chosen] / took_s[axis.default]
    return choice.model_copy(update={"chosen": str(axis.default), "gain": gain, "why": why})


def _fastest(
    axis: Axis, outcomes: Mapping[Scalar, Outcome], took_s: Mapping[Scalar, float], rules: RuntimeRules
) -> tuple[Scalar | None, RuntimeChoice]:
    """The fastest value and the choice of it, whose reason is still to be told; None, and the default, without a comparison."""
    tried = tuple(RuntimeTrial(value=str(value), step_s=took_s.get(value)) for value in outcomes)
    default_s = took_s.get(axis.default)
    if default_s is None or len(took_s) < 2:
        details = {outcome.detail for outcome in outcomes.values() if not outcome.ok and outcome.detail}
        why = ": ".join([NOT_RUN, *sorted(details)[:1]])
        return None, RuntimeChoice(setting=axis.name, chosen=str(axis.default), why=why, tried=tried)
    fastest = min(took_s, key=took_s.__getitem__)
    chosen = fastest if took_s[fastest] < (1 - rules.trial_gain) * default_s else axis.default
    others_s = min(step_s for value, step_s in took_s.items() if value != chosen)
    gain = others_s / took_s[chosen]
    return chosen, RuntimeChoice(setting=axis.name, chosen=str(chosen), why=NOT_RUN, tried=tried, gain=gain)


def _preparation_s(outcome: Outcome) -> float:
    """Seconds of a probe beyond its steps: building, compiling, warming up."""
    return outcome.wall_s - outcome.n_steps * (outcome.step.median_s if outcome.step else 0.0)


def _n_graphs(outcome: Outcome) -> int:
    return outcome.load.graphs if outcome.load and outcome.load.graphs else 1


def _times(axis: Axis, took_s: Mapping[Scalar, float], extra_s: Mapping[Scalar, float] | None = None) -> str:
    """The times in a sentence; those with at least a second of preparation with it."""
    said = []
    for value, step_s in took_s.items():
        extra = (extra_s or {}).get(value, 0.0)
        prepared = f" after {format_seconds(extra)} of preparation" if extra >= 1 else ""
        said.append(f"{format_seconds(step_s)} {_said(axis, value)}{prepared}")
    return " and ".join(said)


def _said(axis: Axis, value: Scalar) -> str:
    """The value in a sentence: `fused`, `not fused`, `with reduced matmul`."""
    if isinstance(value, bool):
        return axis.name if value else f"not {axis.name}"
    return f"with {value} {axis.name}"
