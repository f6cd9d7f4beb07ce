"""Checks of a family's own knobs before a model is built."""

from __future__ import annotations

from collections.abc import Mapping

from compass.errors import InputError
from compass.records import Knobs

Options = Mapping[str, range]
"""Allowed values of a family's own knobs, by name."""


def check_options(knobs: Knobs, allowed: Options) -> None:
    """Refuse options that are missing, unknown, or out of range.

    Raises:
        InputError: names the first such option in alphabetical order.
    """
    options = dict(knobs.variant.options)
    for name in sorted(allowed.keys() | options.keys()):
        value = options.get(name, "nothing")
        if name not in allowed:
            raise InputError(
                f"space.options.{name}",
                got=str(value),
                expected=f"only {', '.join(allowed)}",
                fix="Remove it, or choose another workload.",
            )
        if type(value) is not int or value not in allowed[name]:
            raise InputError(
                f"space.options.{name}",
                got=str(value),
                fix="Correct it.",
                expected=f"a whole number from {allowed[name][0]} to {allowed[name][-1]}",
            )


def check_channels_per_head(knobs: Knobs) -> None:
    """Refuse channels that are not a multiple of the attention heads.

    Raises:
        InputError: names both numbers.
    """
    heads = int(knobs.variant.option("heads"))
    if knobs.channels % heads:
        raise InputError(
            "channels",
            got=str(knobs.channels),
            expected=f"a multiple of the {heads} attention heads",
            fix="Change space.channel_step or the number of heads.",
        )
