"""Adapts the configuration to a workload's family: the space it declares, the axes it supports, widths it can build."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from compass.errors import InputError, expected_value
from compass.optimizer_config import OptimizerConfig, ProbeRules, SpaceRules, StageRules
from compass.records import AXES, FIXED_SHAPE, STAGES, Axis, Family, Stage
from compass.search.space import whole_step

DESIGNS = (
    ("micro_architectures", "more_architectures", "extra_architectures"),
    ("anchor_architectures", "anchor_checkpointing"),
    ("anchor_architectures_cpu", "anchor_checkpointing_cpu"),
)
"""The settings of `probe` that list (layers, channels), grouped where one fit must tell their widths apart.

In each group the lists that should stay narrow come first: the first list is probed at every load in every run, the last one at a
small load only.
"""
CAPACITY = ("layers", "channels")


def follow(config: OptimizerConfig, family: Family) -> OptimizerConfig:
    """`config` with the defaults that `family` declares, only supported axis values, and probes of widths that the space has.

    A setting that the user changed stays as it is.

    Raises:
        InputError: a declared setting does not exist or has the wrong type, the attention heads are not a count, or a
            stage excludes the default of an axis whose other values the family does not support.
    """
    space = _space(config.space, family)
    held = _held(space, family)
    if held:
        free = {name: (low, low) for name, low in held.items()} | {"channels_per_layer": (1e-3, 1e6)}
        space = space.model_copy(update=free)
    probe = _probes(config.probe, held, whole_step(space))
    if len(held) == len(CAPACITY):
        space = _without_limits(space)
        passes = {"anchor_share": probe.fixed_share, "anchor_step_s_cpu": probe.fixed_step_s_cpu}
        probe = probe.model_copy(update=passes)
    changes: dict[str, Any] = {"space": space, "probe": probe}
    if family.own_step or not config.training.keep_gradients:  # each batch is an update, and none gathers several
        changes["batch"] = config.batch.model_copy(update={"effective_batch": 1})
    unsupported = [axis for axis in AXES if axis.family_flag and not getattr(family, axis.family_flag)]
    if unsupported:
        stages: dict[str, StageRules] = {
            stage: _at_defaults(config.stages[stage], unsupported, stage) for stage in STAGES
        }
        changes["stages"] = config.stages.model_copy(update=stages)
    return config.model_copy(update=changes)


def _held(space: SpaceRules, family: Family) -> dict[str, int]:
    """Depth and width, as far as they are no choice: all of a fixed model, or of a space that holds one model."""
    if not family.capacity:
        return dict(zip(CAPACITY, FIXED_SHAPE, strict=True))
    ends = {name: getattr(space, name) for name in CAPACITY}
    one_model = all(low == high for low, high in ends.values())
    return {name: low for name, (low, _) in ends.items() if one_model or name not in family.capacity}


def _without_limits(space: SpaceRules) -> SpaceRules:
    """The space of one model: its size is not a choice, so neither the dataset nor a stage limits it, unless the user says so."""
    free = {"data_cap": (), "small_share": (0.0, 1.0), "large_share": (0.0, 1.0)}
    plain = SpaceRules()
    return space.model_copy(
        update={name: value for name, value in free.items() if getattr(space, name) == getattr(plain, name)}
    )


def _space(given: SpaceRules, family: Family) -> SpaceRules:
    plain = SpaceRules()
    declared: dict[str, Any] = {
        name: value for name, value in family.space.items() if getattr(given, name, None) == getattr(plain, name, None)
    }
    options = family.space.get("options")
    if isinstance(options, dict):
        changed = {name: value for name, value in given.options.items() if plain.options.get(name) != value}
        declared["options"] = {**options, **changed}
    if declared.get("scaled") is not None:  # a range of the user's is kept as it is written
        declared["scaled"] = tuple(
            name for name in declared["scaled"] if getattr(given, name) in _defaults(name, plain, family)
        )
    try:
        return SpaceRules.model_validate({**given.model_dump(), **declared})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"the workload's space.{'.'.join(map(str, first['loc'])) or 'ranges'}",
            got=repr(first["input"]),
            expected=expected_value(first),
            fix="Correct its `space`.",
        ) from error


def _defaults(name: str, plain: SpaceRules, family: Family) -> tuple[Any, ...]:
    """The values of the range `name` that no user gave: Compass's, and the one that the family declares."""
    declared: Any = family.space.get(name)
    return (getattr(plain, name), tuple(declared) if isinstance(declared, list) else declared)


def _probes(rules: ProbeRules, held: dict[str, int], step: int) -> ProbeRules:
    """`rules` with architectures that the family can build: depth or width held if it is no capacity, widths in whole steps."""
    found = {}
    for design in DESIGNS:
        shapes: dict[str, tuple[tuple[int, int], ...]] = {name: getattr(rules, name) for name in design}
        widths = _whole(({channels for _, channels in listed} for listed in shapes.values()), step)
        for name, listed in shapes.items():
            built = [(held.get("layers", depth), held.get("channels", widths[width])) for depth, width in listed]
            found[name] = tuple(dict.fromkeys(built))
    return rules.model_copy(update=found)


def _whole(lists: Iterable[set[int]], step: int) -> dict[int, int]:
    """Every width rounded up to whole steps, or to the next free step, list after list and narrow widths first.

    Two widths never become one: a fit could then not tell linear from quadratic growth with the width.
    """
    found: dict[int, int] = {}
    for width in dict.fromkeys(width for listed in lists for width in sorted(listed)):
        whole = -(-width // step) * step
        while whole in found.values():
            whole += step
        found[width] = whole
    return found


def _at_defaults(rules: StageRules, unsupported: Iterable[Axis], stage: Stage) -> StageRules:
    """`rules` of `stage` without the values that the family does not support."""
    for axis in unsupported:
        chosen = getattr(rules, axis.name) or axis.values
        if axis.default not in chosen:
            given = ", ".join(map(repr, chosen))
            raise InputError(
                f"stages.{stage}.{axis.name}",
                got=f"only {given}",
                expected=f"{axis.default!r} among the values, since this workload supports no other",
                fix=f"Allow {axis.default!r}, or have the workload honour knobs.variant.{axis.name} "
                f"and set `{axis.family_flag} = True`.",
            )
    return rules.model_copy(update={axis.name: (axis.default,) for axis in unsupported})
