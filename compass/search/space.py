"""The models of a stage: its architectures and variants, and the number of parameters that the dataset allows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np

from compass.errors import InputError
from compass.optimizer_config import InterpolationTable, OptimizerConfig, SpaceRules, StageRules
from compass.records import AXES, STAGES, Axis, Knobs, Scalar, Variant
from compass.records.base import Pairs
from compass.units import GIB

_RANGES = ("layers", "channels")


def data_cap(table: InterpolationTable, dataset_size: int) -> float:
    """Trainable parameters that `dataset_size` complexes can feed: log–log interpolation, clamped at both ends.

    A whole number, or infinite if the table is empty.
    """
    if not table:
        return math.inf
    sizes, caps = (np.log([point[axis] for point in table]) for axis in (0, 1))
    return round(math.exp(float(np.interp(math.log(max(1, dataset_size)), sizes, caps))))


def vram_factor(table: InterpolationTable, budget_bytes: int) -> float:
    """The factor on the upper ends of layers and channels for a budget of `budget_bytes`."""
    return float(np.interp(budget_bytes / GIB, [x for x, _ in table], [y for _, y in table]))


def architectures(rules: SpaceRules, budget_bytes: int) -> list[tuple[int, int]]:
    """(layers, channels) of every model in the space for a budget of `budget_bytes`.

    Raises:
        InputError: the attention heads are not a count, or the rules leave no model.
    """
    factor = vram_factor(rules.vram_factors, budget_bytes)
    step = whole_step(rules)
    deepest, widest = (_upper(getattr(rules, name), factor if _is_scaled(rules, name) else 1.0) for name in _RANGES)
    layers = range(rules.layers[0], deepest + 1)
    first = rules.channels[0]
    if first < widest:
        first = math.ceil(first / step) * step
    channels = [width for width in range(first, widest + 1, step) if width % _heads(rules) == 0]
    narrow, wide = rules.channels_per_layer
    found = [(depth, width) for depth in layers for width in channels if narrow <= width / depth <= wide]
    if not found:
        raise InputError(
            "space",
            got=f"no model of {rules.layers[0]} to {deepest} layers and {rules.channels[0]} to {widest} channels "
            f"in steps of {step} with {narrow:g} to {wide:g} channels a layer",
            expected="at least one",
            fix="Widen space.layers, space.channels or space.channels_per_layer.",
        )
    return found


def _is_scaled(rules: SpaceRules, name: str) -> bool:
    if rules.scaled is not None:
        return name in rules.scaled
    return bool(getattr(rules, name) == SpaceRules.model_fields[name].default)


def _upper(ends: tuple[int, int], factor: float) -> int:
    """The upper end scaled by `factor`; a range of one value is never scaled."""
    low, high = ends
    return high if low == high else max(low, round(high * factor))


def whole_step(rules: SpaceRules) -> int:
    """The step between widths: a multiple of the configured step and of the number of attention heads.

    Raises:
        InputError: the attention heads are not a count.
    """
    return math.lcm(rules.channel_step, _heads(rules))


def _heads(rules: SpaceRules) -> int:
    """A number of channels that every listed number of attention heads divides."""
    listed = listed_values(rules, "heads") or (1,)
    for heads in listed:
        if not isinstance(heads, int) or isinstance(heads, bool) or heads < 1:
            raise InputError(
                "space.options.heads", got=repr(heads), expected="a whole number above zero", fix="PyG's ViSNet has 8."
            )
    return math.lcm(*(int(heads) for heads in listed))


def listed_values(space: SpaceRules, name: str) -> tuple[Scalar, ...]:
    """The values of the option `name`: several if it is searched, none if the family has no such option."""
    values = space.options.get(name, ())
    return values if isinstance(values, tuple) else (values,)


def combined_options(space: SpaceRules) -> list[Pairs[Scalar]]:
    """Every combination of the options' values, sorted by name; the first has the first value of each."""
    names = sorted(space.options)
    return [
        tuple(zip(names, values, strict=True)) for values in product(*(listed_values(space, name) for name in names))
    ]


def variants(space: SpaceRules, stage: StageRules) -> list[Variant]:
    """Every combination of the values that a stage chooses from, on all axes, and of the options."""
    searched = tuple(name for name in sorted(space.options) if len(listed_values(space, name)) > 1)
    names = [axis.name for axis in AXES]
    return [
        Variant.model_validate({**dict(zip(names, values, strict=True)), "options": options, "searched": searched})
        for options in combined_options(space)
        for values in product(*(getattr(stage, axis.name) or (axis.default,) for axis in AXES))
    ]


def allowed_values(config: OptimizerConfig, axis: Axis) -> tuple[Scalar, ...]:
    """The values of `axis` that any stage allows, the default first if it is one of them."""
    found = {value for stage in STAGES for value in getattr(config.stages[stage], axis.name) or axis.values}
    return tuple(value for value in axis.values if value in found)


def with_tried_values(config: OptimizerConfig, asked: OptimizerConfig, chosen: Mapping[str, Scalar]) -> OptimizerConfig:
    """`config` with one value on every axis that a trial decides: the `chosen` one, or the first that `asked` allows a stage."""
    stages: dict[str, StageRules] = {}
    for stage in STAGES:
        values = {}
        for axis in (axis for axis in AXES if axis.is_tried):
            allowed = getattr(asked.stages[stage], axis.name) or axis.values
            wanted = chosen.get(axis.name, axis.default)
            values[axis.name] = (wanted if wanted in allowed else allowed[0],)
        stages[stage] = config.stages[stage].model_copy(update=values)
    return config.model_copy(update={"stages": config.stages.model_copy(update=stages)})


def has_one_model(models: Iterable[Knobs]) -> bool:
    """Whether `models` have one depth, one width and one value of each option, so that these are no choice."""
    return len({(knobs.layers, knobs.channels, knobs.variant.options) for knobs in models}) == 1


def knobs_of(shapes: Sequence[tuple[int, int]], kinds: Sequence[Variant]) -> list[Knobs]:
    """Every architecture in every variant."""
    return [Knobs(layers=depth, channels=width, variant=kind) for kind in kinds for depth, width in shapes]
