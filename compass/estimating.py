"""What a configuration would take, from the calibration alone: memory, step, cycle, epoch and training, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig, StageRules
from compass.planning.calibration import calibrate
from compass.planning.experiment import Experiment
from compass.planning.request import Request
from compass.planning.session import open_experiment, scanned, wanted_variants
from compass.probe.runner import Runner
from compass.records import (
    AXES,
    NORMAL_90,
    STAGES,
    Allocator,
    Estimate,
    Estimates,
    Interval,
    Knobs,
    Progress,
    Scalar,
    Variant,
)
from compass.search.knowledge import Knowledge
from compass.search.space import listed_values

_COUNTS = {
    "layers": "Give the depth of the model.",
    "channels": "Give the width of the model.",
    "batch": "Give the size of a batch.",
    "epochs": "Give the passes over the dataset.",
}
"""Fields of a question that are counts, with the advice for an invalid one."""


@dataclass(frozen=True)
class Question:
    """The models to estimate: one architecture or, without layers and channels, every model of the search space.

    Raises:
        InputError: a number under 1, or layers without channels.
    """

    layers: int | None = None
    channels: int | None = None
    batch: int | None = None
    """Graphs, or other samples, per batch; None: the most whose upper bound fits, at least one."""
    axes: Mapping[str, Scalar] = field(default_factory=dict)
    """Values by the axis's name. An axis left out: the first value of the prototyping stage for one architecture, all values that
    the stages search for the space."""
    allocator: Allocator | None = None
    """The allocator that training would use; None: the calibration's."""
    epochs: int = 100

    def __post_init__(self) -> None:
        """Refuse counts under 1, and layers without channels."""
        for name, fix in _COUNTS.items():
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(name, got=repr(value), expected="a whole number above zero", fix=fix)
        if (self.layers is None) != (self.channels is None):
            given, missing = ("layers", "channels") if self.channels is None else ("channels", "layers")
            raise InputError(missing, got=f"nothing beside {given}", expected="both or neither", fix=_COUNTS[missing])

    def includes(self, kind: Variant) -> bool:
        """Whether models of this variant are to be estimated."""
        return self.axes.items() <= kind.axis_values.items()

    def models(self, config: OptimizerConfig) -> list[Knobs]:
        """The models to estimate; empty for the whole space.

        Raises:
            InputError: the channels are no multiple of the attention heads, or the workload has no such models.
        """
        kinds = [kind for kind in wanted_variants(config) if self.includes(kind)]
        if not kinds:
            raise self._unsupported(config)
        if self.layers is None or self.channels is None:
            return []
        _check_heads(self.channels, config)
        for name, built in zip(
            ("layers", "channels"), zip(*config.probe.micro_architectures, strict=True), strict=True
        ):
            _check_held(name, getattr(self, name), set(built))
        return [Knobs(layers=self.layers, channels=self.channels, variant=kind) for kind in kinds]

    def _unsupported(self, config: OptimizerConfig) -> InputError:
        """The error for a value that the workload does not support, and so no stage of `config` has."""
        offered = [kind.axis_values for kind in wanted_variants(config)]
        name = next(name for name, value in self.axes.items() if all(values[name] != value for values in offered))
        supported = ", ".join(dict.fromkeys(repr(values[name]) for values in offered))
        return InputError(
            name,
            got=repr(self.axes[name]),
            expected=f"{supported}: this workload supports no other value",
            fix="Leave it out.",
        )


