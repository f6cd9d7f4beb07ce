"""What a workload declares of its models, and what that makes of the configuration."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from compass.errors import InputError
from compass.optimizer_config import OptimizerConfig, ProbeRules, SpaceRules
from compass.records import STAGES, Family

ARCHITECTURES = (
    "micro_architectures", "extra_architectures", "more_architectures",
    "anchor_architectures", "anchor_recomputing", "anchor_architectures_cpu", "anchor_recomputing_cpu",
)  # fmt: skip
"""The probes' lists of (layers, channels)."""
CAPACITY = ("layers", "channels")


def follow(config: OptimizerConfig, family: Family) -> OptimizerConfig:
    """`config`, with what it leaves at its default as `family` declares it.

    Raises:
        InputError: a declared setting does not exist or is of the wrong kind, or a stage insists on recomputing
            activations and the family does not.
    """
    if family == Family():
        return config
    space = _space(config.space, family)
    held = {name: getattr(space, name)[0] for name in CAPACITY if name not in family.capacity}
    if held:
        free = {name: (low, low) for name, low in held.items()} | {"channels_per_layer": (1e-3, 1e6)}
        space = space.model_copy(update=free)
    changes: dict[str, Any] = {"space": space, "probe": _probes(config.probe, held, space.channel_step)}
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


def _probes(rules: ProbeRules, held: dict[str, int], channel_step: int) -> ProbeRules:
    """`rules` with architectures that the family can build: knobs that are held, widths in whole steps."""

    def buildable(shape: tuple[int, int]) -> tuple[int, int]:
        layers, channels = held.get("layers", shape[0]), held.get("channels", shape[1])
        return layers, channels if "channels" in held else -(-channels // channel_step) * channel_step

    return rules.model_copy(
        update={name: tuple(dict.fromkeys(map(buildable, getattr(rules, name)))) for name in ARCHITECTURES}
    )


def _without_recomputing(config: OptimizerConfig, stage: Any) -> Any:
    rules = config.stages[stage]
    if False not in rules.checkpointing:
        raise InputError(
            f"stages.{stage}.checkpointing", got="only recomputing", expected="a workload that recomputes activations",
            fix="Allow false, or have the workload honour knobs.variant.checkpointing and say `recomputes = True`.",
        )  # fmt: skip
    return rules.model_copy(update={"checkpointing": (False,)})
