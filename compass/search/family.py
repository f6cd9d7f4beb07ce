"""What a workload declares of its models, and what that makes of the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import ValidationError

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig, ProbeRules, SpaceRules
from compass.records import STAGES, Family
from compass.search.space import whole_step

DESIGNS = (
    ("micro_architectures", "more_architectures", "extra_architectures"),
    ("anchor_architectures", "anchor_checkpointing"),
    ("anchor_architectures_cpu", "anchor_checkpointing_cpu"),
)
"""The probes' lists of (layers, channels), together where one fit tells their widths apart.

First those that are to stay narrow: the first are probed at every load in every run, the extra ones at a small load.
"""
CAPACITY = ("layers", "channels")


def follow(config: OptimizerConfig, family: Family) -> OptimizerConfig:
    """`config`, with what it leaves at its default as `family` declares it, and probes of widths that the space has.

    Raises:
        InputError: a declared setting does not exist or is of the wrong kind, the attention heads are not a count, or a
            stage insists on recomputing activations and the family does not.
    """
    space = _space(config.space, family)
    held = {name: getattr(space, name)[0] for name in CAPACITY if name not in family.capacity}
    if held:
        free = {name: (low, low) for name, low in held.items()} | {"channels_per_layer": (1e-3, 1e6)}
        space = space.model_copy(update=free)
    changes: dict[str, Any] = {"space": space, "probe": _probes(config.probe, held, whole_step(space))}
    if not family.recomputes:
        changes["stages"] = config.stages.model_copy(
            update={stage: _without_recomputing(config, stage) for stage in STAGES}
        )
    return config.model_copy(update=changes)


def _space(given: SpaceRules, family: Family) -> SpaceRules:
    plain = SpaceRules()
    declared: dict[str, Any] = {
        name: value for name, value in family.space.items() if getattr(given, name, None) == getattr(plain, name, None)
    }
    options = family.space.get("options")
    if isinstance(options, dict):
        changed = {name: value for name, value in given.options.items() if plain.options.get(name) != value}
        declared["options"] = {**options, **changed}
    try:
        return SpaceRules.model_validate({**given.model_dump(), **declared})
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"the workload's space.{'.'.join(map(str, first['loc'])) or 'ranges'}", got=repr(first["input"]),
            expected=first["msg"], fix="Correct its `space`.",
        ) from error  # fmt: skip


def _probes(rules: ProbeRules, held: dict[str, int], step: int) -> ProbeRules:
    """`rules` with architectures that the family can build: knobs that are held, widths in whole steps."""
    found = {}
    for design in DESIGNS:
        shapes: dict[str, tuple[tuple[int, int], ...]] = {name: getattr(rules, name) for name in design}
        widths = _whole(({channels for _, channels in listed} for listed in shapes.values()), step)
        for name, listed in shapes.items():
            built = [(held.get("layers", depth), held.get("channels", widths[width])) for depth, width in listed]
            found[name] = tuple(dict.fromkeys(built))
    return rules.model_copy(update=found)


def _whole(lists: Iterable[set[int]], step: int) -> dict[int, int]:
    """Every width in whole steps: the next that is free, list after list, the narrowest of each first.

    Two widths never become one, or no fit could tell what grows with the width from what grows with its square.
    """
    found: dict[int, int] = {}
    for width in dict.fromkeys(width for listed in lists for width in sorted(listed)):
        whole = -(-width // step) * step
        while whole in found.values():
            whole += step
        found[width] = whole
    return found


def _without_recomputing(config: OptimizerConfig, stage: Any) -> Any:
    rules = config.stages[stage]
    if False not in rules.checkpointing:
        raise InputError(
            f"stages.{stage}.checkpointing", got="only recomputing", expected="a workload that recomputes activations",
            fix="Allow false, or have the workload honour knobs.variant.checkpointing and say `recomputes = True`.",
        )  # fmt: skip
    return rules.model_copy(update={"checkpointing": (False,)})