def estimate(
    request: Request,
    question: Question,
    *,
    runner: Runner | None = None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> Estimates:
    """Answer `question` from the calibration in the cache, after probing what the cache lacks.

    Stages and output of `request` are ignored.

    Raises:
        InputError: the request holds an unusable value, or none of the models runs here.
        WorkerError: no probe can be made on this machine.
    """
    question = with_axis_defaults(question, request.config)
    request = scanned(replace(request, config=_widened(request.config, question)), watch)
    with open_experiment(request, runner, watch, question.models) as (experiment, prober):
        config, kinds = experiment.config, wanted_variants(experiment.config)
        calibrate(experiment, prober, kinds)
        known = experiment.known()
        models = question.models(config) or [
            knobs for knobs in experiment.capacities if question.includes(knobs.variant)
        ]
        return Estimates(
            hardware=experiment.description.hardware,
            fingerprint=experiment.description.fingerprint,
            workload=request.workload,
            noun=experiment.noun,
            runtime=experiment.runtime(experiment.calibrated_allocator),
            dataset_size=experiment.dataset_size,
            epochs=question.epochs,
            cycle_batches=config.cycle_batches,
            n_probes=sum(experiment.runner.counts[f"{phase}_probes"] for phase in ("runtime", "calibrate")),
            rows=tuple(
                predict_model(known, knobs, question, idle_bytes=experiment.costs().footprint.baseline_bytes)
                for knobs in _running(experiment, models)
            ),
        )


def predict_model(known: Knowledge, knobs: Knobs, question: Question, *, idle_bytes: int) -> Estimate:
    """The estimate of `knobs` by `known`, under the allocator of the time measurements.

    `idle_bytes` is the footprint of a process that has not built a model.
    """
    rules = known.config.stages.prototyping
    choice = known.choice(knobs, rules, question.batch or max(1, known.largest_batch(knobs, rules)))
    law = known.costs.bytes_law(knobs, choice.allocator)
    least_bytes = idle_bytes + choice.live_bytes
    step_s = _log_normal(choice.step_s, known.spread_of(choice))
    epoch_s = step_s * math.ceil(known.dataset_size / choice.batch_size)
    upper_live = law.upper_live(known.work.worst_load(choice.batch_size, law))
    return Estimate(
        knobs=knobs,
        capacity=choice.capacity,
        batch_size=choice.batch_size,
        load=choice.load,
        live_bytes=Interval(expected=choice.live_bytes, low=choice.live_bytes, high=upper_live),
        footprint_bytes=Interval(expected=least_bytes, low=least_bytes, high=choice.footprint_bound_bytes),
        fits=_fits(least_bytes, choice.footprint_bound_bytes, known.budget_bytes),
        step_s=step_s,
        cycle_s=step_s * known.config.cycle_batches,
        epoch_s=epoch_s,
        training_s=epoch_s * question.epochs,
        throughput=choice.throughput,
    )


def with_axis_defaults(question: Question, config: OptimizerConfig) -> Question:
    """`question` with a value on every axis, if it is about one architecture."""
    if question.channels is None:
        return question
    rules = config.stages.prototyping
    return replace(
        question,
        axes={
            axis.name: question.axes.get(axis.name, getattr(rules, axis.name)[0])
            for axis in AXES
            if not axis.is_tried or axis.name in question.axes
        },
    )


def _check_held(name: str, wanted: int, built: set[int]) -> None:
    """Refuse a depth or width other than the only one that the workload offers."""
    if len(built) == 1 and wanted not in built:
        raise InputError(
            name,
            got=str(wanted),
            expected=f"{min(built)}, which every model of this workload has",
            fix="Correct it, or name the knob in the workload's `capacity`.",
        )


def _check_heads(channels: int, config: OptimizerConfig) -> None:
    """Refuse channels that are no multiple of the attention heads, if the family has any."""
    listed = [heads for heads in listed_values(config.space, "heads") if isinstance(heads, int) and heads > 0]
    for heads in (heads for heads in listed if channels % heads):
        below = channels // heads * heads
        raise InputError(
            "channels",
            got=str(channels),
            expected=f"a multiple of the {heads} attention heads",
            fix=f"Give {f'{below} or ' if below else ''}{below + heads}, or change space.options.heads.",
        )


def _widened(config: OptimizerConfig, question: Question) -> OptimizerConfig:
    """`config` with the allocator of `question`, and with its axis values in every stage if no stage has them."""
    stages = config.stages
    if question.allocator is not None:
        prototyping = stages.prototyping.model_copy(update={"allocator": (question.allocator,)})
        stages = stages.model_copy(update={"prototyping": prototyping})
    if not any(question.includes(kind) for kind in wanted_variants(config)):
        stages = stages.model_copy(update={stage: _with_values(stages[stage], question.axes) for stage in STAGES})
    return config.model_copy(update={"stages": stages})


def _with_values(rules: StageRules, wanted: Mapping[str, Scalar]) -> StageRules:
    """`rules` that allow the `wanted` values. A value without a time model of its own is calibrated beside the plain one."""
    change = {}
    for axis in AXES:
        if axis.name in wanted:
            beside = (axis.default, *getattr(rules, axis.name)) if axis.is_factor else ()
            change[axis.name] = tuple(dict.fromkeys((*beside, wanted[axis.name])))
    return rules.model_copy(update=change)


def _running(experiment: Experiment, models: list[Knobs]) -> list[Knobs]:
    """Those of `models` that calibration found to run, and could time."""
    reasons = {knobs: experiment.pruned.broken(knobs) for knobs in models}
    running = [knobs for knobs in models if reasons[knobs] is None]
    if not running:
        raise InputError(
            f"model {models[0]}",
            got=str(reasons[models[0]]),
            expected="one that calibration can run",
            fix="Choose another precision, or see `compass env`.",
        )
    return running


def _fits(least_bytes: float, most_bytes: float, budget_bytes: int) -> Literal["yes", "perhaps", "no"]:
    if most_bytes <= budget_bytes:
        return "yes"
    return "perhaps" if least_bytes <= budget_bytes else "no"


def _log_normal(median: float, spread: float) -> Interval:
    """The central 90 % of a log-normal distribution, around its median."""
    factor = math.exp(NORMAL_90 * spread)
    return Interval(expected=median, low=median / factor, high=median * factor)
